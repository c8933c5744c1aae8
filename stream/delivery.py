"""Batches into Kafka: publish with one flush, then commit states and offsets in one transaction.

`docs/protocol.md` says what a kill between any two of these steps leaves behind. Everything here blocks and runs off
the event loop; `Publisher` and `Committer` are each used by one thread at a time.
"""

import struct
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import monotonic
from typing import Any, NamedTuple, NoReturn, TypeVar

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from stream.client_errors import FENCED, GROUP_MOVED_ON, client_errors, is_passing, retried
from stream.errors import StartupError
from stream.intake import Assignment, Partition
from stream.settings import Settings
from stream.topics.expected import ANSWERS_COMPRESSION
from stream.topics.permissions import may_not_transact

MAX_MESSAGE_BYTES = 1_000_000
RETRY_BACKOFF_MS = 2
"""With librdkafka's default of 100 ms, each transaction waits that long for its partitions to be added."""

TRANSACTION_RECOVERY: dict[str, str | int | float] = {
    "reconnect.backoff.max.ms": 500,
    # With the default, librdkafka 2.16 makes its brokers anew when all were away, but goes on asking an old one for the
    # group: the offsets are never sent, and the call never returns.
    "metadata.recovery.strategy": "none",
}
"""Of every transactional producer: how it outlives a broker that goes away."""

_Result = TypeVar("_Result")


class DeliveryFailed(RuntimeError):
    """An output was not acknowledged: the process must end, nothing of its batch is committed."""


class Outage(DeliveryFailed):
    """The broker was away for too long: whether what was under way has happened is not known here.

    Everything uncommitted has to be dropped, and the truth to be read from Kafka before anything else is done. The
    client that failed is not used again: the next call makes a new one.
    """


class Fenced(DeliveryFailed):
    """Another process took over this worker's instance id: this one must end."""

    exit_code = 75


class GenerationOver(RuntimeError):
    """The group has moved on: the batch is discarded, its events are read again by whoever owns them now."""


class GenerationKept(RuntimeError):
    """The group has given the same generation once more: the process has to start again.

    By their labels, records that were fetched before could not be told from those that come now.
    """


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
        "log_level": 2,  # errors come as exceptions; while the broker is away, the watchdog tells of it
        **settings.kafka.properties,
    }


def publisher_config(settings: Settings) -> dict[str, str | int | float]:
    """Return what the producer of answers is told: to compress as their topic is compressed.

    What comes otherwise the broker compresses once more, partition by partition, before it acknowledges.
    """
    return {"compression.type": ANSWERS_COMPRESSION, **producer_config(settings)}


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
            kind = Outage if self.error is None or is_passing(self.error) else DeliveryFailed
            raise kind(f"{what}: {left} records undelivered, first error: {self.error}")


def produce_all(producer: Producer, outputs: Iterable[Output]) -> None:
    """Queue all outputs; whoever calls flushes."""
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


def _connect(config: dict[str, str | int | float]) -> tuple[Producer, _Deliveries]:
    """Return a new producer, and where its failed deliveries are told."""
    deliveries = _Deliveries()
    return Producer({**config, **deliveries.config}), deliveries


class Publisher:
    """The idempotent producer of recommendations, rejects and examples."""

    def __init__(self, settings: Settings) -> None:
        self._config = publisher_config(settings)
        self._producer, self._deliveries = _connect(self._config)
        self._timeout = settings.kafka.delivery_timeout_seconds + 5

    def publish(self, outputs: Iterable[Output]) -> None:
        """Deliver all outputs: one flush, every failure noticed.

        Raises:
            Outage: Something was not acknowledged in time, which it may be all the same.
            DeliveryFailed: Something was refused.
        """
        try:
            try:
                with client_errors():
                    produce_all(self._producer, outputs)
                    left = self._producer.flush(self._timeout)
            except KafkaException as error:
                kind = Outage if is_passing(error.args[0]) else DeliveryFailed
                raise kind(f"outputs: {error.args[0]}") from error
            self._deliveries.check("outputs", left)
        except Outage:
            _discard(self._producer)
            self._producer, self._deliveries = _connect(self._config)
            raise

    def close(self, timeout_seconds: float) -> None:
        """Give what is queued a last chance."""
        self._producer.flush(timeout_seconds)


