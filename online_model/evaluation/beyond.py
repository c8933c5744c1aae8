"""Beyond accuracy: how much of the catalogue lists show, how much of them is popular, new, and how probable."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from online_model.evaluation.calibration import Calibration, calibration
from online_model.evaluation.metrics import N_PARTS
from online_model.evaluation.segments import NEW_FOR, SegmentLog
from online_model.protocol import Ranked

POPULAR_SHARE = 0.01
_REFRESH = 1_000


@dataclass(frozen=True, slots=True)
class Breadth:
    """What lists held.

    Attributes:
        places: Places of lists that an item stood on.
        coverage: Share of the items that the stream had brought by the end that stood in at least one list.
        popular_share: Share of the places held by the most popular 1% of the items at the time.
        new_share: Share of the places held by items first seen within the last 10,000 events of the stream.
    """

    places: int
    coverage: float | None
    popular_share: float | None
    new_share: float | None


class Head:
    """Which items are the most popular 1%, by their events so far; looked up again every 1,000 events.

    At least one item is; of equally popular ones at the edge, the older ones are.
    """

    def __init__(self, log: SegmentLog) -> None:
        self._log = log
        self._popular = np.zeros(0, np.bool_)
        self._at = -_REFRESH

    def popular(self, place: int) -> npt.NDArray[np.bool_]:
        """Return for each item, by code, whether it belongs to the head at a place of the stream."""
        if place - self._at >= _REFRESH:
            counts = np.array(self._log.counts, np.int64)
            n_popular = max(1, int(len(counts) * POPULAR_SHARE))
            self._popular = np.zeros(len(counts), np.bool_)
            self._popular[np.argsort(-counts, kind="stable")[:n_popular]] = True
            self._at = place
        return self._popular


class ListLog:
    """Counts what one model's lists held, by tenth of the stream, and keeps its stated probabilities: 5 bytes each.

    Args:
        log: Knows the items of the stream.
        head: Knows which of them are popular.
        n_events: Events in the stream.
    """

    def __init__(self, log: SegmentLog, head: Head, n_events: int) -> None:
        self._log = log
        self._head = head
        self._n_events = n_events
        self._listed = np.zeros((N_PARTS, 1024), np.bool_)
        # For each tenth: places, places of popular items, places of new items.
        self._totals = np.zeros((N_PARTS, 3), np.int64)
        self._probabilities = array("f")
        self._outcomes = array("b")
        self._starts = [0] * (N_PARTS + 1)

    def note(self, places: Sequence[int], lists: Sequence[Ranked], targets: Sequence[str]) -> None:
        """Note the lists that were made for events.

        Args:
            places: Of the events in the stream, ascending.
            lists: One for each.
            targets: What came.
        """
        for place, ranked, target in zip(places, lists, targets, strict=True):
            part = place * N_PARTS // self._n_events
            self._count(part, place, ranked)
            self._state(part, ranked, target)

    def breadth(self, first: int = 0, last: int = N_PARTS - 1) -> Breadth:
        """Summarise a run of tenths."""
        places, popular, new = (int(total) for total in self._totals[first : last + 1].sum(axis=0))
        end = -(-(last + 1) * self._n_events // N_PARTS)
        n_seen = int((np.array(self._log.first_seen, np.int64) < end).sum())
        n_listed = int(self._listed[first : last + 1].any(axis=0).sum())
        if not places:
            return Breadth(0, None, None, None)
        return Breadth(places, n_listed / n_seen, popular / places, new / places)

    def calibration(self, first: int = 0, last: int = N_PARTS - 1) -> Calibration | None:
        """Compare the probabilities that were stated in a run of tenths with what came; None where none were."""
        chosen = slice(self._starts[first], self._starts[last + 1])
        stated = np.array(self._probabilities[chosen], np.float32)
        return calibration(stated, np.array(self._outcomes[chosen], np.bool_))

    def _count(self, part: int, place: int, ranked: Ranked) -> None:
        found = (self._log.code_of(item) for item in ranked.items)
        # Events that are no targets may teach a model items that the stream never brings as one.
        codes = np.array([code for code in found if code >= 0], np.int64)
        popular = self._head.popular(place)
        within = codes[codes < len(popular)]
        first_seen = self._log.first_seen
        n_new = sum(place - first_seen[code] <= NEW_FOR for code in codes.tolist())
        self._totals[part] += (len(ranked.items), int(popular[within].sum()), n_new)
        if len(codes):
            self._grow(int(codes.max()) + 1)
            self._listed[part, codes] = True

    def _state(self, part: int, ranked: Ranked, target: str) -> None:
        stated = ranked.probabilities
        if stated is not None:
            self._probabilities.extend(stated)
            self._outcomes.extend(item == target for item in ranked.items)
        self._starts[part + 1 :] = [len(self._probabilities)] * (N_PARTS - part)

    def _grow(self, size: int) -> None:
        if size > self._listed.shape[1]:
            grown = np.zeros((N_PARTS, 2 * size), np.bool_)
            grown[:, : self._listed.shape[1]] = self._listed
            self._listed = grown
