"""Batches into Kafka: publish with one flush, then commit states and offsets in one transaction.

`docs/protocol.md` says what a kill between any two of these steps leaves behind. Everything here blocks and runs off
the event loop; `Publisher` and `Committer` are each used by one thread at a time.
"""

import logging
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import monotonic
from typing import Any, NamedTuple, TypeVar

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from stream.errors import StartupError
from stream.intake import Assignment, Partition
from stream.settings import Settings
from stream.topics.permissions import may_not_transact

logger = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 1_000_000
RETRY_BACKOFF_MS = 2
"""With librdkafka's default of 100 ms, each transaction waits that long for its partitions to be added."""

TRANSACTION_RECOVERY = {
    "reconnect.backoff.max.ms": 500,
    # With the default, librdkafka 2.16 makes its brokers anew when all were away, but goes on asking an old one for the
    # group: the offsets are never sent, and the call never returns.
    "metadata.recovery.strategy": "none",
}
"""Of every transactional producer: how it outlives a broker that goes away."""

_Result = TypeVar("_Result")


class DeliveryFailed(RuntimeError):
    """An output was not acknowledged: the process must end, nothing of its batch is committed."""


class GenerationOver(RuntimeError):
    """The group has moved on: the batch is discarded, its events are read again by whoever owns them now."""


class Output(NamedTuple):
    """One record to publish. `partition` None lets the key choose."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] | None = None
    partition: int | None = None


class StateChange(NamedTuple):
    """A user's new state for the changelog; value None is a tombstone."""

    partition: int
    key: bytes
    value: bytes | None


UNASSIGNED = -1
"""The partition that librdkafka takes for "let the key choose"."""


def producer_config(settings: Settings) -> dict[str, str | int | float]:
    """Return what both producers share: acknowledged by all replicas, in order, without duplicates, murmur2."""
    return {
        **settings.librdkafka(),
        "acks": "all",
        "enable.idempotence": True,
        "partitioner": "murmur2_random",
        "linger.ms": 2,
        "message.max.bytes": MAX_MESSAGE_BYTES,
        "queue.buffering.max.messages": 1_000_000,
        "message.timeout.ms": int(settings.kafka.delivery_timeout_seconds * 1000),
        **settings.kafka.properties,
    }


class _Deliveries:
    """Failed deliveries of one producer; the first is kept.

    A success makes no report: a record that is neither left over after a flush nor reported is delivered. Reports of
    successes, each with a message object and a call into Python, took a third of what producing costs.
    """

    def __init__(self) -> None:
        self.error: KafkaError | None = None

    @property
    def config(self) -> dict[str, Any]:
        """What a producer is told, so that it reports here."""
        return {"on_delivery": self._report, "delivery.report.only.error": True}

    def _report(self, error: KafkaError | None, _: Message) -> None:
        if error is not None and self.error is None:
            self.error = error

    def check(self, what: str, left: int) -> None:
        if left or self.error is not None:
            raise DeliveryFailed(f"{what}: {left} records undelivered, first error: {self.error}")


def _produce(producer: Producer, outputs: Iterable[Output]) -> None:
    produce = producer.produce
    for topic, key, value, headers, partition in outputs:
        where = UNASSIGNED if partition is None else partition
        while True:
            try:
                if headers:
                    produce(topic, value, key, where, headers=list(headers))
                else:
                    produce(topic, value, key, where)
                break
            except BufferError:  # the local queue is full: let it drain
                producer.poll(0.1)
    producer.poll(0)


class Publisher:
    """The idempotent producer of recommendations, rejects and examples."""

    def __init__(self, settings: Settings) -> None:
        self._deliveries = _Deliveries()
        self._producer = Producer({**producer_config(settings), **self._deliveries.config})
        self._timeout = settings.kafka.delivery_timeout_seconds + 5

    def publish(self, outputs: Iterable[Output]) -> None:
        """Deliver all outputs: one flush, every failure noticed.

        Raises:
            DeliveryFailed: Something was not acknowledged.
        """
        try:
            _produce(self._producer, outputs)
        except KafkaException as error:
            raise DeliveryFailed(f"an output could not be queued: {error.args[0]}") from error
        self._deliveries.check("outputs", self._producer.flush(self._timeout))

    def close(self, timeout_seconds: float) -> None:
        """Give what is queued a last chance."""
        self._producer.flush(timeout_seconds)


