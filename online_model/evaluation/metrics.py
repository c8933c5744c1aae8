"""Recall and mean reciprocal rank, over all of a stream and by tenth of it."""

from array import array
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

DEPTH = 20
N_PARTS = 10


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How well targets were ranked.

    Attributes:
        scored: Events that were.
        recall: Share of them whose target was among the first 20; None where nothing was scored.
        mrr: Mean of 1 / rank, 0 beyond 20.
        recall_tenths: By tenth of the stream.
        mrr_tenths: By tenth of the stream.
    """

    scored: int
    recall: float | None
    mrr: float | None
    recall_tenths: list[float | None]
    mrr_tenths: list[float | None]


class RankLog:
    """Ranks as they come, with where in the stream they belong."""

    def __init__(self) -> None:
        self._places = array("q")
        self._ranks = array("i")

    def add(self, place: int, rank: int) -> None:
        """Note the rank of the event at a place of the stream, from 0; rank 0 is a miss."""
        self._places.append(place)
        # Whatever is beyond the depth is a miss, and 32 bits hold every other rank.
        self._ranks.append(rank if rank <= DEPTH else 0)

    def accuracy(self, n_events: int) -> Accuracy:
        """Summarise a stream of `n_events` events.

        >>> log = RankLog()
        >>> for place, rank in enumerate([1, 4, 0, 21]):
        ...     log.add(place, rank)
        >>> log.accuracy(4).recall, log.accuracy(4).mrr
        (0.5, 0.3125)
        """
        ranks = np.array(self._ranks, np.int64)
        parts = np.array(self._places, np.int64) * N_PARTS // max(1, n_events)
        hits = (ranks > 0).astype(np.float64)
        reciprocal = np.divide(1.0, ranks, out=np.zeros(len(ranks)), where=ranks > 0)
        tenths = [parts == part for part in range(N_PARTS)]
        return Accuracy(
            len(ranks),
            _mean(hits),
            _mean(reciprocal),
            [_mean(hits[chosen]) for chosen in tenths],
            [_mean(reciprocal[chosen]) for chosen in tenths],
        )


def _mean(values: npt.NDArray[np.float64]) -> float | None:
    return float(values.mean()) if len(values) else None