class Committer:
    """The transactional producer of states and offsets.

    Attributes:
        unsettled: Since `start`, `end_hanging` has not been called: what a predecessor left open may hang.

    Args:
        settings: Of the worker.
        instance_id: Makes the transactional id: a second process with the same one fences the first.
    """

    def __init__(self, settings: Settings, instance_id: str) -> None:
        self._settings = settings
        self._instance_id = instance_id
        self._changelog = settings.user_state_topic
        self._timeout = settings.kafka.delivery_timeout_seconds + 5
        self._patience = settings.kafka.transaction_timeout_seconds
        self._broken = False
        self.unsettled = False
        self._config: dict[str, str | int | float] = {
            **producer_config(settings),
            "transactional.id": f"{settings.app_id}-{instance_id}",
            "transaction.timeout.ms": int(settings.kafka.transaction_timeout_seconds * 1000),
            "message.timeout.ms": int(settings.kafka.transaction_timeout_seconds * 1000),
            "retry.backoff.ms": RETRY_BACKOFF_MS,
            **TRANSACTION_RECOVERY,
            **settings.kafka.properties,
        }
        self._producer, self._deliveries = _connect(self._config)

    def start(self) -> None:
        """Fence predecessors of this instance, and decide what they left open: after it, nothing of theirs can happen.

        Raises:
            StartupError: This user may not use the transactional id.
            Outage: The broker did not answer.
            DeliveryFailed: It refused.
        """
        try:
            retried(self._producer.init_transactions, 5.0, patience_seconds=30.0)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
                raise StartupError(may_not_transact(f"{self._settings.app_id}-{self._instance_id}")) from error
            kind = Outage if is_passing(error.args[0]) else DeliveryFailed
            raise kind(f"transactions cannot begin: {error.args[0]}") from error
        self.unsettled = True

    def recover(self) -> None:
        """Be a usable client again after an outage, with nothing of the old one open; whoever reads states comes after.

        The old client is a predecessor of this instance like any other. Nothing happens where there was no outage.

        Raises:
            Outage: The broker is still away.
            DeliveryFailed: It refused.
        """
        if not self._broken:
            return
        _discard(self._producer)
        self._producer, self._deliveries = _connect(self._config)
        self.start()
        self._broken = False

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
            Outage: What became of the transaction is not known; `recover` finds out.
            Fenced: Another process has taken over.
            DeliveryFailed: Anything else; the transaction is aborted where that is still possible.
        """
        if self._broken:
            raise Outage("the transaction before this one is undecided")
        began = monotonic()
        try:
            with client_errors():
                self.begin()
                self.write_changelog(changes)
                if positions:
                    self.send_offsets(positions, assignment)
                self.end()
        except (KafkaException, DeliveryFailed) as error:
            self._fail(error, monotonic() - began)

    def prove(self, assignment: Assignment) -> None:
        """Find out whether this is still the one process with its instance id, by a transaction that is aborted.

        Raises:
            Fenced: It is not.
            Outage: The broker does not say.
        """
        began = monotonic()
        try:
            with client_errors():
                self.begin()
                self.send_offsets({next(iter(assignment.partitions)): 0}, assignment)
                self._retried(self._producer.abort_transaction)
        except KafkaException as error:
            try:
                self._give_up(error, monotonic() - began)
            except GenerationOver:
                pass  # the transactional id was accepted before the group was asked

    def end_hanging(self, partitions: Iterable[int]) -> None:
        """End what is open of this worker's own, though the broker counts it as decided: states, and offsets.

        After `start` nothing of it should be, and yet it may: a broker that comes back can note a transaction as
        decided without having written so into its partitions (`docs/protocol.md`), and nobody then reads committed
        records beyond it, or the group's offsets. The marker of a further transaction of the same producer is for all
        that it has open there. That one is aborted: its commit would make visible what was never committed.

        Args:
            partitions: Numbers of changelog partitions.

        Raises:
            Outage: The broker does not answer.
            Fenced: Another process has taken over.
            DeliveryFailed: It refused.
        """
        began = monotonic()
        nothing = (Output(self._changelog, b"", None, None, partition) for partition in partitions)
        somewhere = TopicPartition(self._settings.topics.events[0], 0, 0)
        no_member = group_metadata(self._settings.app_id, Assignment(-1, "", frozenset()), None)
        try:
            with client_errors():
                self.begin()
                produce_all(self._producer, nothing)
                self._deliveries.check("nothing", self._producer.flush(self._timeout))
                self._retried(self._producer.send_offsets_to_transaction, [somewhere], no_member)
                self._retried(self._producer.abort_transaction)
        except (KafkaException, DeliveryFailed) as error:
            self._fail(error, monotonic() - began)
        self.unsettled = False

    def begin(self) -> None:
        """Begin the transaction."""
        self._producer.begin_transaction()

    def write_changelog(self, changes: Iterable[StateChange]) -> None:
        """Write the new states and wait until the broker has them: offsets must not be sent before."""
        produce_all(
            self._producer,
            (Output(self._changelog, change.key, change.value, None, change.partition) for change in changes),
        )
        self._deliveries.check("user states", self._producer.flush(self._timeout))

    def send_offsets(self, positions: Mapping[Partition, int], assignment: Assignment) -> None:
        """Add the offsets, with the membership under which the events were fetched."""
        offsets = [TopicPartition(partition.topic, partition.number, offset) for partition, offset in positions.items()]
        metadata = group_metadata(self._settings.app_id, assignment, self._instance_id)
        self._retried(self._producer.send_offsets_to_transaction, offsets, metadata)

    def end(self) -> None:
        """Commit: from here on the batch has happened."""
        self._retried(self._producer.commit_transaction)

    def _retried(self, call: Callable[..., _Result], *arguments: object) -> _Result:
        return retried(call, *arguments, self._patience, patience_seconds=self._patience)

    def _fail(self, error: Exception, seconds: float) -> NoReturn:
        """As `_give_up`, and remember that what became of a transaction is not known."""
        try:
            self._give_up(error, seconds)
        except Outage:
            self._broken = True
            raise

    def _give_up(self, error: Exception, seconds: float) -> NoReturn:
        """Raise what the failure of a transaction that began so many seconds ago comes to."""
        if isinstance(error, Outage):
            raise error
        reason = error.args[0] if isinstance(error, KafkaException) else None
        over = reason is not None and reason.code() in GROUP_MOVED_ON and not reason.fatal()
        if reason is not None and not over:
            self._refuse_to_abort(reason, seconds, error)
        if reason is None or over or reason.txn_requires_abort():
            # A transaction left open would hold up the successor's recovery until it times out.
            try:
                with client_errors():
                    self._retried(self._producer.abort_transaction)
            except KafkaException as abort_error:
                # Records of a fenced producer are only told to be purged: here it says why.
                self._refuse_to_abort(abort_error.args[0], seconds, error)
                raise DeliveryFailed(f"abort after {error}: {abort_error.args[0]}") from error
        if over and reason is not None:
            raise GenerationOver(reason.name()) from error
        raise DeliveryFailed(f"transaction: {error}") from error

    def _refuse_to_abort(self, reason: KafkaError, seconds: float, cause: Exception) -> None:
        """Raise where the transaction is another's, or nobody's, to decide."""
        if reason.code() in FENCED:
            # After its timeout the broker aborts a transaction by fencing whoever began it. Sooner, it was a twin.
            if seconds >= self._patience:
                raise Outage(f"the broker gave the transaction up after {seconds:.0f} s") from cause
            raise Fenced(f"another process has taken over instance {self._instance_id}: {reason.str()}") from cause
        if is_passing(reason):
            raise Outage(f"transaction: {reason}") from cause


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


def _discard(producer: Producer) -> None:
    """Let go of a client whose broker is away: its end may take a while, and is waited for by nobody."""
    producer.purge()
    threading.Thread(target=producer.flush, args=(0,), name="discarded-client", daemon=True).start()
