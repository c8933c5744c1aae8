"""What a worker reads before it works: the states of its partitions, and where to go on from."""

import logging
from collections.abc import Callable, Iterable
from time import monotonic
from typing import NamedTuple

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # exported, not in __all__

from stream.client_errors import is_passing
from stream.intake import Partition
from stream.settings import Settings, Start

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 30.0
STALL_SECONDS = 60.0
CHUNK = 10_000
POLL_SECONDS = 0.02
"""A read that finds fewer records than a chunk waits so long for more, the last one in vain."""


class RecoveryError(RuntimeError):
    """State or offsets cannot be used; the message is the one line that says what to do."""


class BrokerSilent(RecoveryError):
    """The broker did not answer; another attempt is worth while."""


class Offsets(NamedTuple):
    """Where to begin, and how many events of a partition had expired before they were read."""

    positions: dict[Partition, int]
    expired: dict[Partition, int]


def read_changelog(settings: Settings, partitions: Iterable[int], apply: Callable[[Message], None]) -> int:
    """Read changelog partitions in bulk, committed records only, up to their ends as of now.

    The end is the high watermark, not the last stable offset: a predecessor's transaction may still be open, and what
    it decides is waited for. Control records never arrive as messages, so a partition is done at its end-of-file event.

    Args:
        settings: Of the worker.
        partitions: Numbers of the partitions.
        apply: Called with each record, in order within a partition.

    Returns:
        How many records were read.

    Raises:
        BrokerSilent: The broker does not answer, or nothing has come for a minute.
        RecoveryError: It refuses.
    """
    topic = settings.user_state_topic
    admin = AdminClient({**settings.librdkafka(), "log_level": 2})
    ends = high_watermarks(admin, topic, partitions)
    waiting = {partition for partition, end in ends.items() if end > 0}
    if not waiting:
        return 0
    # Told to look for the beginning itself, the client does so before it knows the leaders, and again half a second
    # later, or three seconds.
    starts = _log_starts(admin, topic, waiting)
    consumer = Consumer(_reader_config(settings))
    n_records, heard = 0, monotonic()
    try:
        consumer.assign([TopicPartition(topic, partition, start) for partition, start in starts.items()])
        while waiting:
            for message in consumer.consume(CHUNK, POLL_SECONDS):
                heard = monotonic()
                error = message.error()
                if error is None:
                    apply(message)
                    n_records += 1
                elif error.code() == KafkaError._PARTITION_EOF:
                    partition, offset = message.partition() or 0, message.offset() or 0
                    if offset >= ends[partition]:
                        waiting.discard(partition)
                elif not error.retriable() and error.code() not in _PASSING:
                    raise RecoveryError(f"cannot read {topic}: {error}")
            if monotonic() - heard > STALL_SECONDS:
                raise BrokerSilent(
                    f"nothing came from {topic} partitions {sorted(waiting)} for {STALL_SECONDS:.0f} s: where this "
                    "goes on, the transaction of a worker that never came back is open there (`kafka-transactions.sh "
                    "find-hanging`, docs/operations.md)"
                )
    finally:
        consumer.close()
    return n_records


_PASSING = {KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT}
"""The client goes on by itself after these."""


def undecided(settings: Settings, partitions: Iterable[int], timeout_seconds: float = TIMEOUT_SECONDS) -> set[int]:
    """Return the changelog partitions that hold records of open transactions: whoever reads committed ones waits there.

    Args:
        settings: Of the worker.
        partitions: Their numbers.
        timeout_seconds: For each of two answers.

    Raises:
        BrokerSilent: The broker does not say.
    """
    admin = AdminClient({**settings.librdkafka(), "log_level": 2})
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # confluent-kafka leaves it untyped
    numbers = list(partitions)
    # The stable offsets first: what is committed between the two makes a partition look open, and nothing worse.
    stable = _listed(admin, settings.user_state_topic, numbers, latest, timeout_seconds, IsolationLevel.READ_COMMITTED)
    ends = high_watermarks(admin, settings.user_state_topic, numbers, timeout_seconds)
    return {number for number in numbers if stable[number] < ends[number]}


def high_watermarks(
    admin: AdminClient, topic: str, partitions: Iterable[int], timeout_seconds: float = TIMEOUT_SECONDS
) -> dict[int, int]:
    """Return the offset after the last record of each partition, open transactions included.

    Args:
        admin: Kept by the caller until this returns: the futures of a collected client are never done.
        topic: Its name.
        partitions: Their numbers.
        timeout_seconds: For the answer.

    Raises:
        BrokerSilent: The broker does not say.
    """
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # confluent-kafka leaves it untyped
    return _listed(admin, topic, partitions, latest, timeout_seconds)


