"""The view reads along on a real Kafka."""

import queue
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Producer

from stream.live.facts import Acted, Answered, Fact, FirstShown, Place, Titled
from stream.live.follow import Follower
from stream.records import Recommendation, RecommendedItem, Trigger, encode_recommendation
from stream.settings import KafkaSettings, Settings, TopicSettings
from stream.topics.expected import partition_counts

DEADLINE_SECONDS = 90.0


class Shop:
    """Topics with a follower, and what it handed over."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.facts: list[Fact] = []
        self._inbox: queue.SimpleQueue[Fact] = queue.SimpleQueue()
        self.follower = Follower(settings, self._inbox.put)
        self._producer = Producer(settings.librdkafka())

    def send(self, topic: str, key: str, value: bytes) -> None:
        self._producer.produce(topic, value, key, partition=0)
        assert self._producer.flush(DEADLINE_SECONDS) == 0

    def view(self, user: str, item: str) -> None:
        event = f'{{"user_id":"{user}","item_id":"{item}","behavior":"view","timestamp":1}}'
        self.send(self.settings.topics.events[0], user, event.encode())

    def answer(self, user: str, offset: int, at_ms: int, *items: str) -> None:
        places = [RecommendedItem(item, 1.5, "recurrent") for item in items]
        trigger = Trigger("user-events", 0, offset, 1)
        record = Recommendation("r", user, at_ms, 1, "live", "a", len(items), places, trigger)
        self.send(self.settings.topics.recommendations, user, encode_recommendation(record))

    def wait_for(self, fact: Fact) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while fact not in self.facts:
            self.facts.append(self._inbox.get(timeout=max(0.01, deadline - time.monotonic())))


@pytest.fixture
def shop(kafka: Any, topics: Callable[..., None], fresh_prefix: str) -> Iterator[Shop]:
    names = {name: f"{fresh_prefix}-{name}" for name in ("recommendations", "item_catalog")}
    settings = Settings(
        app_id=fresh_prefix,
        kafka=KafkaSettings(bootstrap_servers=kafka.bootstrap),
        topics=TopicSettings(events=[f"{fresh_prefix}-events"], partitions=2, **names),
    )
    counts = partition_counts(settings)
    topics({name: counts[name] for name in (*names.values(), f"{fresh_prefix}-events")})
    shop = Shop(settings)
    shop.send(names["item_catalog"], "i1", b'{"title":"Alpine Kite"}')
    shop.follower.start()
    # From the beginning; when it is there, the other partitions are assigned, and their ends are being looked up.
    shop.wait_for(Titled("i1", "Alpine Kite"))
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not any(isinstance(fact, Acted) for fact in shop.facts):
        assert time.monotonic() < deadline
        shop.view("early", "i1")
        try:
            shop.facts.append(shop._inbox.get(timeout=0.2))
        except queue.Empty:
            continue
    yield shop
    shop.follower.stop()


def until_read_along(shop: Shop) -> None:
    """Answers are read from the end that the topic had at some moment: send until one comes."""
    shop.follower.follow("early")
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not any(isinstance(fact, Answered) for fact in shop.facts):
        assert time.monotonic() < deadline
        shop.answer("early", 0, 1, "i1")
        try:
            shop.facts.append(shop._inbox.get(timeout=0.2))
        except queue.Empty:
            continue


def test_hands_over_the_lists_of_the_followed_user_alone(shop: Shop) -> None:
    until_read_along(shop)
    shop.answer("a", 1, 5, "i1", "i2")
    shop.answer("b", 2, 5, "i3")
    shop.answer("early", 3, 6, "i4")
    shop.wait_for(Answered("early", 3, (Place("i4", 1.5, "recurrent"),)))
    assert not [fact for fact in shop.facts if isinstance(fact, Answered) and fact.user_id != "early"]
    # What came lately is handed over when somebody turns to a user.
    shop.follower.follow("a")
    shop.wait_for(Answered("a", 1, (Place("i1", 1.5, "recurrent"), Place("i2", 1.5, "recurrent"))))


def test_finds_the_first_list_with_an_item_also_when_it_came_before_anybody_asked(shop: Shop) -> None:
    until_read_along(shop)
    shop.answer("a", 1, 900, "i9")  # before the launch
    shop.answer("a", 2, 1200, "i9")
    shop.answer("a", 3, 1300, "i9")
    shop.answer("early", 4, 1400, "i1")
    shop.wait_for(Answered("early", 4, (Place("i1", 1.5, "recurrent"),)))
    shop.follower.watch("i9", 1000)
    shop.wait_for(FirstShown("i9", 1200))
    shop.follower.watch("i10", 1000)
    shop.answer("a", 5, 1500, "i100", "i1")
    shop.answer("a", 6, 1600, "i10")
    shop.answer("a", 7, 1700, "i10")
    shop.wait_for(FirstShown("i10", 1600))
    shop.answer("early", 8, 1800, "i1")
    shop.wait_for(Answered("early", 8, (Place("i1", 1.5, "recurrent"),)))
    assert [fact for fact in shop.facts if isinstance(fact, FirstShown)] == [
        FirstShown("i9", 1200),
        FirstShown("i10", 1600),
    ]


def test_passes_over_what_is_no_record(shop: Shop) -> None:
    until_read_along(shop)
    for topic in (shop.settings.topics.events[0], shop.settings.topics.recommendations):
        for value in (b"\xff", b"{}", b"[]", b'{"user_id":"early"}'):
            shop.send(topic, "early", value)
    shop.send(shop.settings.topics.item_catalog, "i2", b"not json")
    shop.view("late", "i7")
    shop.answer("early", 9, 10, "i1")
    shop.wait_for(Answered("early", 9, (Place("i1", 1.5, "recurrent"),)))
