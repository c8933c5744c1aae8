"""`millstream demo`: broker, worker, a synthetic shop and a live view in one."""

from pathlib import Path
from typing import Annotated

import typer

from stream.settings import Settings


def demo(
    context: typer.Context,
    broker: Annotated[
        str,
        typer.Option(
            help="auto: the Kafka in the settings, else a local Apache Kafka, else the embedded mock; or insist on one",
            metavar="auto|kafka|mock|HOST:PORT",
        ),
    ] = "auto",
    rate: Annotated[float, typer.Option(min=1, max=10_000, help="events a second")] = 200.0,
    seconds: Annotated[float | None, typer.Option(min=1, help="end by itself, so long after the first answer")] = None,
    plain: Annotated[bool, typer.Option("--plain", help="a line every few seconds instead of the live view")] = False,
    data_dir: Annotated[
        Path | None, typer.Option(help="kept, and continued the next time; temporary by default", file_okay=False)
    ] = None,
) -> None:
    """Show it all at work: a broker, a worker, a shop that does not exist, and a live view. Ctrl-C ends all of it."""
    from stream.live.plan import DemoOptions
    from stream.live.session import run_demo

    settings: Settings = context.obj
    exit_code = run_demo(settings, DemoOptions(broker, rate, seconds, plain, data_dir))
    raise typer.Exit(exit_code)
