"""The `millstream` command.

Commands live in `stream.commands`, one module each, and import what is heavy when they run; command groups of other
packages come by entry point, so that neither package imports the other.
"""

import logging
import sys
from importlib.metadata import entry_points, version
from typing import Annotated

import typer

from stream.brokers.errors import BrokerError
from stream.commands import (
    baskets,
    bench,
    broker,
    checkpoint,
    compare,
    config,
    demo,
    rejected,
    replay,
    reset,
    tail,
    topics,
    try_,
    worker,
)
from stream.errors import StartupError
from stream.settings import SettingsError, load_settings

logger = logging.getLogger(__name__)

app = typer.Typer(
    name="millstream",
    help="A recommender that learns while it serves: Kafka events in, next-item recommendations out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for command in (
    demo.demo,
    worker.worker,
    broker.broker,
    replay.replay,
    compare.compare,
    baskets.baskets,
    tail.tail,
    config.config,
    reset.reset,
):
    app.command()(command)
app.command("try")(try_.try_)
app.add_typer(topics.app, name="topics")
app.add_typer(rejected.app, name="rejected")
app.add_typer(checkpoint.app, name="checkpoint")
app.add_typer(bench.app, name="bench")
for plugin in entry_points(group="millstream.commands"):
    app.add_typer(plugin.load(), name=plugin.name)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"millstream {version('millstream')}")
        raise typer.Exit


@app.callback()
def _settings(
    ctx: typer.Context,
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Read the settings once; every command gets them as `ctx.obj`."""
    if ctx.resilient_parsing:
        return
    ctx.obj = load_settings()


def main() -> None:
    """Run the command line; what a user can mend is one line on standard error and exit code 2."""
    try:
        app()
    except (SettingsError, StartupError, BrokerError) as error:
        print(f"millstream: {error}", file=sys.stderr)
        sys.exit(getattr(error, "exit_code", 2))


if __name__ == "__main__":
    main()
