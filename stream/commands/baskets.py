"""`millstream baskets`: lists made before a basket is known, against all that it turned out to hold."""

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.commands.options import Columns, Key, Limit, Seed, StreamFile, Strict, TimeUnit
from stream.entrants import Entrant, entrants
from stream.errors import StartupError
from stream.recorded import (
    Unit,
    need_folder,
    open_stream,
    progress,
    reading,
    refuse_empty,
    warn_of_bad_lines,
)

if TYPE_CHECKING:
    from online_model.evaluation.baskets import BasketOutcome

_LAST = 0.7
_LATER = f"last {_LAST:.0%}"


def baskets(
    ctx: typer.Context,
    file: StreamFile,
    models: Annotated[
        str, typer.Option(metavar="A,B,...", help="learners; LABEL=LEARNER names one; differences are the first's")
    ] = "two-stage,history,popularity",
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="MODEL.SETTING=VALUE", help="a setting of one model")
    ] = None,
    at_once: Annotated[
        bool, typer.Option("--at-once", help="learn a basket's lines as if they came at once, not one by one")
    ] = False,
    json_path: Annotated[
        Path | None, typer.Option("--json", metavar="PATH|-", help="write the figures as one JSON object")
    ] = None,
    limit: Limit = None,
    key: Key = "user_id",
    session_gap: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="a longer pause starts a new sitting [none]")
    ] = None,
    columns: Columns = None,
    time_unit: TimeUnit = Unit.AUTO,
    strict: Strict = False,
    seed: Seed = None,
    threads: Annotated[int, typer.Option(min=1, help="threads of torch; 1 makes results exact again")] = 1,
) -> None:
    """Put several models through a stream of baskets: all lines of one key with one timestamp are a basket.

    A list of 20 is made when a basket's first line arrives, from what stood before it; figures are means over baskets.
    Recall is the share of the basket's items in the list. The first basket of a key is not scored.
    """
    if json_path is not None and str(json_path) != "-":
        need_folder("--json", json_path)
    how = reading(ctx.obj, key, session_gap, no_repeats=False, repeats=True, limit=limit)
    given = {"repeats": True} | ({} if seed is None else {"seed": seed})
    taking_part = entrants(ctx.obj, models, changes or [], given)
    for entrant in taking_part:
        if entrant.nightly:
            raise StartupError(f"--models: {entrant.name}: baskets are told of models that learn live")
    read, events = open_stream(ctx.obj, file, how, columns or [], time_unit, strict)
    outcome = _run(taking_part, read, at_once, threads)
    refuse_empty(file, outcome.events, events)
    warn_of_bad_lines(events)
    if not len(outcome.owners):
        raise StartupError(f"{file} holds no second basket of anybody: there is nothing to score")
    found = figures(outcome)
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


def figures(outcome: "BasketOutcome") -> dict[str, Any]:
    """Return means, and what the first model is ahead of each other one, with 95% intervals by user."""
    import numpy as np

    from online_model.evaluation.bootstrap import paired_bootstrap

    first, *others = outcome.recall
    n_first = round(len(outcome.owners) * (1 - _LAST))
    found: dict[str, Any] = {
        "events": outcome.events,
        "baskets": len(outcome.owners),
        "unscored": outcome.unscored,
        "models": {
            name: {
                "recall": float(outcome.recall[name].mean()),
                "ndcg": float(outcome.ndcg[name].mean()),
                "recall_last_70": float(outcome.recall[name][n_first:].mean()),
                "ndcg_last_70": float(outcome.ndcg[name][n_first:].mean()),
                "events_per_second": outcome.events / max(outcome.seconds[name], 1e-9),
            }
            for name in outcome.recall
        },
    }
    for name in others:
        differences = np.stack([figure[first] - figure[name] for figure in (outcome.recall, outcome.ndcg)], 1)
        recall, ndcg = paired_bootstrap(outcome.owners, differences)
        found["models"][name]["behind"] = {"recall": asdict(recall), "ndcg": asdict(ndcg)}
    return found


def _run(taking_part: list[Entrant], read: Any, at_once: bool, threads: int) -> "BasketOutcome":
    import torch

    from online_model.evaluation.baskets import BasketRace
    from online_model.evaluation.streams import StreamError

    torch.set_num_threads(threads)
    try:
        n_events = sum(1 for _ in read())
        models = {entrant.name: entrant.build(read, n_events, 1) for entrant in taking_part}
        race = BasketRace(models, taking_part[0].config.batch_size, at_once=at_once)
        with progress(n_events, "predicting, then learning") as on_batch:
            return race.run(read(), on_batch)
    except (StreamError, ValueError) as error:
        raise StartupError(str(error)) from error


def _page(found: dict[str, Any]) -> str:
    from stream.markdown import table

    rows = []
    for name, model in found["models"].items():
        behind = model.get("behind")
        rows.append(
            [
                name,
                *(f"{model[figure]:.4f}" for figure in ("recall", "ndcg", "recall_last_70", "ndcg_last_70")),
                "-" if behind is None else _interval(behind["recall"]),
                "-" if behind is None else _interval(behind["ndcg"]),
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


def _interval(interval: dict[str, float]) -> str:
    return f"{interval['difference']:+.4f} ({interval['low']:+.4f} to {interval['high']:+.4f})"
