"""`millstream baskets`: lists made before a basket is known, against all that it turned out to hold."""

import json
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.commands.options import Changes, Columns, JsonPath, Key, Limit, Seed, StreamFile, Strict, Threads, TimeUnit
from stream.entrants import Entrant, entrants
from stream.errors import StartupError
from stream.recorded import (
    Unit,
    count_events,
    need_folder,
    open_stream,
    progress,
    reading,
    warn_of_bad_lines,
)

if TYPE_CHECKING:
    from online_model.evaluation.baskets import BasketOutcome
    from online_model.evaluation.sequences import Step

_LATER = "last 70%"


def baskets(
    ctx: typer.Context,
    file: StreamFile,
    models: Annotated[
        str, typer.Option(metavar="A,B,...", help="learners; LABEL=LEARNER names one; differences are the first's")
    ] = "two-stage,history,popularity",
    changes: Changes = None,
    at_once: Annotated[
        bool, typer.Option("--at-once", help="learn a basket's lines as if they came at once, not one by one")
    ] = False,
    json_path: JsonPath = None,
    limit: Limit = None,
    key: Key = "user_id",
    session_gap: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="a longer pause starts a new sitting [none]")
    ] = None,
    columns: Columns = None,
    time_unit: TimeUnit = Unit.AUTO,
    strict: Strict = False,
    seed: Seed = None,
    threads: Threads = 1,
) -> None:
    """Put several models through a stream of baskets: all lines of one key with one timestamp are a basket.

    A list of 20 is made when a basket's first line arrives, from what stood before it; figures are means over baskets.
    Recall is the share of the basket's items in the list. The first basket of a key is not scored.
    """
    from online_model.evaluation.baskets import summarise

    if json_path is not None and str(json_path) != "-":
        need_folder("--json", json_path)
    how = reading(ctx.obj, key, session_gap, no_repeats=False, repeats=True, limit=limit)
    given = {"repeats": True} | ({} if seed is None else {"seed": seed})
    taking_part = entrants(ctx.obj, models, changes or [], given)
    for entrant in taking_part:
        if entrant.nightly:
            raise StartupError(f"--models: {entrant.name}: baskets are told of models that learn live")
    read, events = open_stream(ctx.obj, file, how, columns or [], time_unit, strict)
    outcome = _run(taking_part, read, count_events(read, events), at_once, threads)
    warn_of_bad_lines(events)
    if not len(outcome.owners):
        raise StartupError(f"{file} holds no second basket of anybody: there is nothing to score")
    found = summarise(outcome)
    settings = {**asdict(how), "at_once": at_once, "models": {e.name: e.config.to_mapping() for e in taking_part}}
    whole = {**found, "command": shlex.join(["millstream", *sys.argv[1:]]), "settings": settings}
    if str(json_path) == "-":
        print(json.dumps(whole))
        return
    if json_path is not None:
        try:
            json_path.write_text(json.dumps(whole, indent=1) + "\n")
        except OSError as error:
            raise StartupError(f"cannot write the result: {error}") from error
    print(_page(found))


def _run(
    taking_part: list[Entrant], read: "Callable[[], Iterator[Step]]", n_events: int, at_once: bool, threads: int
) -> "BasketOutcome":
    import torch

    from online_model.evaluation.baskets import BasketRace
    from online_model.evaluation.streams import StreamError

    torch.set_num_threads(threads)
    try:
        models = {entrant.name: entrant.build(read, n_events, 1) for entrant in taking_part}
        race = BasketRace(models, taking_part[0].config.batch_size, at_once=at_once)
        with progress(n_events, "predicting, then learning") as on_batch:
            return race.run(read(), on_batch)
    except (StreamError, ValueError) as error:
        raise StartupError(str(error)) from error


def _page(found: dict[str, Any]) -> str:
    from stream.markdown import interval, table

    rows = []
    for name, model in found["models"].items():
        behind = model.get("behind")
        rows.append(
            [
                name,
                *(f"{model[figure]:.4f}" for figure in ("recall", "ndcg", "recall_last_70", "ndcg_last_70")),
                "-" if behind is None else interval(behind["recall"]),
                "-" if behind is None else interval(behind["ndcg"]),
                f"{model['events_per_second']:,.0f}",
            ]
        )
    head = [
        "model",
        "recall@20",
        "NDCG@20",
        f"recall, {_LATER}",
        f"NDCG, {_LATER}",
        "behind: recall",
        "NDCG",
        "events/s",
    ]
    unscored = ", ".join(f"{n:,} {reason}" for reason, n in found["unscored"].items())
    note = f"{found['baskets']:,} baskets scored of {found['events']:,} events" + (
        f"; not: {unscored}" if unscored else ""
    )
    return f"{table(head, rows)}\n{note}"
