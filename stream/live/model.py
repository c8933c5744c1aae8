"""What the view knows: facts go in, and everything that is drawn is read off it. No clock, no I/O."""

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import NamedTuple

from stream.live.facts import (
    Acted,
    Answered,
    Drifted,
    Fact,
    FirstShown,
    Launched,
    Readings,
    ShopStatus,
    Titled,
    Trouble,
)
from stream.live.people import People
from stream.live.readings import Window

RECENT_SECONDS = 20.0
"""What `now` means for hit rates: long enough that chance moves them by two or three points at most."""
SPEED_SECONDS = 5.0
POINT_SECONDS = 2.0
SILENT_SECONDS = 5.0
"""A worker whose metrics are older does not answer, or cannot be asked."""
_POINT_SPAN_SECONDS = 10.0
_MAX_POINTS = 300
_MAX_TITLES = 100_000


@dataclass(frozen=True)
class Surroundings:
    """What does not change while the demo runs.

    Attributes:
        broker: Which Kafka it is, in a few words.
        limits: What that Kafka cannot do; empty where there is nothing to say.
        bootstrap: Its address.
        metrics_url: Where Prometheus would scrape.
        events_topic: Where the shop's events go.
        recommendations_topic: Where the answers come.
        rejected_topic: Where events go that cannot be used.
        folder: Where everything is kept, logs included.
        is_kept: Whether that folder stays.
        frozen_after: Learned examples after which the frozen copy is taken.
        nightly_seconds: How often the nightly copy is refreshed.
    """

    broker: str
    limits: str
    bootstrap: str
    metrics_url: str
    events_topic: str
    recommendations_topic: str
    rejected_topic: str
    folder: str
    is_kept: bool
    frozen_after: int
    nightly_seconds: float


class Point(NamedTuple):
    """Hit rates at one moment, for a line of them."""

    live: float | None
    frozen: float | None


@dataclass
class Launch:
    """An item that was launched, and the seconds until it stood in a list for the first time."""

    title: str
    at_ms: int
    seconds: float | None = None


class LiveState:
    """Everything the view shows.

    Args:
        surroundings: What does not change.
        started: When the view began, in seconds on its clock.

    Attributes:
        window: The worker's readings of the last minute.
        people: Who did what.
        shop: The shop's last status.
        points: Hit rates every two seconds, oldest first.
        launch: The item that was launched last.
        drifted_at: When tastes were turned over last, on the view's clock.
        trouble: The last thing that went wrong.
    """

    def __init__(self, surroundings: Surroundings, started: float) -> None:
        self.surroundings = surroundings
        self.started = started
        self.window = Window()
        self.people = People()
        self.shop = ShopStatus(0, None, None)
        self.points: deque[Point] = deque(maxlen=_MAX_POINTS)
        self.launch: Launch | None = None
        self.drifted_at: float | None = None
        self.trouble: str | None = None
        self._launches: dict[str, Launch] = {}
        self._titles: OrderedDict[str, str] = OrderedDict()
        self._point_at = started

    def feed(self, fact: Fact, now: float) -> None:
        """Take in a fact; `now` is on the view's clock."""
        match fact:
            case Acted():
                self.people.act(fact, now)
            case Answered():
                self.people.answer(fact)
            case Readings():
                self._measure(fact)
            case ShopStatus():
                self.shop = fact
            case Titled():
                self._name(fact.item_id, fact.title)
            case Launched():
                self._name(fact.item_id, fact.title)
                self.launch = self._launches[fact.item_id] = Launch(fact.title, fact.at_ms)
            case FirstShown():
                if (launch := self._launches.pop(fact.item_id, None)) is not None:
                    launch.seconds = max(0.0, (fact.at_ms - launch.at_ms) / 1000)
            case Drifted():
                self.drifted_at = now
            case Trouble():
                self.trouble = fact.text

    def tick(self, now: float) -> None:
        """Let time pass: who has gone is no longer followed."""
        self.people.look_round(now)

    def silent_for(self, now: float) -> float | None:
        """Return for how many seconds the worker has said nothing; None where that is not worth a word."""
        since = self.started if self.window.newest is None else self.window.newest.at
        return now - since if now - since > SILENT_SECONDS else None

    def title(self, item_id: str) -> str:
        """Return what an item is called; its id where nobody said."""
        return self._titles.get(item_id, item_id)

    def hit_rate(self, arm: str) -> float | None:
        """Return an arm's hit rate at 20 of the moment."""
        return self.window.hit_rate(arm, RECENT_SECONDS)

    def share_of_best(self, arm: str) -> float | None:
        """Return the hit rate of the moment as a share of the best reachable."""
        rate, best = self.hit_rate(arm), self.shop.best_reachable_recent
        return None if rate is None or not best else rate / best

    def _name(self, item_id: str, title: str) -> None:
        self._titles[item_id] = title
        if len(self._titles) > _MAX_TITLES:
            self._titles.popitem(last=False)

    def _measure(self, readings: Readings) -> None:
        self.window.add(readings)
        if readings.at - self._point_at >= POINT_SECONDS:
            self._point_at = readings.at
            live, frozen = (self.window.hit_rate(arm, _POINT_SPAN_SECONDS) for arm in ("live", "frozen"))
            self.points.append(Point(live, frozen))