def _log_starts(admin: AdminClient, topic: str, partitions: Iterable[int]) -> dict[int, int]:
    """Return the offset of the first record of each partition."""
    earliest = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
    return _listed(admin, topic, partitions, earliest, TIMEOUT_SECONDS)


def _listed(
    admin: AdminClient,
    topic: str,
    partitions: Iterable[int],
    spec: OffsetSpec,
    timeout_seconds: float,
    isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
) -> dict[int, int]:
    wanted = {TopicPartition(topic, partition): spec for partition in partitions}
    if not wanted:
        return {}
    try:
        # asked read_committed, the broker answers the last stable offset
        futures = admin.list_offsets(wanted, isolation_level=isolation, request_timeout=timeout_seconds)
        return {tp.partition: future.result(timeout_seconds).offset for tp, future in futures.items()}
    except (KafkaException, TimeoutError) as error:
        raise BrokerSilent(f"the bounds of {topic} cannot be read: {error}") from error


class StartOffsets:
    """Committed offsets, and what stands for them where there are none.

    A consumer of confluent-kafka asks, since aiokafka's request cannot wait for offsets of a transaction that is still
    open (`require_stable`). It never subscribes, so it is no member of the group.
    """

    def __init__(self, settings: Settings) -> None:
        self._consumer = Consumer(_reader_config(settings))

    def __call__(self, partitions: Iterable[Partition], start: Start = "earliest") -> Offsets:
        """Return where to read each partition from.

        Args:
            partitions: Of the source topics.
            start: Where a partition without a committed offset begins. Once there is state it is `earliest` whatever
                the settings say: Kafka forgets the offsets of a group that was away for a week, and what the states
                have seen is skipped.

        Raises:
            RecoveryError: A committed offset lies beyond the end of its log, or the broker refuses.
            BrokerSilent: The broker does not answer.
        """
        wanted = [TopicPartition(partition.topic, partition.number) for partition in partitions]
        try:
            committed = self._consumer.committed(wanted, timeout=TIMEOUT_SECONDS) if wanted else []
            positions: dict[Partition, int] = {}
            expired: dict[Partition, int] = {}
            for tp in committed:
                if tp.error:
                    raise KafkaException(tp.error)
                positions[Partition(tp.topic, tp.partition)] = self._position(tp, start, expired)
        except KafkaException as error:
            kind = BrokerSilent if is_passing(error.args[0]) else RecoveryError
            raise kind(f"committed offsets cannot be read: {error.args[0]}") from error
        return Offsets(positions, expired)

    def _position(self, tp: TopicPartition, start: Start, expired: dict[Partition, int]) -> int:
        first, end = self._consumer.get_watermark_offsets(
            TopicPartition(tp.topic, tp.partition), timeout=TIMEOUT_SECONDS
        )
        if tp.offset < 0:
            return self._initial(tp, start, first, end)
        if tp.offset > end:
            raise RecoveryError(
                f"the committed offset {tp.offset} of {tp.topic} [{tp.partition}] lies beyond the log's end {end}: the "
                "topic was made anew or has lost data; `millstream reset --offsets` keeps users and weights and starts "
                "from what is there"
            )
        if tp.offset < first:
            expired[Partition(tp.topic, tp.partition)] = first - tp.offset
            logger.error("expired topic=%s partition=%d events=%d", tp.topic, tp.partition, first - tp.offset)
        return max(tp.offset, first)

    def _initial(self, tp: TopicPartition, start: Start, first: int, end: int) -> int:
        if start == "earliest":
            return first
        if start == "latest":
            return end
        found = self._consumer.offsets_for_times(
            [TopicPartition(tp.topic, tp.partition, int(start))], timeout=TIMEOUT_SECONDS
        )
        return end if found[0].offset < 0 else int(found[0].offset)

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()


def _reader_config(settings: Settings) -> dict[str, str | int | float | bool]:
    return {
        **settings.librdkafka(),
        "group.id": settings.app_id,  # never joined, yet the client asks for its coordinator: one permission less
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "error",
        "queued.max.messages.kbytes": 65_536,
        "fetch.wait.max.ms": 20,
        "fetch.error.backoff.ms": 10,
        "fetch.queue.backoff.ms": 10,
        "log_level": 2,  # while the broker is away, the watchdog tells of it
        **settings.kafka.properties,
    }
