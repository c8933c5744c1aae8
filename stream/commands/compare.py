"""`millstream compare`: several models on one recorded stream, with tables, intervals and pictures."""

import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.entrants import Entrant, entrants
from stream.errors import StartupError
from stream.recorded import (
    Reading,
    Unit,
    need_matplotlib,
    open_stream,
    progress,
    reading,
    refuse_empty,
    warn_of_bad_lines,
)

if TYPE_CHECKING:
    from online_model.evaluation.race import RaceOutcome
    from online_model.evaluation.sequences import Step
    from online_model.evaluation.streams import EventFile


def compare(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="CSV or JSON lines (.gz too), in the order of time")],
    models: Annotated[
        str,
        typer.Option(
            metavar="A,B,...", help="learners; LABEL=LEARNER names one, nightly:NAME is retrained before each tenth"
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="where page, figures and pictures go")],
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="MODEL.SETTING=VALUE", help="a setting of one model")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="events of the stream to take at most")] = None,
    key: Annotated[str, typer.Option(metavar="COLUMN", help="the column that sequences are kept for")] = "user_id",
    session_gap: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", help="a longer pause starts a new sequence [1800; none with --no-repeats or --repeats]"
        ),
    ] = None,
    no_repeats: Annotated[
        bool, typer.Option("--no-repeats", help="leave events out that repeat their sequence's previous item")
    ] = False,
    repeats: Annotated[
        bool, typer.Option("--repeats", help="score such events too, and rank the item that a user is on")
    ] = False,
    columns: Annotated[
        list[str] | None, typer.Option("--map", metavar="COLUMN=FIELD", help="a column that is named differently")
    ] = None,
    time_unit: Annotated[Unit, typer.Option(help="what the time column counts")] = Unit.AUTO,
    strict: Annotated[bool, typer.Option("--strict", help="stop at a broken line instead of skipping it")] = False,
    epochs: Annotated[int, typer.Option(min=1, help="times that a nightly training goes through its events")] = 3,
    lists: Annotated[
        bool, typer.Option(help="make lists too: coverage, further items, probability (takes half as long again)")
    ] = True,
    seed: Annotated[int | None, typer.Option(help="of all random numbers")] = None,
    threads: Annotated[int, typer.Option(min=1, help="threads of torch; 1 makes results exact again")] = 1,
) -> None:
    """Put several models through one stream, predicting each event before it is learned, and tell them apart.

    All models meet the same mini-batches. Differences are those of the first model to each other one.
    """
    need_matplotlib("compare")
    how = reading(ctx.obj, key, session_gap, no_repeats, repeats, limit)
    taking_part = entrants(ctx.obj, models, changes or [], seed)
    read, events = open_stream(ctx.obj, file, how, columns or [], time_unit, strict)
    _make_folder(out)
    _use_threads(threads)
    try:
        outcome = _race(taking_part, read, how, events, epochs, lists)
    except KeyboardInterrupt:
        print("stopped: a comparison counts only whole, so nothing was written", file=sys.stderr)
        raise typer.Exit(130) from None
    warn_of_bad_lines(events)
    _report(outcome, taking_part, how, events, epochs, out)


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartupError(f"--out: cannot make the folder {out}: {error.strerror}") from error


def _use_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def _race(
    taking_part: list[Entrant],
    read: "Callable[[], Iterator[Step]]",
    how: Reading,
    events: "EventFile",
    epochs: int,
    lists: bool,
) -> "RaceOutcome":
    from online_model.evaluation.contestant import Contestant
    from online_model.evaluation.race import Race
    from online_model.evaluation.streams import StreamError

    try:
        n_events = sum(1 for _ in read())
        refuse_empty(events.path, n_events, events)
        with progress(n_events, "predicting, then learning") as on_batch:
            contestants = [
                Contestant(entrant.name, entrant.build(read, n_events, epochs), served=how.served, lists=lists)
                for entrant in taking_part
            ]
            batch_size = taking_part[0].config.batch_size
            race = Race(contestants, batch_size, n_events, repeats=how.repeats, lists=lists)
            return race.run(read(), on_batch)
    except (StreamError, ValueError) as error:
        raise StartupError(str(error)) from error


def _report(
    outcome: "RaceOutcome", taking_part: list[Entrant], how: Reading, events: "EventFile", epochs: int, out: Path
) -> None:
    from online_model.evaluation.summary import summarise
    from stream.compare_report import CompareReport

    settings: dict[str, Any] = {
        **asdict(how),
        "time_unit": events.unit,
        "skipped_lines": events.bad.count,
        "epochs": epochs,
        "models": {
            entrant.name: {"learner": entrant.kind, "nightly": entrant.nightly, **entrant.config.to_mapping()}
            for entrant in taking_part
        },
    }
    command = shlex.join(["millstream", *sys.argv[1:]])
    report = CompareReport(summarise(outcome), events.path.name, command, settings)
    try:
        paths = report.write(out)
    except OSError as error:
        raise StartupError(f"cannot write the result: {error}") from error
    print(report.headline())
    print("written: " + ", ".join(map(str, paths)))
