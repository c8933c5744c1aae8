"""How well targets were ranked: recall, mean reciprocal rank and the like, over a stream and by tenth of it."""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

DEPTH = 20
"""Where recall and MRR are quoted when nothing else is said, and the places of a list."""
CUTOFFS = (1, 5, 10, DEPTH)
N_PARTS = 10
_MOST = 2**31 - 1

Ranks = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Cutoff:
    """How well targets were ranked, first K places of the lists alone.

    Attributes:
        recall: Share of events whose target stands there; at 1, that is accuracy.
        mrr: Mean of 1 / rank, 0 beyond K.
        ndcg: Mean of 1 / log2(rank + 1), 0 beyond K: with one target, the ideal list's gain is 1.
    """

    recall: float
    mrr: float
    ndcg: float


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How well targets were ranked.

    Attributes:
        scored: Events that were.
        recall: Share of them whose target was among the first 20; None where nothing was scored.
        mrr: Mean of 1 / rank, 0 beyond 20.
        recall_tenths: By tenth of the stream.
        mrr_tenths: By tenth of the stream.
        at: The same and more for each of `CUTOFFS`; empty where nothing was scored.
    """

    scored: int
    recall: float | None
    mrr: float | None
    recall_tenths: list[float | None]
    mrr_tenths: list[float | None]
    at: Mapping[int, Cutoff] = field(default_factory=dict)


class RankLog:
    """Ranks as they come, with where in the stream they belong: 12 bytes an event."""

    def __init__(self) -> None:
        self._places = array("q")
        self._ranks = array("i")

    def __len__(self) -> int:
        return len(self._ranks)

    def add(self, place: int, rank: int) -> None:
        """Note the rank of the event at a place of the stream, from 0; rank 0 is a miss."""
        self._places.append(place)
        self._ranks.append(rank if rank <= _MOST else 0)

    def ranks(self) -> Ranks:
        """Return all ranks, in the order in which they came."""
        return np.array(self._ranks, np.int64)

    def places(self) -> Ranks:
        """Return where in the stream each was."""
        return np.array(self._places, np.int64)

    def accuracy(self, n_events: int) -> Accuracy:
        """Summarise a stream of `n_events` events.

        >>> log = RankLog()
        >>> for place, rank in enumerate([1, 4, 0, 21]):
        ...     log.add(place, rank)
        >>> log.accuracy(4).recall, log.accuracy(4).mrr
        (0.5, 0.3125)
        """
        return accuracy(self.ranks(), parts_of(self._places, n_events))


def parts_of(places: Sequence[int], n_events: int) -> Ranks:
    """Return the tenth, from 0, that each place of a stream of `n_events` events lies in."""
    return np.array(places, np.int64) * N_PARTS // max(1, n_events)


def accuracy(ranks: Ranks, parts: Ranks) -> Accuracy:
    """Summarise events.

    Args:
        ranks: Of their targets, 0 for a miss.
        parts: The tenth of the stream that each lies in.
    """
    hits, reciprocal = hits_of(ranks), reciprocals_of(ranks)
    tenths = [parts == part for part in range(N_PARTS)]
    return Accuracy(
        len(ranks),
        _mean(hits),
        _mean(reciprocal),
        [_mean(hits[chosen]) for chosen in tenths],
        [_mean(reciprocal[chosen]) for chosen in tenths],
        cutoffs(ranks),
    )


def cutoffs(ranks: Ranks) -> dict[int, Cutoff]:
    """Return the figures at each of `CUTOFFS`; nothing where there are no events.

    >>> cutoffs(np.array([1, 3, 0, 30]))[5]
    Cutoff(recall=0.5, mrr=0.3333333333333333, ndcg=0.375)
    """
    if not len(ranks):
        return {}
    reciprocal, gains = reciprocals_of(ranks, _MOST), _gains(ranks)
    found = {}
    for k in CUTOFFS:
        within = (ranks > 0) & (ranks <= k)
        found[k] = Cutoff(float(within.mean()), float((reciprocal * within).mean()), float((gains * within).mean()))
    return found


def hits_of(ranks: Ranks, k: int = DEPTH) -> npt.NDArray[np.float64]:
    """Return 1.0 for each rank within the first `k` places, else 0.0."""
    return ((ranks > 0) & (ranks <= k)).astype(np.float64)


def reciprocals_of(ranks: Ranks, k: int = DEPTH) -> npt.NDArray[np.float64]:
    """Return 1 / rank for each rank within the first `k` places, else 0.0."""
    return np.divide(1.0, ranks, out=np.zeros(len(ranks)), where=(ranks > 0) & (ranks <= k))


def _gains(ranks: Ranks) -> npt.NDArray[np.float64]:
    discounts: npt.NDArray[np.float64] = np.log2(ranks + 1.0)
    return np.divide(1.0, discounts, out=np.zeros(len(ranks)), where=ranks > 0)


def _mean(values: npt.NDArray[np.float64]) -> float | None:
    return float(values.mean()) if len(values) else None


@dataclass(frozen=True, slots=True)
class GroupAccuracy:
    """How well the targets of one part of a stream were ranked.

    Attributes:
        name: Of the part.
        scored: Events that were.
        recall: Share of them whose target was among the first 20.
        mrr: Mean of 1 / rank, 0 beyond 20.
        seen: Those of them whose target the stream had brought before.
        recall_seen: As `recall`, of these alone; None where there is none.
        mrr_seen: As `mrr`, of these alone.
    """

    name: str
    scored: int
    recall: float
    mrr: float
    seen: int
    recall_seen: float | None
    mrr_seen: float | None


def by_group(ranks: Ranks, groups: Sequence[str]) -> list[GroupAccuracy]:
    """Return the accuracy of each group, in the order in which they first come.

    Args:
        ranks: 1-based, 0 for a target that the stream had not brought before.
        groups: Of each of them.
    """
    names = dict.fromkeys(groups)
    numbers = {name: number for number, name in enumerate(names)}
    places = np.array([numbers[group] for group in groups], np.int64)
    found = []
    for name, number in numbers.items():
        own = ranks[places == number]
        seen = own[own > 0]
        whole = float(hits_of(own).mean()), float(reciprocals_of(own).mean())
        known = _mean(hits_of(seen)), _mean(reciprocals_of(seen))
        found.append(GroupAccuracy(name, len(own), *whole, len(seen), *known))
    return found
