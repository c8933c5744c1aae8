"""`millstream broker`: a local Apache Kafka in the foreground."""

import signal
from pathlib import Path
from typing import Annotated

import typer

from stream.brokers.apache import ApacheKafka
from stream.errors import StartupError

LOOK_SECONDS = 1.0
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Stop(Exception):
    """Somebody wants it to end."""


def broker(
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="on 127.0.0.1; a free one by default")] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="kept, and continued the next time; temporary by default", file_okay=False)
    ] = None,
    heap: Annotated[str, typer.Option(help="most memory for Java's heap", metavar="SIZE")] = "512m",
) -> None:
    """Run a local Apache Kafka in the foreground; Ctrl-C stops it."""
    for number in STOPPING:
        signal.signal(number, _raise_stop)
    kafka = ApacheKafka(data_dir, port, heap)
    try:
        typer.echo("starting Apache Kafka (the first time, Maven fetches it) ...", err=True)
        kafka.start()
        typer.echo(kafka.bootstrap)
        typer.echo(f"use it: export MILLSTREAM_KAFKA__BOOTSTRAP_SERVERS={kafka.bootstrap}", err=True)
        typer.echo(f"data: {kafka.data_dir}" + ("" if data_dir else " (temporary)") + "; Ctrl-C stops it", err=True)
        while not kafka.wait(LOOK_SECONDS):
            pass
        raise StartupError(f"Apache Kafka ended by itself{'' if data_dir is None else f'; its log: {kafka.log_path}'}")
    except _Stop:
        typer.echo("stopping ...", err=True)
    finally:
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not cut the clean stop short
        kafka.close()


def _raise_stop(*_: object) -> None:
    raise _Stop
