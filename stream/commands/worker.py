"""`millstream worker`: take events, answer them, learn from them."""

import asyncio
import gc
import logging
import os
import signal
import subprocess
import sys
from typing import Annotated

import typer

from stream.errors import StartupError
from stream.log_limit import configure
from stream.settings import Settings, SettingsError, load_settings

STOP_MARGIN_SECONDS = 5.0
"""A worker cuts its own stop short; one that does not even do that is killed so much later."""


def worker(
    ctx: typer.Context,
    supervise: Annotated[
        bool, typer.Option("--supervise", help="Start it again, with growing pauses, when it dies.")
    ] = False,
) -> None:
    """Answer events with recommendations, and learn from them, until told to stop."""
    raise typer.Exit(_supervised(ctx.obj) if supervise else run(ctx.obj))


def _supervised(settings: Settings) -> int:
    """Run workers, one after another. Each is a fork that finds everything imported; its settings are read anew."""
    configure(settings.log_level)
    _import_all()
    from stream.forked import Forked, may_fork
    from stream.supervise import Run, supervise

    def start() -> Run:
        if may_fork():
            return Forked(_run_told)
        return subprocess.Popen([sys.executable, "-m", "stream.cli", "worker"])

    gc.freeze()  # else the first collection in a fork copies every page that it could share
    return supervise(start, settings.stop_timeout_seconds + STOP_MARGIN_SECONDS)


def _run_told() -> int:
    """Run a worker; what a user can mend is one line, as the command line tells it."""
    try:
        return run(load_settings())
    except (SettingsError, StartupError) as error:
        print(f"millstream: {error}", file=sys.stderr, flush=True)
        return getattr(error, "exit_code", 2)


def _import_all() -> None:
    """Import what a worker and its trainer need, without starting a thread."""
    # Nothing waits for numpy's linear algebra; its pool of threads, made by the import, would rule out a fork.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    import stream.trainer
    import stream.worker  # noqa: F401


def run(settings: Settings) -> int:
    """Run a worker in this process and return its exit code."""
    configure(settings.log_level)
    from stream.topics.preflight import preflight

    checked = preflight(settings)  # fails fast, before torch is loaded
    for warning in checked.warnings:
        logging.getLogger(__name__).warning("%s", warning)
    _import_all()
    import uvloop
    from confluent_kafka import KafkaException
    from prometheus_client import CollectorRegistry

    from monitoring.metrics import Metrics
    from stream.instance import Instance
    from stream.trainer_link import TrainerHandle
    from stream.worker import Worker

    trainer = TrainerHandle(settings)
    trainer.launch()  # before there are threads, and before anything is locked that the fork would share
    instance = Instance(settings.data_dir)
    trainer.start(checked.identity, instance.id)
    metrics = Metrics(CollectorRegistry())

    async def main() -> int:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        try:
            made = Worker(settings, checked, instance, metrics, trainer)
        except KafkaException as error:  # no client is connected yet: its settings do not fit together
            raise StartupError(f"the settings of Kafka cannot be used: {error.args[0].str()}") from error
        return await made.run(stop)

    try:
        code = uvloop.run(main())
    except StartupError as error:
        logging.getLogger("millstream").critical("%s", error)
        code = error.exit_code
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads of clients that wait for a broker would hold an ordinary exit up
