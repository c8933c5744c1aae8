"""The log of examples as the trainer reads it: the one member of a group of its own, with positions in transactions.

The position that counts stands in the checkpoint. The group and the transactional id are there so that two trainers
find out about each other wherever they run.
"""

import logging
import os
import socket
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, NamedTuple, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from stream.positions import ANSWER_SECONDS, NotCommitted, Positions
from stream.settings import Settings
from stream.topics.permissions import may_not_transact
from stream.trainer_errors import TrainerError, TrainerFenced, TrainerRefused

logger = logging.getLogger(__name__)

HEARTBEAT_MS = 3000
DISPLACED_SECONDS = 10.0
"""How long, beyond a session, the partition may be another member's: one that was replaced and has come back for a
moment keeps it until its session ends."""
LOGGED_EVERY_SECONDS = 10.0

_REFUSALS = {
    KafkaError._AUTHENTICATION,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
}
_OUT_OF_RANGE = {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE}
_Result = TypeVar("_Result")


class Stopped(Exception):
    """A stop was asked for while the broker was being waited for."""


class LogRecord(NamedTuple):
    """One record: its offset, its bytes, and its Kafka timestamp, ms, below 0 for none."""

    offset: int
    value: bytes | None
    timestamp: int = -1


class ExampleLog:
    """Reads the one partition of the examples topic from a position of the caller's.

    `read` and `open` are for one thread; `commit` may be called from another, by one at a time.

    Attributes:
        end: Offset after the last record, as of the last fetch.
        n_expired: Records that the broker had deleted before they were read.

    Args:
        settings: Of the worker.
        instance_id: Names the static member; its own predecessor's place is taken over.
        stop: Ends every wait for the broker.
        is_mock: The broker is the embedded one, which cannot describe groups.
    """

    def __init__(self, settings: Settings, instance_id: str, stop: threading.Event, is_mock: bool = False) -> None:
        self.end = 0
        self.n_expired = 0
        self._group = f"{settings.app_id}-trainer"
        self._instance_id = instance_id
        self._stop = stop
        self._is_mock = is_mock
        self._partition = TopicPartition(settings.training_examples_topic, 0)
        self._position = 0
        self._proven = False
        self._displaced_at: float | None = None
        self._patience = settings.kafka.session_timeout_seconds + DISPLACED_SECONDS
        self._logged_at = -LOGGED_EVERY_SECONDS
        try:
            self._admin: AdminClient | None = AdminClient({**settings.librdkafka(), "log_level": 0})
            self._consumer = Consumer({**_consumer_config(settings), "group.id": self._group, **self._member(settings)})
            self._positions = Positions(settings)
        except KafkaException as error:  # no client is connected yet: its settings do not fit together
            raise TrainerRefused(f"the settings of Kafka cannot be used: {error.args[0].str()}") from error

    @property
    def position(self) -> int:
        """Offset of the next record that `read` will return."""
        return self._position

    def open(self, position: int | None) -> int:
        """Become the one trainer of this application, and go to a position.

        Args:
            position: Offset to go on from; None for the log's start.

        Returns:
            Where reading begins: later than `position` where records have expired, which `n_expired` counts.

        Raises:
            TrainerError: Another trainer is a live member of the group.
            TrainerRefused: The topic does not have one partition, or the position lies beyond its end.
            Stopped: A stop was asked for.
        """
        self._refuse_company()
        # One that asked of a group and lives through an outage may abort the process (librdkafka issue 4605).
        self._admin = None
        self._wait_for(self._positions.take_over)
        self._check_partitions()
        self._position = self._settle(position)
        self._consumer.subscribe(
            [self._partition.topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
        )
        return self._position

    def read(self, n_records: int, timeout_seconds: float) -> list[LogRecord]:
        """Return up to `n_records` next records, fewer after the timeout. A broker that is away is waited for.

        Raises:
            TrainerFenced: Another trainer has taken over.
            TrainerRefused: The log ends before the position.
            TrainerError: The log cannot be read.
        """
        try:
            messages = self._consumer.consume(n_records, timeout_seconds)
        except KafkaException as error:
            self._judge(error.args[0])
            return []
        self._refuse_displacement()
        if not self._proven and self._consumer.assignment():
            self._prove()
        records = [self._record(message) for message in messages if not self._failed(message)]
        self._notice_end()
        return records

    def rewind(self, position: int) -> int:
        """Go on reading from a position of earlier; for the thread that reads.

        Returns:
            Where reading goes on: later than `position` where records have expired, which `n_expired` counts.

        Raises:
            TrainerRefused: The position lies beyond the log's end.
            Stopped: A stop was asked for.
        """
        self._position = self._settle(position)
        if self._consumer.assignment():  # else it is taken up when the partition comes
            self._consumer.assign([TopicPartition(self._partition.topic, self._partition.partition, self._position)])
        return self._position

    def membership(self) -> object:
        """Return the group membership that `commit` needs; asked for by the thread that reads.

        Calls of one consumer exclude each other (confluent-kafka 2.16): asked for in another thread while this one
        reads, the two wait for each other and for the interpreter's lock, for ever.
        """
        return self._consumer.consumer_group_metadata()

    def commit(self, position: int, membership: object) -> None:
        """Commit a position in a transaction: whoever was replaced is told so here. Any one thread.

        Raises:
            TrainerFenced: Another trainer has taken over; nothing may be written any more.
            NotCommitted: The broker is away, or the group is changing.
        """
        offset = TopicPartition(self._partition.topic, self._partition.partition, position)
        self._positions.commit(offset, membership)

    def close(self) -> None:
        """Let go of the broker; a static member stays listed until its session ends.

        Not by the client's own close: it calls back for an assignment that comes just then, and taking that waits for
        a thread which has ended, with the interpreter's lock held.
        """
        del self._consumer

    def _member(self, settings: Settings) -> dict[str, str | int]:
        session_ms = int(settings.kafka.session_timeout_seconds * 1000)
        return {
            "group.instance.id": self._instance_id,
            "client.id": f"{self._group}@{socket.gethostname()}:{os.getpid()}",
            "session.timeout.ms": session_ms,
            "heartbeat.interval.ms": min(HEARTBEAT_MS, max(1, session_ms // 3)),
        }

    def _refuse_company(self) -> None:
        if self._is_mock:
            return
        for member in self._wait_for(self._members):
            if member.group_instance_id != self._instance_id:
                raise TrainerError(
                    f"a trainer already works for group {self._group}: instance {member.group_instance_id} at "
                    f"{member.host}, client {member.client_id} (after a stop it stays listed until its session ends)"
                )

    def _members(self) -> list[Any]:
        assert self._admin is not None
        future = self._admin.describe_consumer_groups([self._group], request_timeout=ANSWER_SECONDS)[self._group]
        members: list[Any] = future.result(ANSWER_SECONDS * 2).members
        return members

    def _check_partitions(self) -> None:
        topic = self._partition.topic
        found = self._wait_for(lambda: self._consumer.list_topics(topic, timeout=ANSWER_SECONDS)).topics[topic]
        if found.error is not None or len(found.partitions) != 1:
            what = str(found.error) if found.error is not None else f"it has {len(found.partitions)} partitions"
            raise TrainerRefused(
                f"topic {topic} must have exactly one partition, whose order is the learning order: {what}"
            )

    def _settle(self, position: int | None) -> int:
        first, self.end = self._wait_for(
            lambda: self._consumer.get_watermark_offsets(self._partition, timeout=ANSWER_SECONDS)
        )
        if position is None:
            return int(first)
        if position > self.end:
            raise TrainerRefused(
                f"the checkpoint's position {position} lies beyond the end {self.end} of {self._partition.topic}: it "
                "has lost data; `millstream reset --offsets` keeps users and weights and starts from what is there"
            )
        if position < first:
            self.n_expired += first - position
            logger.error("expired topic=%s examples=%d", self._partition.topic, first - position)
        return max(position, int(first))

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._proven = False
        if not partitions:
            self._displaced_at = self._displaced_at or monotonic()
            logger.warning("another trainer holds topic=%s", self._partition.topic)
            return
        self._displaced_at = None
        consumer.assign([TopicPartition(self._partition.topic, self._partition.partition, self._position)])
        logger.info("assigned topic=%s position=%d", self._partition.topic, self._position)

    def _revoked(self, consumer: Consumer, _: list[TopicPartition]) -> None:
        consumer.unassign()

    def _refuse_displacement(self) -> None:
        if self._displaced_at is not None and monotonic() - self._displaced_at > self._patience:
            raise TrainerFenced(f"another trainer has joined group {self._group} and reads {self._partition.topic}")

    def _prove(self) -> None:
        """Make sure that this is the one trainer: after each assignment, and where the group takes its place away.

        Before the first record, and not only where there are records: of two that start at once, one fences the other
        and either may get the partition. Were the fenced one to keep it until it learns of that, its rival would have
        left by then.
        """
        position = TopicPartition(self._partition.topic, self._partition.partition, self._position)
        self._wait_for(lambda: self._positions.prove(position, self.membership()))
        self._proven = True

    def _record(self, message: Message) -> LogRecord:
        offset = message.offset()
        assert offset is not None
        self._position = offset + 1
        return LogRecord(offset, message.value(), message.timestamp()[1])

    def _failed(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return False
        if error.code() in _OUT_OF_RANGE:  # retention has caught up with us
            self._position = self._settle(self._position)
            self._consumer.assign([TopicPartition(self._partition.topic, self._partition.partition, self._position)])
        else:
            self._judge(error)
        return True

    def _judge(self, error: KafkaError) -> None:
        # An error that comes as a message does not say of itself that it is fatal; its code does.
        fatal = error.fatal() or error.code() == KafkaError._FATAL
        if error.code() == KafkaError.FENCED_INSTANCE_ID or (fatal and "fenced" in error.str().lower()):
            # A rival has the transactional id before it joins. Without one it was a request of this client's own that
            # a broker, having hung, answered after it was sent again.
            self._prove()
            raise TrainerError(f"group {self._group} has given this trainer's place away, to nobody: starting again")
        if fatal or error.code() in _REFUSALS:
            raise TrainerError(f"{self._partition.topic} cannot be read: {error.str()}")
        if monotonic() - self._logged_at > LOGGED_EVERY_SECONDS:
            self._logged_at = monotonic()
            logger.warning("read topic=%s error=%s", self._partition.topic, error.str())

    def _notice_end(self) -> None:
        watermarks = self._consumer.get_watermark_offsets(self._partition, cached=True)
        if watermarks is not None and watermarks[1] > 0:
            self.end = max(self._position, watermarks[1])

    def _wait_for(self, call: Callable[[], _Result]) -> _Result:
        """Ask until the broker answers; a stop ends the wait."""
        while not self._stop.is_set():
            try:
                return call()
            except (KafkaException, NotCommitted, TimeoutError) as error:
                reason = error.args[0] if error.args and isinstance(error.args[0], KafkaError) else None
                if reason is not None and reason.code() == KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
                    raise TrainerRefused(may_not_transact(self._group)) from error  # the id is called as the group
                if reason is not None and (reason.fatal() or reason.code() in _REFUSALS):
                    raise TrainerRefused(f"the broker refuses this trainer: {reason.str()}") from error
                logger.warning("waiting for the broker: %s", error)
                self._stop.wait(0.2)
        raise Stopped


def _consumer_config(settings: Settings) -> dict[str, str | int | float | bool]:
    return {
        **settings.librdkafka(),
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        # Examples take about a kilobyte: enough for several mini-batches, little enough to be dropped at a rebalance.
        "queued.max.messages.kbytes": 16_384,
        # While the broker is away, one line in ten seconds (`read`), not one for each attempt to connect.
        "log_level": 2,
        "fetch.wait.max.ms": 50,
        "fetch.error.backoff.ms": 50,
        "fetch.queue.backoff.ms": 10,
        **settings.kafka.properties,
    }
