"""The user whom the view follows: what they did last, and what they are recommended."""

from collections import OrderedDict, deque
from typing import NamedTuple

from stream.live.facts import Acted, Answered, Place

MAX_USERS = 2_000
MAX_ITEMS = 12
MIN_ITEMS = 4
"""Nobody with fewer is followed: there would be little to see."""
SILENT_SECONDS = 20.0
"""Who does nothing for so long has gone; the view follows somebody else."""
_MAX_LISTS = 32
_NOT_AGAIN = 20


class Deed(NamedTuple):
    """Something the followed user did.

    Attributes:
        item_id: With what.
        behavior: What.
        rank: The place that the item had in the list before, 1 is the best; None where it was not there, or no list
            was seen.
    """

    item_id: str
    behavior: str
    rank: int | None


class People:
    """Who did what last, as far as the view needs it.

    Attributes:
        followed: The user whom the view shows; None while there is nobody to show.
    """

    def __init__(self) -> None:
        self.followed: str | None = None
        self._deeds: OrderedDict[str, deque[Acted]] = OrderedDict()
        self._last_seen: dict[str, float] = {}
        self._lists: deque[Answered] = deque(maxlen=_MAX_LISTS)
        self._formerly: deque[str] = deque(maxlen=_NOT_AGAIN)

    def act(self, fact: Acted, now: float) -> None:
        """Take in what somebody did."""
        deeds = self._deeds.setdefault(fact.user_id, deque(maxlen=MAX_ITEMS))
        deeds.append(fact)
        self._deeds.move_to_end(fact.user_id)
        self._last_seen[fact.user_id] = now
        if len(self._deeds) > MAX_USERS:
            gone, _ = self._deeds.popitem(last=False)
            del self._last_seen[gone]

    def answer(self, fact: Answered) -> None:
        """Take in a list; those of others than the followed user are passed over."""
        if fact.user_id == self.followed:
            self._lists.append(fact)

    def follow_another(self) -> None:
        """Follow whoever was active last and has something to show; nobody new is found at a bad moment."""
        for user_id in reversed(self._deeds):
            if len(self._deeds[user_id]) >= MIN_ITEMS and user_id != self.followed and user_id not in self._formerly:
                if self.followed is not None:
                    self._formerly.append(self.followed)
                self.followed = user_id
                self._lists.clear()
                return

    def look_round(self, now: float) -> None:
        """Follow another where nobody is followed, or the followed user has gone."""
        if self.followed is None or now - self._last_seen.get(self.followed, -SILENT_SECONDS) > SILENT_SECONDS:
            self.follow_another()

    def deeds(self) -> list[Deed]:
        """Return what the followed user did, newest first."""
        seen = self._deeds.get(self.followed or "", ())
        return [Deed(fact.item_id, fact.behavior, self._rank(fact)) for fact in reversed(seen)]

    def places(self) -> tuple[Place, ...]:
        """Return the list that the followed user has now, best first."""
        newest = max(self._lists, key=lambda answer: answer.offset, default=None)
        return () if newest is None else newest.places

    def _rank(self, fact: Acted) -> int | None:
        # By offset, not by arrival: events and answers come over two topics.
        before = max((a for a in self._lists if a.offset < fact.offset), key=lambda a: a.offset, default=None)
        if before is None:
            return None
        return next((rank for rank, place in enumerate(before.places, 1) if place.item_id == fact.item_id), None)
