"""Reading a topic outside any group: for people who look, and for tools."""

import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from stream.errors import StartupError
from stream.settings import Settings
from stream.topics.cluster import ANSWER_SECONDS, Cluster

CHUNK = 1000
POLL_SECONDS = 0.2
_TRANSIENT = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._TRANSPORT,
)
Offsets = Mapping[int, int]
"""Partition to offset."""


class TopicReader:
    """Reads committed records of one topic, from given offsets; commits nothing, joins nothing."""

    def __init__(self, settings: Settings, topic: str) -> None:
        """Connect.

        Raises:
            StartupError: No Kafka answers, or it has no such topic.
        """
        self.topic = resolve_name(settings, topic)
        facts = Cluster(settings).facts([self.topic]).topics
        if self.topic not in facts:
            raise StartupError(f"topic {self.topic} does not exist (or this user may not see it)")
        self._partitions = range(facts[self.topic].partitions)
        self._errors: list[KafkaError] = []
        config: dict[str, Any] = {
            **settings.librdkafka(),
            "group.id": f"{settings.app_id}-reader",  # demanded by the client; nothing is ever committed under it
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "log_level": 0,
        }
        self._consumer = Consumer(config)

    def bounds(self) -> dict[int, tuple[int, int]]:
        """Ask each partition for its first offset and the one after its last record."""
        return {partition: self._bounds_of(partition) for partition in self._partitions}

    def _bounds_of(self, partition: int) -> tuple[int, int]:
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            try:
                return self._consumer.get_watermark_offsets(
                    TopicPartition(self.topic, partition), timeout=ANSWER_SECONDS
                )
            except KafkaException as error:
                # A topic that was made a moment ago, or a leader that is moving.
                if error.args[0].code() not in _TRANSIENT or time.monotonic() > deadline:
                    raise StartupError(f"topic {self.topic} cannot be read: {error.args[0].str()}") from error
                time.sleep(POLL_SECONDS)

    def read_to_end(self, starts: Offsets, ends: Offsets) -> Iterator[Message]:
        """Yield the records from `starts` on up to, not including, `ends`; those of one partition in order."""
        open_partitions = {p for p, start in starts.items() if start < ends[p]}
        self._assign({partition: starts[partition] for partition in open_partitions})
        last_progress = time.monotonic()
        while open_partitions:
            messages = self._consumer.consume(CHUNK, POLL_SECONDS)
            last_progress = time.monotonic() if messages else last_progress
            if time.monotonic() - last_progress > ANSWER_SECONDS:
                raise StartupError(f"topic {self.topic} could not be read to its end within {ANSWER_SECONDS:g} s")
            for message in messages:
                partition, offset = int(message.partition() or 0), int(message.offset() or 0)
                if _is_record(message):
                    if offset < ends[partition]:
                        yield message
                    offset += 1
                # The last offsets may be a transaction's marks or compacted away: then only the end of file tells.
                if offset >= ends[partition]:
                    open_partitions.discard(partition)

    def follow(self, starts: Offsets) -> Iterator[Message | None]:
        """Yield records as they come, without end; None whenever there is a pause."""
        self._assign(starts)
        while True:
            messages = [m for m in self._consumer.consume(CHUNK, POLL_SECONDS) if _is_record(m)]
            yield from messages
            if not messages:
                yield None

    def close(self) -> None:
        """Disconnect."""
        self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _assign(self, starts: Offsets) -> None:
        self._consumer.assign([TopicPartition(self.topic, partition, start) for partition, start in starts.items()])


def _is_record(message: Message) -> bool:
    error = message.error()
    if error is None:
        return True
    if error.code() == KafkaError._PARTITION_EOF or error.retriable():
        return False
    raise StartupError(f"topic {message.topic()} cannot be read: {error.str()}")


def as_bytes(content: str | bytes | None) -> bytes | None:
    """Take a key or value as the bytes that it is: the client's types allow text, which this client never gives."""
    return content.encode() if isinstance(content, str) else content


def headers_of(message: Message) -> list[tuple[str, bytes | None]]:
    """Give a record's headers in their order."""
    headers: Any = message.headers() or []
    return [(str(name), as_bytes(content)) for name, content in headers]


def resolve_name(settings: Settings, topic: str) -> str:
    """Take a topic by its plain name, too, where this application calls it differently.

    >>> resolve_name(Settings(app_id="shop"), "training-examples")
    'shop-training-examples'
    >>> resolve_name(Settings(), "anything-else")
    'anything-else'
    """
    names = settings.topics
    plain = {
        "user-events": names.events[0],
        "recommendations": names.recommendations,
        "rejected-events": names.rejected_events,
        "item-catalog": names.item_catalog,
        "user-profiles": names.user_profiles,
        "erasure-requests": names.erasure_requests,
        "training-examples": settings.training_examples_topic,
        "model-updates": settings.model_updates_topic,
        "user-state": settings.user_state_topic,
    }
    return plain.get(topic, topic)
