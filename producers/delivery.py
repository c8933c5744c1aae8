"""Records into Kafka, every delivery report checked: what counts as acknowledged was acknowledged."""

import time
from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient

_DEFAULTS: dict[str, str | int | float] = {
    "linger.ms": 5,
    # A long queue fills up partition by partition, and what stood minutes apart in a file gets one Kafka timestamp.
    # With a short one partitions stay side by side, so that a reader can put a backlog into the order of time again.
    "queue.buffering.max.messages": 1000,
    "compression.type": "lz4",
    "message.timeout.ms": 30_000,
    # librdkafka writes to stderr by itself; what matters of it comes through the error callback, once and in our words.
    "log_level": 2,
}
_GUARANTEES: dict[str, str | int | float] = {
    "acks": "all",
    "enable.idempotence": True,
    # That of Java clients and of the recommender; librdkafka's own default would send users away from their home.
    "partitioner": "murmur2_random",
}


class BrokerUnavailable(ConnectionError):
    """No broker answered, or the topic is not there; the message is the one line to show."""


class DeliveryFailed(RuntimeError):
    """Records were not acknowledged. They may or may not stand on the topic.

    Attributes:
        acknowledged: Records that were, since the producer was made.
        undelivered: Records that were not, since the last flush.
        first_error: What the broker or the client said first.
    """

    def __init__(self, acknowledged: int, undelivered: int, first_error: str) -> None:
        super().__init__(f"{undelivered} not acknowledged ({first_error}), {acknowledged} acknowledged")
        self.acknowledged = acknowledged
        self.undelivered = undelivered
        self.first_error = first_error


def existing_topics(config: Mapping[str, str | int | float], timeout_seconds: float = 10.0) -> frozenset[str]:
    """Return the topics of the cluster; asking for one by name could create it.

    Raises:
        BrokerUnavailable: Nobody answered in time.
    """
    reasons: list[str] = []
    quiet: dict[str, Any] = {"log_level": 2, "error_cb": lambda error: reasons.append(error.str())}
    client = AdminClient({**config, **quiet})
    try:
        return frozenset(client.list_topics(timeout=timeout_seconds).topics)
    except KafkaException as error:
        client.poll(0)
        reason = reasons[0] if reasons else error.args[0].str()
        raise BrokerUnavailable(
            f"no answer from Kafka at {config.get('bootstrap.servers')} within {timeout_seconds:g} s: {reason}"
        ) from error


class Delivery:
    """An idempotent producer that counts.

    Attributes:
        sent: Records handed over.
        acknowledged: Records that all in-sync replicas have.
        failed: Records that were given up.
        first_error: Why the first of those was.
    """

    def __init__(self, config: Mapping[str, str | int | float]) -> None:
        self.sent = 0
        self.acknowledged = 0
        self.failed = 0
        self.first_error: str | None = None
        self._told = 0
        self._complaint: str | None = None
        self._producer = Producer(
            {**_DEFAULTS, **config, **_GUARANTEES, "on_delivery": self._delivered, "error_cb": self._complained}
        )

    @property
    def pending(self) -> int:
        """Records without a report so far."""
        return self.sent - self.acknowledged - self.failed

    def send(self, topic: str, key: bytes, value: bytes | None) -> None:
        """Hand a record over; wait for room where the queue is full.

        Raises:
            DeliveryFailed: The client cannot send at all (a fatal error, a record beyond its limit).
        """
        while True:
            try:
                self._producer.produce(topic, value, key)
            except BufferError:
                # Room comes with reports: records leave the queue acknowledged, or given up after message.timeout.ms.
                self._producer.poll(0.1)
            except KafkaException as error:
                undelivered = 1 + self.failed + self.pending
                raise DeliveryFailed(self.acknowledged, undelivered, error.args[0].str()) from error
            else:
                self.sent += 1
                self._producer.poll(0)
                return

    def poll(self) -> None:
        """Take in the reports that have arrived."""
        self._producer.poll(0)

    def flush(self, timeout_seconds: float = 30.0) -> None:
        """Wait until every record has its report.

        Raises:
            DeliveryFailed: Records sent since the last flush were given up, or have no report when time is over.
        """
        deadline = time.monotonic() + timeout_seconds
        # In slices, so that a signal is seen between them.
        while self._producer.flush(min(0.2, max(0.0, deadline - time.monotonic()))) and time.monotonic() < deadline:
            pass
        undelivered = self.failed - self._told + self.pending
        self._told = self.failed
        if undelivered:
            reason = self.first_error or self._complaint or f"no report within {timeout_seconds:g} s"
            raise DeliveryFailed(self.acknowledged, undelivered, reason)

    def _delivered(self, error: KafkaError | None, _message: Message) -> None:
        if error is None:
            self.acknowledged += 1
            return
        self.failed += 1
        if self.first_error is None:
            detail = f"; {self._complaint}" if self._complaint else ""
            self.first_error = error.str() + detail

    def _complained(self, error: Any) -> None:
        self._complaint = error.str()
