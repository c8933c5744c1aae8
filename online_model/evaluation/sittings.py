"""Lists against all that was still to come in the sitting, not the next item alone."""

from array import array
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from online_model.evaluation.batches import Batch
from online_model.evaluation.metrics import DEPTH, Mask
from online_model.protocol import Ranked

MAX_SITTING = 200
MAX_OPEN = 50_000


@dataclass(frozen=True, slots=True)
class Further:
    """How well lists of 20 met the further items of the sitting; means over events.

    The further items of an event are the distinct items of its sitting from it to the end. With h of f of them in the
    list, precision is h / 20 (also where the list is shorter), recall h / f and F1 2 h / (20 + f). An item that may
    not stand in the list, such as the one that the user is on, counts among them if it comes again.
    """

    precision: float
    recall: float
    f1: float


@dataclass(slots=True)
class _Event:
    """An item of an open sitting, and the lists that were made before it where it is scored."""

    item: str
    index: int
    lists: tuple[list[str], ...]


class SittingLog:
    """Keeps the lists of a sitting until it is over, and then what they met: two bytes an event and model, and two.

    What is kept is bounded: a sitting of more than 200 events is taken as several, and of more than 50,000 open ones
    the one that was idle longest is taken as over.

    Args:
        names: Of the models.
    """

    def __init__(self, names: Sequence[str], *, max_sitting: int = MAX_SITTING, max_open: int = MAX_OPEN) -> None:
        self._names = tuple(names)
        self._max_sitting = max_sitting
        self._max_open = max_open
        self._open: OrderedDict[str, list[_Event]] = OrderedDict()
        self._n_further = array("H")
        self._hits = {name: array("H") for name in names}

    def note(self, batch: Batch, lists: Mapping[str, Sequence[Ranked]]) -> None:
        """Note a mini-batch with the lists of each model for its scored events."""
        index_of = {place: index for index, place in enumerate(batch.scored)}
        for place, step in enumerate(batch.steps):
            if step.visit is None:
                continue
            context = step.example.context
            if len(context.history) <= context.sitting:
                self._close(step.key)
            index, kept = -1, tuple[list[str], ...]()
            if place in index_of:
                index = self._add()
                kept = tuple(lists[name][index_of[place]].items for name in self._names)
            self._append(step.key, _Event(step.visit[0], index, kept))

    def finish(self) -> None:
        """Take all open sittings as over."""
        for key in list(self._open):
            self._close(key)

    def further(self, name: str, chosen: Mask) -> Further | None:
        """Summarise some of the scored events for a model, after `finish`; None where there are none."""
        hits = np.array(self._hits[name], np.float64)[chosen]
        n_further = np.array(self._n_further, np.float64)[chosen]
        if not len(hits):
            return None
        recall, f1 = hits / n_further, 2 * hits / (DEPTH + n_further)
        return Further(float((hits / DEPTH).mean()), float(recall.mean()), float(f1.mean()))

    def _add(self) -> int:
        self._n_further.append(0)
        for hits in self._hits.values():
            hits.append(0)
        return len(self._n_further) - 1

    def _append(self, key: str, event: _Event) -> None:
        events = self._open.setdefault(key, [])
        events.append(event)
        self._open.move_to_end(key)
        if len(events) >= self._max_sitting:
            self._close(key)
        if len(self._open) > self._max_open:
            self._close(next(iter(self._open)))

    def _close(self, key: str) -> None:
        further: set[str] = set()
        for event in reversed(self._open.pop(key, [])):
            further.add(event.item)
            if event.index < 0:
                continue
            self._n_further[event.index] = len(further)
            for name, items in zip(self._names, event.lists, strict=True):
                self._hits[name][event.index] = len(further.intersection(items[:DEPTH]))
