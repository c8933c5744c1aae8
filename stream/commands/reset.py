"""`millstream reset --offsets`: users and weights stay, reading starts from what is there."""

import time
from typing import Annotated

import typer

from stream.errors import StartupError
from stream.settings import Settings, SettingsError


def reset(
    ctx: typer.Context,
    offsets: Annotated[
        bool, typer.Option("--offsets", help="Forget positions: for a topic made anew, or another Kafka.")
    ] = False,
) -> None:
    """Let this application start on topics that were made anew, or on another Kafka, with what it has learned."""
    if not offsets:
        raise SettingsError("say what to reset: `millstream reset --offsets` forgets positions, users and weights stay")
    settings: Settings = ctx.obj
    from stream.instance import Instance
    from stream.resetting import reset_positions
    from stream.topics.preflight import preflight
    from stream.trainer_checkpoints import forget_position
    from stream.trainer_errors import TrainerError

    checked = preflight(settings)
    instance = Instance(settings.data_dir)
    n_partitions = reset_positions(settings, checked, instance.id, typer.echo)
    typer.echo(f"positions of {n_partitions} partitions are forgotten; users stay")
    try:
        found = forget_position(settings, instance.id, time.time())
    except TrainerError as error:
        raise StartupError(str(error)) from error
    typer.echo(
        "the trainer's position is forgotten; weights stay" if found else "there is no checkpoint, so no weights"
    )