class Committer:
    """The transactional producer of states and offsets.

    Args:
        settings: Of the worker.
        instance_id: Makes the transactional id: a second process with the same one fences the first.
    """

    def __init__(self, settings: Settings, instance_id: str) -> None:
        self._settings = settings
        self._instance_id = instance_id
        self._changelog = settings.user_state_topic
        self._deliveries = _Deliveries()
        self._timeout = settings.kafka.delivery_timeout_seconds + 5
        self._producer = Producer(
            {
                **producer_config(settings),
                "transactional.id": f"{settings.app_id}-{instance_id}",
                "transaction.timeout.ms": int(settings.kafka.transaction_timeout_seconds * 1000),
                "message.timeout.ms": int(settings.kafka.transaction_timeout_seconds * 1000),
                "retry.backoff.ms": RETRY_BACKOFF_MS,
                **TRANSACTION_RECOVERY,
                **settings.kafka.properties,
                **self._deliveries.config,
            }
        )

    def start(self) -> None:
        """Fence predecessors of this instance and abort what they left open.

        Raises:
            StartupError: This user may not use the transactional id.
            DeliveryFailed: The broker did not let this producer begin.
        """
        try:
            _retried(self._producer.init_transactions, 30.0)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
                raise StartupError(may_not_transact(f"{self._settings.app_id}-{self._instance_id}")) from error
            raise DeliveryFailed(f"transactions cannot begin: {error.args[0]}") from error

    def commit(
        self, changes: Iterable[StateChange], positions: Mapping[Partition, int], assignment: Assignment
    ) -> None:
        """Make states and offsets durable together, or neither.

        Args:
            changes: New states of the touched users.
            positions: For each source partition, the offset to read next.
            assignment: Under which the events were fetched.

        Raises:
            GenerationOver: The group refused the offsets; the transaction is aborted.
            DeliveryFailed: Anything else; the transaction is aborted where that is still possible.
        """
        try:
            self.begin()
            self.write_changelog(changes)
            if positions:
                self.send_offsets(positions, assignment)
            self.end()
        except (KafkaException, DeliveryFailed) as error:
            self._give_up(error)

    def begin(self) -> None:
        """Begin the transaction."""
        self._producer.begin_transaction()

    def write_changelog(self, changes: Iterable[StateChange]) -> None:
        """Write the new states and wait until the broker has them: offsets must not be sent before."""
        _produce(
            self._producer,
            (Output(self._changelog, change.key, change.value, None, change.partition) for change in changes),
        )
        self._deliveries.check("user states", self._producer.flush(self._timeout))

    def send_offsets(self, positions: Mapping[Partition, int], assignment: Assignment) -> None:
        """Add the offsets, with the membership under which the events were fetched."""
        offsets = [TopicPartition(partition.topic, partition.number, offset) for partition, offset in positions.items()]
        metadata = group_metadata(self._settings.app_id, assignment, self._instance_id)
        _retried(self._producer.send_offsets_to_transaction, offsets, metadata)

    def end(self) -> None:
        """Commit: from here on the batch has happened."""
        _retried(self._producer.commit_transaction)

    def _give_up(self, error: Exception) -> None:
        reason = error.args[0] if isinstance(error, KafkaException) else None
        over = reason is not None and reason.code() in _GENERATION_ERRORS and not reason.fatal()
        if reason is None or reason.txn_requires_abort() or over:
            # A transaction left open would hold up the successor's recovery until it times out.
            try:
                _retried(self._producer.abort_transaction)
            except KafkaException as abort_error:
                raise DeliveryFailed(f"abort after {error}: {abort_error.args[0]}") from error
        if over and reason is not None:
            raise GenerationOver(reason.name()) from error
        raise DeliveryFailed(f"transaction: {error}") from error


_GENERATION_ERRORS = {
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
}


def group_metadata(group: str, assignment: Assignment, instance_id: str | None) -> bytes:
    """Build the consumer group metadata that librdkafka takes from a consumer of its own.

    The format is librdkafka's (rdkafka_cgrp.c, `rd_kafka_consumer_group_metadata_write`); the generation is in native
    byte order. Faust's consumer is aiokafka's, so there is no librdkafka consumer to take it from.

    >>> group_metadata("g", Assignment(1, "m", frozenset()), None)[:7]
    b'CGMDv2:'
    """
    instance = b"\x01" if instance_id is None else b"\x00" + instance_id.encode() + b"\x00"
    head = b"CGMDv2:" + struct.pack("=i", assignment.generation)
    return head + group.encode() + b"\x00" + assignment.member_id.encode() + b"\x00" + instance


def _retried(call: Callable[..., _Result], *arguments: object, patience_seconds: float = 60.0) -> _Result:
    deadline = monotonic() + patience_seconds
    while True:
        try:
            return call(*arguments)
        except KafkaException as error:
            if not error.args[0].retriable() or monotonic() > deadline:
                raise
            logger.warning("retry call=%s error=%s", getattr(call, "__name__", call), error.args[0])
