"""`millstream compare`: several models on one recorded stream, with tables, intervals and pictures."""

import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.commands.options import (
    Changes,
    Columns,
    Key,
    Limit,
    NoRepeats,
    Repeats,
    Seed,
    SessionGap,
    StreamFile,
    Strict,
    Threads,
    TimeUnit,
)
from stream.entrants import Entrant, entrants
from stream.errors import StartupError
from stream.recorded import (
    Reading,
    Unit,
    count_events,
    need_matplotlib,
    open_stream,
    progress,
    reading,
    warn_of_bad_lines,
)
from stream.searching import Budget, Search, Spaces, spaces

if TYPE_CHECKING:
    from online_model.evaluation.race import RaceOutcome
    from online_model.evaluation.sequences import Step
    from online_model.evaluation.streams import EventFile


_TRIALS = "trials.jsonl"


class Objective(StrEnum):
    """What a search is to make high, mean over the folds."""

    RECALL = "recall"
    MRR = "mrr"


def compare(
    ctx: typer.Context,
    file: StreamFile,
    models: Annotated[
        str,
        typer.Option(
            metavar="A,B,...", help="learners; LABEL=LEARNER names one, nightly:NAME is retrained before each tenth"
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="where page, figures and pictures go")],
    changes: Changes = None,
    limit: Limit = None,
    key: Key = "user_id",
    session_gap: SessionGap = None,
    no_repeats: NoRepeats = False,
    repeats: Repeats = False,
    columns: Columns = None,
    time_unit: TimeUnit = Unit.AUTO,
    strict: Strict = False,
    epochs: Annotated[int, typer.Option(min=1, help="times that a nightly training goes through its events")] = 3,
    lists: Annotated[
        bool, typer.Option(help="make lists too: coverage, further items, probability (takes half as long again)")
    ] = True,
    grids: Annotated[
        list[str] | None,
        typer.Option("--grid", metavar="MODEL.SETTING=V,V,...|LOW..HIGH", help="search: values of one setting"),
    ] = None,
    search: Annotated[
        Path | None, typer.Option(metavar="FILE", help="search: {model: {setting: [values] or LOW..HIGH}} as JSON")
    ] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="search: trials of each model, its defaults among them [the whole grid]")
    ] = None,
    at_random: Annotated[
        bool, typer.Option("--random", help="search: draw settings instead of going in order")
    ] = False,
    search_share: Annotated[float, typer.Option(help="search: share of the stream, from its beginning")] = 0.3,
    folds: Annotated[int, typer.Option(min=1, help="search: runs of that share that figures are told by")] = 5,
    objective: Annotated[Objective, typer.Option(help="search: what is to be high")] = Objective.RECALL,
    search_only: Annotated[bool, typer.Option("--search-only", help="end after the search")] = False,
    seed: Seed = None,
    threads: Threads = 1,
) -> None:
    """Put several models through one stream, predicting each event before it is learned, and tell them apart.

    All models meet the same mini-batches. Differences are those of the first model to each other one. With --grid or
    --search the settings of each model are searched first; finished trials are kept in FOLDER/trials.jsonl, and a
    search that was stopped goes on from there.
    """
    need_matplotlib("compare")
    how = reading(ctx.obj, key, session_gap, no_repeats, repeats, limit)
    given = {"repeats": how.repeats} | ({} if seed is None else {"seed": seed})
    taking_part = entrants(ctx.obj, models, changes or [], given)
    wanted = None
    if grids or search is not None:
        if not 0 < search_share <= 1:
            raise StartupError(f"--search-share must be above 0 and at most 1, not {search_share:g}")
        if at_random and trials is None:
            raise StartupError("--random needs --trials")
        budget = Budget(trials, taking_part[0].config.seed if at_random else None, search_share, folds, objective)
        wanted = budget, spaces(grids or [], search, taking_part)
    read, events = open_stream(ctx.obj, file, how, columns or [], time_unit, strict)
    _make_folder(out)
    _use_threads(threads)
    stopped = "a comparison counts only whole, so nothing was written"
    try:
        n_events = count_events(read, events)
        if wanted is not None:
            stopped = f"finished trials are kept in {out / _TRIALS}"
            taking_part = _search(taking_part, *wanted, how, read, n_events, out, file)
        if search_only:
            return
        outcome = _race(taking_part, read, how, n_events, epochs, lists)
    except KeyboardInterrupt:
        print(f"stopped: {stopped}", file=sys.stderr)
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


def _search(
    taking_part: list[Entrant],
    budget: Budget,
    found: Spaces,
    how: Reading,
    read: "Callable[[], Iterator[Step]]",
    n_events: int,
    out: Path,
    file: Path,
) -> list[Entrant]:
    """Search, write what was found, and return the models with their best settings."""
    from online_model.evaluation.search import TrialLog

    try:
        log = TrialLog(out / _TRIALS)
        stream = {"file": file.name, "bytes": file.stat().st_size}
        search = Search(taking_part, found, budget, how, stream, log)
        uneven = search.uneven()
        if uneven is not None:
            print(uneven, file=sys.stderr)
        search.run(read, max(1, round(n_events * budget.share)))
        (out / "search.md").write_text(search.page())
    except (OSError, ValueError) as error:
        raise StartupError(f"search: {error}") from error
    print(search.page())
    return search.best()


def _race(
    taking_part: list[Entrant],
    read: "Callable[[], Iterator[Step]]",
    how: Reading,
    n_events: int,
    epochs: int,
    lists: bool,
) -> "RaceOutcome":
    from online_model.evaluation.contestant import Contestant
    from online_model.evaluation.race import Race
    from online_model.evaluation.streams import StreamError

    try:
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
