"""`millstream replay`: put a recorded stream through a model, predicting each event before it is learned."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.errors import StartupError

if TYPE_CHECKING:
    from online_model.config import ModelConfig
    from online_model.evaluation.prequential import Freeze, Outcome
    from online_model.evaluation.sequences import Step
    from online_model.evaluation.streams import EventFile
    from online_model.protocol import Learner


class Model(StrEnum):
    """What is put to the test."""

    GRU = "gru"
    POPULARITY = "popularity"
    MARKOV = "markov"


class Unit(StrEnum):
    """What numbers in the time column count."""

    AUTO = "auto"
    SECONDS = "s"
    MILLISECONDS = "ms"


@dataclass(frozen=True, slots=True)
class Reading:
    """How the file is read as a stream."""

    key: str
    session_gap: float | None
    no_repeats: bool
    limit: int | None


def replay(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="CSV or JSON lines (.gz too), in the order of time")],
    limit: Annotated[int | None, typer.Option(min=1, help="events of the stream to take at most")] = None,
    model: Annotated[Model, typer.Option(help="what predicts and learns")] = Model.GRU,
    json_path: Annotated[
        Path | None, typer.Option("--json", metavar="PATH|-", help="write the figures as one JSON object")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="draw recall over the stream (needs matplotlib)")] = None,
    key: Annotated[str, typer.Option(metavar="COLUMN", help="the column that sequences are kept for")] = "user_id",
    session_gap: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="a longer pause starts a new sequence [1800; none with --no-repeats]"),
    ] = None,
    no_repeats: Annotated[
        bool, typer.Option("--no-repeats", help="leave events out that repeat their sequence's previous item")
    ] = False,
    freeze_at: Annotated[
        float | None, typer.Option(metavar="SHARE", help="compare with a copy that stops learning there, such as 0.5")
    ] = None,
    columns: Annotated[
        list[str] | None, typer.Option("--map", metavar="COLUMN=FIELD", help="a column that is named differently")
    ] = None,
    time_unit: Annotated[Unit, typer.Option(help="what the time column counts")] = Unit.AUTO,
    strict: Annotated[bool, typer.Option("--strict", help="stop at a broken line instead of skipping it")] = False,
    seed: Annotated[int | None, typer.Option(help="of all random numbers")] = None,
    hidden: Annotated[int | None, typer.Option(help="width of the recurrent model")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="threads of torch; 1 makes results exact again")] = None,
) -> None:
    """Put a file through a model in this process, without Kafka: predict each event, then learn from it.

    Reports the live measure: each event against the list that was made when its sequence's previous event arrived.
    With --no-repeats that of the literature: each event ranked when it arrives.
    """
    if session_gap is not None and session_gap <= 0:
        raise StartupError(f"--session-gap must be above 0 seconds, not {session_gap:g}")
    if freeze_at is not None and not 0 < freeze_at < 1:
        raise StartupError(f"--freeze-at must be a share above 0 and below 1, not {freeze_at:g}")
    _check_outputs(json_path, plot)
    default_gap = None if no_repeats else float(ctx.obj.sequence.sitting_gap_seconds)
    reading = Reading(key, default_gap if session_gap is None else session_gap, no_repeats, limit)
    config = _config(ctx, {"seed": seed, "hidden": hidden})
    steps, events = _stream(ctx, file, reading, columns or [], time_unit, strict)
    outcome = _run(model, config, steps, events, freeze_at, threads, served=not no_repeats)
    if not outcome.events:
        raise StartupError(
            f"{file} holds no event that can be used" + "".join(f"; {bad}" for bad in events.bad.first[:1])
        )
    _warn(events)
    _report(outcome, model, config, reading, events, json_path, plot)


def _check_outputs(json_path: Path | None, plot: Path | None) -> None:
    """Fail before the work, not after it."""
    for option, path in (("--json", json_path), ("--plot", plot)):
        if path is not None and str(path) != "-" and not path.parent.is_dir():
            raise StartupError(f"{option}: there is no folder {path.parent}")
    if plot is not None:
        try:
            import matplotlib  # noqa: F401
        except ModuleNotFoundError as error:
            raise StartupError("--plot needs matplotlib: install millstream with its extra `plot`") from error


def _config(ctx: typer.Context, overrides: dict[str, Any]) -> "ModelConfig":
    try:
        given = {name: value for name, value in overrides.items() if value is not None}
        device = ctx.obj.device if ctx.obj.model.device == "auto" else ctx.obj.model.device
        config: ModelConfig = replace(ctx.obj.model, device=device, **given)
    except ValueError as error:
        raise StartupError(f"model settings: {error}") from error
    return config


def _stream(
    ctx: typer.Context, file: Path, reading: Reading, mapping: list[str], unit: Unit, strict: bool
) -> "tuple[Callable[[], Iterator[Step]], EventFile]":
    """A stream that can be read several times, and the file behind it."""
    from itertools import islice

    from online_model.evaluation.sequences import Sequences
    from online_model.evaluation.streams import EventFile, StreamError
    from stream.behaviors import behavior_table

    columns = {}
    for pair in mapping:
        column, equals, field = pair.partition("=")
        if not (column and equals and field):
            raise StartupError(f"--map must be COLUMN=FIELD, not {pair!r}")
        columns[field] = column
    roles = {name: (behavior.name, behavior.role) for name, behavior in behavior_table(ctx.obj.behaviors).items()}
    try:
        events = EventFile(file, columns=columns, key=reading.key, unit=unit.value, strict=strict)
    except StreamError as error:
        raise StartupError(str(error)) from error
    gap_ms = None if reading.session_gap is None else round(reading.session_gap * 1000)

    def read() -> "Iterator[Step]":
        sequences = Sequences(roles, gap_ms, drop_repeats=reading.no_repeats, refuse=events.refuse)
        return islice(sequences.follow(events.read()), reading.limit)

    return read, events


def _run(
    model: Model,
    config: "ModelConfig",
    read: "Callable[[], Iterator[Step]]",
    events: "EventFile",
    freeze_at: float | None,
    threads: int | None,
    served: bool,
) -> "Outcome":
    import torch

    from online_model.evaluation.prequential import Prequential
    from online_model.evaluation.streams import StreamError
    from online_model.learners import build

    if threads is not None:
        torch.set_num_threads(threads)
    try:
        # Only a share of the stream, or a bar on a terminal, needs to know how long it is.
        n_events = sum(1 for _ in read()) if freeze_at is not None or sys.stderr.isatty() else None
        learner = build(model.value, config)
        freeze = None if freeze_at is None else _freeze(learner, model, config, round((n_events or 0) * freeze_at))
        with _progress(n_events) as on_batch:
            return Prequential(learner, config.batch_size, freeze, served=served).run(read(), on_batch)
    except (StreamError, ValueError) as error:
        raise StartupError(str(error)) from error


def _freeze(learner: "Learner", model: Model, config: "ModelConfig", after: int) -> "Freeze":
    from online_model.evaluation.prequential import Freeze
    from online_model.learners import build

    def copy() -> "Learner":
        frozen = build(model.value, config)
        frozen.load_state(learner.state())
        return frozen

    return Freeze(after, copy)


@contextmanager
def _progress(n_events: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, nothing in a pipe."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("predicting, then learning", total=n_events)
        yield lambda done: progress.update(task, completed=done)


def _warn(events: "EventFile") -> None:
    for message in events.bad.first:
        print(f"skipped {message}", file=sys.stderr)
    if events.bad.count > len(events.bad.first):
        print(f"skipped {events.bad.count - len(events.bad.first)} more broken lines", file=sys.stderr)


def _report(
    outcome: "Outcome",
    model: Model,
    config: "ModelConfig",
    reading: Reading,
    events: "EventFile",
    json_path: Path | None,
    plot: Path | None,
) -> None:
    from stream.replay_report import ReplayReport

    settings = {**config.to_mapping(), **asdict(reading), "time_unit": events.unit}
    report = ReplayReport(outcome, model.value, settings, events.bad.count)
    try:
        if json_path is not None and str(json_path) != "-":
            report.write_json(json_path)
        if plot is not None:
            report.draw(plot, events.path.name)
    except (OSError, ValueError) as error:
        raise StartupError(f"cannot write the result: {error}") from error
    if str(json_path) == "-":
        print(json.dumps(report.figures()))
    else:
        report.print_table()
