"""What the view is told: by the worker's metrics, by the shop, by Kafka. Plain values that cross threads."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

Histogram: TypeAlias = Mapping[float, float]
"""Upper bound of a bucket to the observations at or below it."""


_NOTHING: Mapping[Any, float] = MappingProxyType({})


class Readings(NamedTuple):
    """The worker's metrics at one moment.

    Attributes:
        at: Seconds on the view's own clock.
        events: Records taken, by outcome.
        answers: Answers that the broker acknowledged.
        latency: From the event's Kafka timestamp to the acknowledged answer, in seconds.
        freshness: From an event to the weights that know it, in seconds.
        scored: Events that a list was held against, by arm.
        hits: Those whose item stood among the first 20, by arm.
        learned: Examples that a learning step took.
        loss: Of the last mini-batch; None before the first.
        model_version: Of the weights that serve.
        vocabulary: Items that can be recommended.
        users: Users whose state the worker holds.
    """

    at: float
    events: Mapping[str, float] = _NOTHING
    answers: float = 0.0
    latency: Histogram = _NOTHING
    freshness: Histogram = _NOTHING
    scored: Mapping[str, float] = _NOTHING
    hits: Mapping[str, float] = _NOTHING
    learned: float = 0.0
    loss: float | None = None
    model_version: int = 0
    vocabulary: int = 0
    users: int = 0


class ShopStatus(NamedTuple):
    """How the shop goes; hit rates are expected ones of the best possible lists of 20."""

    events: int
    best_reachable: float | None
    best_reachable_recent: float | None


class Launched(NamedTuple):
    """A new item came into the shop; `at_ms` is on the wall clock."""

    item_id: str
    title: str
    at_ms: int


class Drifted(NamedTuple):
    """Tastes were turned over; `at_ms` is on the wall clock."""

    at_ms: int


class Titled(NamedTuple):
    """What an item is called."""

    item_id: str
    title: str


class Acted(NamedTuple):
    """Somebody did something with an item: an event, and its offset in the user's partition."""

    user_id: str
    item_id: str
    behavior: str
    offset: int


class Place(NamedTuple):
    """One place in a list."""

    item_id: str
    score: float
    source: str


class Answered(NamedTuple):
    """A user got a list; `offset` is that of the event it answers."""

    user_id: str
    offset: int
    places: tuple[Place, ...]


class FirstShown(NamedTuple):
    """An item stood in a list for the first time since it was watched for; `at_ms` is when the list was made."""

    item_id: str
    at_ms: int


class Trouble(NamedTuple):
    """Something went wrong that the view goes on without."""

    text: str


Fact: TypeAlias = Readings | ShopStatus | Launched | Drifted | Titled | Acted | Answered | FirstShown | Trouble
