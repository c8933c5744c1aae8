"""Reads along: events, answers and titles, on a thread of its own."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaException, Message, TopicPartition

from stream.live.facts import Acted, Answered, Fact, FirstShown, Place, Titled, Trouble
from stream.settings import Settings
from stream.topics.expected import partition_counts

_CHUNK = 500
_POLL_SECONDS = 0.1
_REMEMBERED = 4_000
"""Answers: an item that is launched is looked for in those too that came before anybody knew its id."""


class _Item(msgspec.Struct):
    item_id: str
    score: float
    source: str


class _Trigger(msgspec.Struct):
    offset: int


class _List(msgspec.Struct):
    user_id: str
    generated_at: int
    items: list[_Item]
    trigger: _Trigger | None = None


class _Event(msgspec.Struct):
    user_id: str
    behavior: str
    item_id: str | None = None


class _Entry(msgspec.Struct):
    title: str | None = None


_decode_list = msgspec.json.Decoder(_List).decode
_decode_event = msgspec.json.Decoder(_Event).decode
_decode_entry = msgspec.json.Decoder(_Entry).decode


class _Answer(NamedTuple):
    user_id: bytes
    value: bytes


class _Watched:
    """An item that somebody waits for."""

    def __init__(self, item_id: str, since_ms: int) -> None:
        self.item_id = item_id
        self._since_ms = since_ms
        # As it stands in a list: a plain search through the bytes spares decoding every answer.
        self._needle = b'"item_id":' + msgspec.json.encode(item_id)

    def shown_at(self, value: bytes) -> int | None:
        """Return when a list was made, if this item stands in it and it is new enough."""
        if self._needle not in value or (record := _read_list(value)) is None or record.generated_at < self._since_ms:
            return None
        return record.generated_at if any(item.item_id == self.item_id for item in record.items) else None


class Follower:
    """Reads the topics from now on (titles from the beginning) and hands over what the view wants to know.

    Args:
        settings: How to reach Kafka, and what the topics are called.
        hand_over: Takes each fact; called on the follower's thread, and on that of `watch` and `follow`.
    """

    def __init__(self, settings: Settings, hand_over: Callable[[Fact], None]) -> None:
        self._settings = settings
        self._hand_over = hand_over
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._answers: deque[_Answer] = deque(maxlen=_REMEMBERED)
        self._followed: bytes | None = None
        self._watched: list[_Watched] = []
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self, timeout_seconds: float = 3.0) -> None:
        """Stop reading; a broker that is gone is not waited for."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)

    def follow(self, user_id: str) -> None:
        """Hand over this user's lists from now on, and those that came lately."""
        with self._lock:
            self._followed = user_id.encode()
            lately = [answer for answer in self._answers if answer.user_id == self._followed]
        for answer in lately:
            self._hand_over_list(answer.value)

    def watch(self, item_id: str, since_ms: int) -> None:
        """Hand over when the first list is made that this item stands in; lists of before `since_ms` do not count."""
        watched = _Watched(item_id, since_ms)
        with self._lock:
            first = next((at for answer in self._answers if (at := watched.shown_at(answer.value)) is not None), None)
            if first is None:
                self._watched.append(watched)
        if first is not None:
            self._hand_over(FirstShown(item_id, first))

    def _run(self) -> None:
        try:
            consumer = Consumer(
                {
                    **self._settings.librdkafka(),
                    "group.id": f"{self._settings.app_id}-view",  # demanded by the client; nothing is committed
                    "enable.auto.commit": False,
                    "fetch.wait.max.ms": 50,
                    "log_level": 0,
                }
            )
            consumer.assign(self._starts())
            try:
                while not self._stop.is_set():
                    for message in consumer.consume(_CHUNK, _POLL_SECONDS):
                        self._take(message)
            finally:
                consumer.close()
        except KafkaException as error:
            self._hand_over(Trouble(f"the view cannot read along: {error.args[0].str()}"))

    def _starts(self) -> list[TopicPartition]:
        names, counts = self._settings.topics, partition_counts(self._settings)
        starts = ((names.item_catalog, OFFSET_BEGINNING), (names.events[0], OFFSET_END))
        return [
            TopicPartition(topic, partition, offset)
            for topic, offset in (*starts, (names.recommendations, OFFSET_END))
            for partition in range(counts[topic])
        ]

    def _take(self, message: Message) -> None:
        value: Any = message.value()
        if message.error() is not None or value is None:
            return
        try:
            if message.topic() == self._settings.topics.recommendations:
                self._take_answer(_Answer(_bytes(message.key()), value))
            elif message.topic() == self._settings.topics.item_catalog:
                if title := _decode_entry(value).title:
                    self._hand_over(Titled(_bytes(message.key()).decode(), title))
            elif (event := _decode_event(value)).item_id is not None:
                self._hand_over(Acted(event.user_id, event.item_id, event.behavior, int(message.offset() or 0)))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            pass  # somebody else writes here too; it is the worker's to reject, and the view's to pass over

    def _take_answer(self, answer: _Answer) -> None:
        with self._lock:
            self._answers.append(answer)
            is_followed = answer.user_id == self._followed
            shown = [(item, at) for item in self._watched if (at := item.shown_at(answer.value)) is not None]
            for item, _ in shown:
                self._watched.remove(item)
        if is_followed:
            self._hand_over_list(answer.value)
        for item, at in shown:
            self._hand_over(FirstShown(item.item_id, at))

    def _hand_over_list(self, value: bytes) -> None:
        if (record := _read_list(value)) is not None:
            places = tuple(Place(item.item_id, item.score, item.source) for item in record.items)
            offset = -1 if record.trigger is None else record.trigger.offset
            self._hand_over(Answered(record.user_id, offset, places))


def _read_list(value: bytes) -> _List | None:
    """Decode a list; somebody else may write to the topic too, and what they write is passed over."""
    try:
        return _decode_list(value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _bytes(key: str | bytes | None) -> bytes:
    return key.encode() if isinstance(key, str) else key or b""
