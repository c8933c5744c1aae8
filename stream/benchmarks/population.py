"""Many users with states of the real size, made by the product's own transitions and encoding.

The synthetic shop is visited for a while; the states that its people then have are given to as many users as are
wanted, since a state does not name its user.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, cast

from confluent_kafka import Message, Producer

from online_model.protocol import Ranked, Request
from stream.behaviors import behavior_table
from stream.benchmarks.rig import Rig
from stream.delivery import Output, produce_all, producer_config
from stream.intake import Record
from stream.loading import IDENTITY_KEY
from stream.scorer import Scorer
from stream.settings import Settings
from stream.state import encode_state
from stream.topics.preflight import preflight
from stream.topics.reading import as_bytes
from stream.users import UserTable, home_partition

SHOP_USERS = 1_500
SHOP_EVENTS = 30_000
"""Twenty events a user: windows are full, which is what a shop with regulars looks like after some weeks."""
FLUSH_SECONDS = 120.0


class Constant:
    """Recommends the same to everybody: what everything around a model costs.

    Args:
        n_items: Length of its lists; 0 for empty ones.
    """

    def __init__(self, n_items: int) -> None:
        items = [f"item-{number:06d}" for number in range(n_items)]
        scores = [(n_items - number) / (n_items + 1) for number in range(n_items)]
        self._ranked = Ranked(items, scores, ["recurrent"] * n_items, n_items)

    def recommend(self, requests: Sequence[Request], k: int) -> list[Ranked]:
        """Return the list, as often as it is asked for."""
        return [self._ranked.cut(k)] * len(requests)

    def rank(self, requests: Sequence[Request], targets: Sequence[str]) -> list[int]:
        """Return that no target may be listed."""
        return [0] * len(requests)


@dataclass(slots=True)
class _Read:
    """A record as the scorer takes it, from a client that hands over other objects."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


def as_record(message: Message) -> Record:
    """Return a message of confluent-kafka as the scorer takes it."""
    return _Read(
        message.topic() or "",
        message.partition() or 0,
        message.offset() or 0,
        message.timestamp()[1],
        as_bytes(message.key()),
        as_bytes(message.value()),
        cast(Any, message.headers() or ()),
    )


def shop_states(at: Rig, n_users: int = SHOP_USERS, n_events: int = SHOP_EVENTS) -> list[bytes]:
    """Return the states, as they stand in the changelog, of the people of a shop that has had so many events.

    The events stay in the rig's topic.
    """
    at.produce(
        *("synthetic", "--rate", "max", "--users", str(n_users), "--events", str(n_events), "--time-factor", "600")
    )
    settings = at.settings
    records = sorted(at.read(settings.topics.events[0]), key=lambda message: message.timestamp()[1])
    checked = preflight(settings)
    scorer = Scorer(settings, checked.identity, behavior_table(settings.behaviors), checked.event_partitions, str, int)
    users = UserTable(checked.event_partitions, n_events)
    done = scorer.process(map(as_record, records), users, Constant(settings.lists.k), 1)
    return [encode_state(state) for state in done.overlay.values()]


def fill_changelog(settings: Settings, states: Sequence[bytes], n_users: int) -> int:
    """Give so many users a state each, and each partition the identity that a worker checks.

    Returns:
        Bytes of all values.
    """
    checked = preflight(settings)
    producer = Producer({**producer_config(settings), "linger.ms": 50})
    topic, n_bytes = settings.user_state_topic, 0
    identity = checked.identity.dumps()
    partitions = range(checked.event_partitions)
    produce_all(producer, (Output(topic, IDENTITY_KEY, identity, None, number) for number in partitions))
    for user_id, state in _population(states, n_users):
        n_bytes += len(state)
        home = home_partition(user_id, checked.event_partitions)
        produce_all(producer, [Output(topic, user_id.encode(), state, None, home)])
    if left := producer.flush(FLUSH_SECONDS):
        raise RuntimeError(f"{left} states were not written within {FLUSH_SECONDS:.0f} s")
    return n_bytes


def median_bytes(states: Sequence[bytes]) -> float:
    """Return the size of a state in the middle."""
    return median(map(len, states))


def _population(states: Sequence[bytes], n_users: int) -> Iterator[tuple[str, bytes]]:
    for number in range(n_users):
        yield f"resident-{number:07d}", states[number % len(states)]
