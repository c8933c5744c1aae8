"""Who, what and where each scored event was: a few small numbers an event, to tell figures by segment."""

from array import array
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from online_model.evaluation.batches import Batch
from online_model.evaluation.metrics import Mask
from online_model.evaluation.sequences import Step

NEW_FOR = 10_000
"""An item is new while it was first seen within the last so many events of the stream."""
VISIT_GAP_MS = 1_800_000
"""A user is new until they come back after a pause of this length, whatever ends a sequence of the stream."""
USERS = ("new", "returning")
ITEMS = ("unseen", "new", "old")
POSITIONS = ("1", "2", "3-5", "6+")

Codes = npt.NDArray[np.int64]


class SegmentLog:
    """What is known of each scored event before it: 19 bytes an event, and a little for each user and item.

    - user: *new* in the first visit of the sequence's key, *returning* after a pause of half an hour or more.
    - item: *unseen* where the stream had not brought the target before (a sure miss), *new* where it first did within
      the last 10,000 events, else *old*.
    - position: how many items of the sitting stand before the target: 1, 2, 3-5, 6+.
    - behavior: of the event itself.

    Attributes:
        first_seen: For each item of the stream, by code, the place of its first event.
        counts: For each item, by code, its events so far.
    """

    def __init__(self) -> None:
        self.first_seen = array("q")
        self.counts = array("q")
        self._items: dict[str, int] = {}
        self._users: dict[str, int] = {}
        self._latest: dict[str, int] = {}
        self._returned: set[str] = set()
        self._behaviors: dict[str, int] = {}
        self._places, self._user_codes = array("q"), array("i")
        self._user_kinds, self._item_kinds = array("b"), array("b")
        self._positions, self._behavior_codes = array("b"), array("i")

    def __len__(self) -> int:
        return len(self._places)

    def observe(self, batch: Batch) -> None:
        """Note the events of a mini-batch, in order."""
        scored = frozenset(batch.scored)
        for place, step in enumerate(batch.steps):
            self._visit(step)
            if place in scored:
                self._note(batch.start + place, step)
            if step.visit is not None:
                self._see(step.visit[0], batch.start + place)

    def code_of(self, item: str) -> int:
        """Return the code of an item, -1 for one that the stream has not brought."""
        return self._items.get(item, -1)

    def places(self) -> Codes:
        """Return where in the stream the scored events were."""
        return np.array(self._places, np.int64)

    def users(self) -> Codes:
        """Return a number for the key of each scored event."""
        return np.array(self._user_codes, np.int64)

    def segments(self) -> Mapping[str, Mapping[str, Mask]]:
        """Return for each way to divide the scored events, and each part by name, which of them belong to it."""
        parts = {
            "user": (USERS, self._user_kinds),
            "item": (ITEMS, self._item_kinds),
            "position": (POSITIONS, self._positions),
            "behavior": (tuple(self._behaviors), self._behavior_codes),
        }
        return {
            name: {label: np.array(codes, np.int64) == code for code, label in enumerate(labels)}
            for name, (labels, codes) in parts.items()
        }

    def _visit(self, step: Step) -> None:
        now, latest = step.example.context.now, self._latest.get(step.key)
        if latest is not None and now - latest >= VISIT_GAP_MS:
            self._returned.add(step.key)
        self._latest[step.key] = now

    def _note(self, place: int, step: Step) -> None:
        code = self._items.get(step.example.item or "", -1)
        context = step.example.context
        before = len(context.history) - context.sitting
        behavior = step.visit[1] if step.visit is not None else step.example.role
        self._places.append(place)
        self._user_codes.append(self._users.setdefault(step.key, len(self._users)))
        self._user_kinds.append(step.key in self._returned)
        self._item_kinds.append(0 if code < 0 else 1 if place - self.first_seen[code] <= NEW_FOR else 2)
        self._positions.append(0 if before <= 1 else 1 if before == 2 else 2 if before <= 5 else 3)
        self._behavior_codes.append(self._behaviors.setdefault(behavior, len(self._behaviors)))

    def _see(self, item: str, place: int) -> None:
        code = self._items.setdefault(item, len(self._items))
        if code == len(self.counts):
            self.first_seen.append(place)
            self.counts.append(0)
        self.counts[code] += 1
