"""`millstream try`: what live learning is worth on somebody's own events, without a single option."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.errors import StartupError
from stream.recorded import need_folder, need_matplotlib, parse_columns

if TYPE_CHECKING:
    from online_model.config import ModelConfig
    from online_model.evaluation.guess import Guess
    from online_model.evaluation.tables import Table
    from online_model.evaluation.times import Unit
    from online_model.evaluation.trial import TrialOutcome
    from online_model.protocol import Learner, Role
    from stream.settings import Settings
    from stream.try_report import TryReport

DEFAULT_LIMIT = 300_000
"""What takes three to five minutes on a laptop's core."""

_INTERRUPTED = 130


class TimeUnit(StrEnum):
    """What numbers in the time column count."""

    AUTO = "auto"
    SECONDS = "s"
    MILLISECONDS = "ms"
    MICROSECONDS = "us"
    NANOSECONDS = "ns"


_UNITS: "dict[TimeUnit, Unit]" = {
    TimeUnit.SECONDS: "s",
    TimeUnit.MILLISECONDS: "ms",
    TimeUnit.MICROSECONDS: "us",
    TimeUnit.NANOSECONDS: "ns",
}


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the user knows better than a guess."""

    columns: dict[str, str]
    unit: TimeUnit
    session_gap: float | None


def try_(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="events: CSV, TSV, JSON lines (.gz too) or Parquet, in any order")],
    limit: Annotated[int, typer.Option(min=1, help="events to take at most, the most recent ones")] = DEFAULT_LIMIT,
    plot: Annotated[
        Path | None, typer.Option(help="where to draw recall over the stream [FILE-try.png, in this folder]")
    ] = None,
    json_path: Annotated[
        Path | None, typer.Option("--json", metavar="PATH|-", help="write the figures as one JSON object")
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="COLUMN=FIELD", help="FIELD is user_id, item_id, behavior or timestamp"),
    ] = None,
    key: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="the column that sequences are kept for: users or sessions")
    ] = None,
    time_unit: Annotated[TimeUnit, typer.Option(help="what the time column counts")] = TimeUnit.AUTO,
    session_gap: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="a longer pause ends a sitting [1800; none where most are longer]"),
    ] = None,
) -> None:
    """Say in one sentence what live learning is worth on a file of events.

    Guesses the columns and says what it guessed, then replays the file: a model that learns live, a copy refreshed
    nightly, a frozen one, a Markov chain and popularity answer the same events.
    """
    try:
        if session_gap is not None and session_gap <= 0:
            raise StartupError(f"--session-gap must be above 0 seconds, not {session_gap:g}")
        given = _mapping(columns or [], key)
        picture = _picture(file, plot)
        if json_path is not None and str(json_path) != "-":
            need_folder("--json", json_path)
        _try(ctx.obj, file, limit, Overrides(given, time_unit, session_gap), picture, json_path)
    except KeyboardInterrupt:
        print("millstream: stopped before the end; --limit takes fewer events", file=sys.stderr)
        raise typer.Exit(_INTERRUPTED) from None


def _try(
    settings: "Settings", file: Path, limit: int, overrides: Overrides, picture: Path | None, json_path: Path | None
) -> None:
    from online_model import learners
    from online_model.evaluation.streams import StreamError
    from online_model.protocol import ModelDiverged

    # What is for programs is alone on standard output.
    said = sys.stderr if str(json_path) == "-" else sys.stdout
    try:
        config = _config(settings)
        report = _read(settings, file, limit, overrides)
        for line in [*report.preamble(), *report.warnings()]:
            print(line, file=said, flush=True)
        kind = learners.DEFAULT
        outcome = _replay(settings, report, kind, config)
    except (StreamError, ValueError) as error:
        raise StartupError(str(error)) from error
    except ModelDiverged as error:
        raise StartupError(f"the model diverged on this stream: {error}") from error
    _check(report, outcome, file)
    if picture is not None:
        _draw(picture, report, outcome, file, said)
    if json_path is not None:
        _write(json_path, report.figures(outcome, kind, config.to_mapping()))
    print(report.sentence(outcome), file=said)


def _mapping(pairs: list[str], key: str | None) -> dict[str, str]:
    given = parse_columns(pairs)
    return given if key is None else {**given, "user_id": key}


def _picture(file: Path, plot: Path | None) -> Path | None:
    """Where the picture goes; None where it cannot be drawn, which ends nothing unless it was asked for."""
    if plot is not None:
        need_folder("--plot", plot)
        need_matplotlib("--plot")
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        print(
            "there will be no plot, which needs matplotlib: install millstream with its extra `plot`", file=sys.stderr
        )
        return None
    kinds = Figure().canvas.get_supported_filetypes()
    if plot is not None and plot.suffix.lower().removeprefix(".") not in kinds:
        raise StartupError(f"--plot: {plot} must end in one of {', '.join('.' + kind for kind in sorted(kinds))}")
    stem = file.name.removesuffix(".gz").rpartition(".")
    return plot if plot is not None else Path(f"{stem[0] or stem[2]}-try.png")


def _config(settings: "Settings") -> "ModelConfig":
    device = settings.device if settings.model.device == "auto" else settings.model.device
    return replace(settings.model, device=device)


def _read(settings: "Settings", file: Path, limit: int, overrides: Overrides) -> "TryReport":
    from online_model.evaluation.guess import guess_gap
    from online_model.evaluation.recent import recent_events
    from online_model.evaluation.tables import open_table
    from online_model.evaluation.trial import TrialPlan
    from stream.try_report import TryReport

    table = open_table(file)
    guessed = _guess(table, overrides)
    with _working(f"reading {file}", None):
        recent = recent_events(table, guessed, _roles(settings), limit)
    if not recent.events:
        raise StartupError(f"{file} holds no event" + "".join(f"; {bad}" for bad in recent.bad.first[:1]))
    if overrides.session_gap is not None:
        gap_ms: int | None = round(overrides.session_gap * 1000)
    else:
        gap_ms = guess_gap(recent.events, round(settings.sequence.sitting_gap_seconds * 1000))
    return TryReport(str(file), guessed, recent, gap_ms, TrialPlan.of(recent.events))


def _guess(table: "Table", overrides: Overrides) -> "Guess":
    from online_model.evaluation.guess import N_SAMPLE, guess
    from online_model.evaluation.streams import StreamError

    first = [row for _, row in islice(table.rows(), N_SAMPLE) if not isinstance(row, str)]
    if not first:
        raise StreamError(f"{table.path} holds no rows that can be read")
    return guess(table.columns, first, overrides.columns, _UNITS.get(overrides.unit))


def _roles(settings: "Settings") -> "dict[str, tuple[str, Role]]":
    from stream.behaviors import behavior_table

    return {name: (behavior.name, behavior.role) for name, behavior in behavior_table(settings.behaviors).items()}


def _replay(settings: "Settings", report: "TryReport", kind: str, config: "ModelConfig") -> "TrialOutcome":
    from online_model.evaluation.sequences import Sequences
    from online_model.evaluation.trial import Trial
    from online_model.learners import build

    live = build(kind, config)

    def copy() -> "Learner":
        copied = build(kind, config)
        copied.load_state(live.state())
        return copied

    rivals: dict[Any, Learner] = {"markov": build("markov", config), "popularity": build("popularity", config)}
    trial = Trial(report.plan, live, copy, rivals, config.batch_size)
    steps = Sequences(_roles(settings), report.gap_ms).follow(report.recent.events)
    with _working("predicting, then learning", report.plan.n_events) as on_batch:
        return trial.run(steps, on_batch)


def _check(report: "TryReport", outcome: "TrialOutcome", file: Path) -> None:
    if outcome.compared["live"].scored:
        return
    if not outcome.courses["live"].scored:
        raise StartupError(
            f"{file}: none of {report.plan.n_events:,} events follows another one of the same sitting: "
            f"is {report.guess.columns['user_id']} who acted? (--key COLUMN, --session-gap SECONDS)"
        )
    raise StartupError(f"{file}: {report.plan.n_events:,} events are too few to compare anything; thousands would do")


def _draw(picture: Path, report: "TryReport", outcome: "TrialOutcome", file: Path, said: Any) -> None:
    from online_model.evaluation.trial_plot import draw_trial

    try:
        draw_trial(picture, outcome, report.plan.n_events, file.name, report.names())
    except (OSError, ValueError) as error:
        print(f"cannot draw {picture}: {error}", file=sys.stderr)
        return
    print(f"plot: {picture}", file=said)


def _write(path: Path, figures: dict[str, object]) -> None:
    if str(path) == "-":
        print(json.dumps(figures))
        return
    try:
        path.write_text(json.dumps(figures, indent=1) + "\n")
    except OSError as error:
        raise StartupError(f"cannot write {path}: {error.strerror or error}") from error


@contextmanager
def _working(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, nothing in a pipe."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(task, completed=done)
