"""The totals of the live measure: exact counts, by arm and origin."""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, get_args

Arm: TypeAlias = Literal["live", "frozen", "nightly", "popularity"]
Origin: TypeAlias = Literal["attributed", "organic"]
UnscoredReason: TypeAlias = Literal["first", "repeat", "filtered", "no_list", "late"]

ARMS: tuple[Arm, ...] = get_args(Arm)
RIVALS: tuple[Arm, ...] = tuple(arm for arm in ARMS if arm != "live")
ORIGINS: tuple[Origin, ...] = get_args(Origin)
PAIR_OUTCOMES = ("both", "live_only", "other_only", "neither")
UNSCORED_REASONS: tuple[UnscoredReason, ...] = get_args(UnscoredReason)
DEPTH = 20
"""Hits and reciprocal ranks are counted down to this place of a list."""

Totals: TypeAlias = dict[str, dict[tuple[str, ...], float]]
"""For each of scored, hits, reciprocal_rank {(arm, origin)}, pairs {(rival, outcome)}, unscored {(reason,)} and
late_lists {()} a total."""


class Tally:
    """Counts what the arms knew of what people did next.

    Args:
        depth: Places of a list that count, at most 20: where shorter lists are published, no arm may answer with more.

    >>> tally = Tally()
    >>> tally.count("organic", {"live": 2, "frozen": 0}, late_list=False)
    >>> tally.totals()["pairs"]["frozen", "live_only"]
    1
    """

    def __init__(self, depth: int = DEPTH) -> None:
        self.depth = min(depth, DEPTH)
        cells = [(arm, origin) for arm in ARMS for origin in ORIGINS]
        self._totals: Totals = {
            "scored": dict.fromkeys(cells, 0),
            "hits": dict.fromkeys(cells, 0),
            "reciprocal_rank": dict.fromkeys(cells, 0.0),
            "pairs": {(rival, outcome): 0 for rival in RIVALS for outcome in PAIR_OUTCOMES},
            "unscored": {(reason,): 0 for reason in UNSCORED_REASONS},
            "late_lists": {(): 0},
        }

    def count(self, origin: Origin, ranks: Mapping[Arm, int], *, late_list: bool) -> None:
        """Count one scored event.

        Args:
            origin: Whether the event says which list it answers.
            ranks: 1-based place of the item in the list of each arm that could answer, 0 where it was not in it.
            late_list: The live list reached the topic only after the event.
        """
        hits = {arm: 1 <= rank <= self.depth for arm, rank in ranks.items()}
        for arm, hit in hits.items():
            self._totals["scored"][arm, origin] += 1
            if hit:
                self._totals["hits"][arm, origin] += 1
                self._totals["reciprocal_rank"][arm, origin] += 1.0 / ranks[arm]
        # People act on what they were shown, and only `live` was shown.
        if origin == "organic" and "live" in hits:
            for arm, hit in hits.items():
                if arm != "live":
                    self._totals["pairs"][arm, _outcome(hits["live"], hit)] += 1
        self._totals["late_lists"][()] += late_list

    def count_unscored(self, reason: str) -> None:
        """Count one event of a target role that is not scored.

        Raises:
            ValueError: The reason is not one of `UNSCORED_REASONS`.
        """
        if (reason,) not in self._totals["unscored"]:
            raise ValueError(f"expected a reason out of {', '.join(UNSCORED_REASONS)}, got {reason!r}")
        self._totals["unscored"][reason,] += 1

    def alone(self, rival: Arm) -> tuple[int, int]:
        """Return how many pairs the live arm had alone, and how many the rival had."""
        pairs = self._totals["pairs"]
        return int(pairs[rival, "live_only"]), int(pairs[rival, "other_only"])

    def totals(self) -> Totals:
        """Return a copy of all totals."""
        return {quantity: dict(values) for quantity, values in self._totals.items()}

    def facts(self) -> dict[str, object]:
        """Return the totals as JSON values, for a checkpoint; floats come back bit for bit."""
        return {quantity: [[*key, total] for key, total in values.items()] for quantity, values in self._totals.items()}

    def load_facts(self, facts: Mapping[str, Any]) -> None:
        """Become the tally that `facts` were taken from; cells that it did not know yet are at 0."""
        for quantity, values in self._totals.items():
            saved = {tuple(row[:-1]): row[-1] for row in facts.get(quantity, [])}
            for key in values:
                values[key] = saved.get(key, 0)


def _outcome(live: bool, other: bool) -> str:
    if live:
        return "both" if other else "live_only"
    return "other_only" if other else "neither"
