"""Everything that a race tells, as plain JSON values: all events, the last 70%, tenths, segments, differences, cost."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from online_model.evaluation.bootstrap import paired_bootstrap
from online_model.evaluation.metrics import (
    N_PARTS,
    Cutoff,
    Mask,
    Ranks,
    cutoffs,
    hits_of,
    parts_of,
    reciprocals_of,
)
from online_model.evaluation.race import RaceOutcome
from online_model.evaluation.watch import Watch

LAST = 3
"""The first tenth of the last 70%: what settings were chosen on lies before it."""
WINDOWS = {"all": (0, N_PARTS - 1), "last_70": (LAST, N_PARTS - 1)}


def summarise(outcome: RaceOutcome, *, seed: int = 1) -> dict[str, Any]:
    """Return the figures of a race; differences are those of the first model to each other one.

    Args:
        outcome: The race.
        seed: Of the resamples behind intervals.
    """
    parts = parts_of(outcome.watch.segments.places().tolist(), outcome.watch.n_events)
    names = list(outcome.ranks)
    return {
        "events": outcome.events,
        "scored": len(parts),
        "unscored": outcome.unscored,
        "models": {
            name: {**model_figures(outcome.watch, name, outcome.ranks[name]), "cost": _cost(outcome, name)}
            for name in names
        },
        "gains": {name: _gains(outcome, names[0], name, parts, seed) for name in names[1:]},
    }


def model_figures(watch: Watch, name: str, ranks: Ranks) -> dict[str, Any]:
    """Return one model's figures.

    Args:
        watch: What the scored events were, and what the model's lists held.
        name: The model's, as the watch knows it.
        ranks: Of the scored events' targets.
    """
    parts = parts_of(watch.segments.places().tolist(), watch.n_events)
    segments = {
        division: {label: _window(watch, name, ranks, mask) for label, mask in masks.items() if mask.any()}
        for division, masks in watch.segments.segments().items()
    }
    return {
        **{window: _run(watch, name, ranks, parts, *run) for window, run in WINDOWS.items()},
        "tenths": [_run(watch, name, ranks, parts, part, part) for part in range(N_PARTS)],
        "segments": segments,
    }


def at_json(at: Mapping[int, Cutoff]) -> dict[str, dict[str, float]]:
    """Return figures at cut-offs as JSON values."""
    return {str(k): {name: _tidy(value) for name, value in asdict(cutoff).items()} for k, cutoff in at.items()}


def _run(watch: Watch, name: str, ranks: Ranks, parts: Ranks, first: int, last: int) -> dict[str, Any]:
    """Figures of a run of tenths, with those of the lists in it."""
    figures = _window(watch, name, ranks, (parts >= first) & (parts <= last))
    if name in watch.lists:
        figures["lists"] = _tidy_all(asdict(watch.lists[name].breadth(first, last)))
        stated = watch.lists[name].calibration(first, last)
        figures["probability"] = None if stated is None else _tidy_all(asdict(stated))
    return figures


def _window(watch: Watch, name: str, ranks: Ranks, mask: Mask) -> dict[str, Any]:
    figures: dict[str, Any] = {"scored": int(mask.sum()), "at": at_json(cutoffs(ranks[mask]))}
    if name in watch.lists:
        further = watch.sittings.further(name, mask)
        figures["further"] = None if further is None else _tidy_all(asdict(further))
    return figures


def _cost(outcome: RaceOutcome, name: str) -> dict[str, float | None]:
    cost = outcome.costs[name]
    cpu = cost.answer_seconds + cost.learn_seconds
    return {
        **{part: round(value, 3) for part, value in asdict(cost).items()},
        "cpu_seconds": round(cpu, 3),
        "events_per_second": round(outcome.events / cost.wall_seconds, 1) if cost.wall_seconds else None,
        "events_per_cpu_second": round(outcome.events / cpu, 1) if cpu else None,
    }


def _gains(outcome: RaceOutcome, first: str, rival: str, parts: Ranks, seed: int) -> dict[str, Any]:
    """The first model's figures less a rival's on the same events, with 95% intervals."""
    ranks, others, users = outcome.ranks[first], outcome.ranks[rival], outcome.watch.segments.users()
    differences = np.stack([hits_of(ranks) - hits_of(others), reciprocals_of(ranks) - reciprocals_of(others)], axis=1)

    def over(first_part: int, last_part: int) -> dict[str, Any] | None:
        mask = (parts >= first_part) & (parts <= last_part)
        if not mask.any():
            return None
        intervals = paired_bootstrap(users[mask], differences[mask], seed=seed)
        return {
            figure: _tidy_all(asdict(interval)) for figure, interval in zip(("recall", "mrr"), intervals, strict=True)
        }

    return {
        "of": first,
        **{window: over(*run) for window, run in WINDOWS.items()},
        "tenths": [over(part, part) for part in range(N_PARTS)],
    }


def _tidy_all(figures: dict[str, Any]) -> dict[str, Any]:
    return {
        name: [_tidy(v) for v in value] if isinstance(value, list) else _tidy(value) for name, value in figures.items()
    }


def _tidy(value: Any) -> Any:
    return round(value, 6) if isinstance(value, float) else value
