"""Rejected events go back to where they came from, each once."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from stream.errors import StartupError
from stream.records import REJECTION_REASONS
from stream.rejected import Rejected, read_rejected
from stream.settings import Settings
from stream.topics.cluster import ANSWER_SECONDS, Cluster
from stream.topics.reading import Offsets, TopicReader

OTHER_REASON = "other"
"""Stands for each reason that this version does not know."""
REDRIVEN_HEADER = "redriven-from"
CHUNK = 1000
RETRY_SECONDS = 0.1


@dataclass
class RedriveReport:
    """What a redrive did.

    Attributes:
        redriven: By reason, events that were acknowledged by their source topic (or would be sent, in a dry run).
        skipped: By cause, events that cannot go back.
    """

    redriven: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)


class RedrivePositions:
    """How far a redrive has come, per reason and partition, kept as committed offsets of a group of its own.

    The committed offset is the lowest position of any reason, its metadata hold those of each. The topic's id is in the
    group's name: a position means nothing to a topic that was made anew. Kafka forgets a group a week after its last
    commit, as it does rejected events.

    (A consumer, not the administrative client: that one's requests for a group's offsets end the process with a
    segmentation fault when the coordinator is still loading; librdkafka 2.16.)
    """

    def __init__(self, settings: Settings) -> None:
        cluster = Cluster(settings)
        self._topic = settings.topics.rejected_events
        tag = cluster.identity(cluster.facts([self._topic])).tag(self._topic)
        group = f"{settings.app_id}-redrive-{tag}"
        config: dict[str, Any] = {**settings.librdkafka(), "group.id": group, "log_level": 0}
        self._consumer = Consumer({**config, "enable.auto.commit": False})

    def read(self, partitions: Iterable[int]) -> dict[int, dict[str, int]]:
        """Give for each partition the positions that were kept, by reason."""
        asked = [TopicPartition(self._topic, partition) for partition in partitions]
        answered = self._retried("read", lambda: self._consumer.committed(asked, timeout=ANSWER_SECONDS))
        return {p.partition: _parse_positions(p.metadata) if p.offset >= 0 else {} for p in answered}

    def keep(self, positions: Mapping[int, Mapping[str, int]]) -> None:
        """Keep the positions of these partitions, in one commit."""
        offsets = [
            TopicPartition(self._topic, partition, min(by_reason.values()), json.dumps(by_reason))
            for partition, by_reason in positions.items()
            if by_reason
        ]
        if offsets:
            self._retried("kept", lambda: self._consumer.commit(offsets=offsets, asynchronous=False))

    def close(self) -> None:
        """Disconnect."""
        self._consumer.close()

    def _retried(self, what: str, ask: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            try:
                return ask()
            except KafkaException as error:
                if error.args[0].code() not in _TRANSIENT or time.monotonic() > deadline:
                    raise StartupError(f"the redrive's position could not be {what}: {error.args[0].str()}") from error
                time.sleep(RETRY_SECONDS)


_TRANSIENT = (
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError._TRANSPORT,
    KafkaError._WAIT_COORD,
)


def _parse_positions(metadata: str | None) -> dict[str, int]:
    return {str(reason): int(offset) for reason, offset in json.loads(metadata or "{}").items()}


class Redrive:
    """Sends rejected events back to the topic that they came from.

    Positions move after the acknowledgements: a redrive that is killed sends at most its last chunk again.
    """

    def __init__(self, settings: Settings, reasons: Iterable[str] = ()) -> None:
        """Prepare a redrive of these reasons, of all by default."""
        self._settings = settings
        self._reasons = list(reasons) or [*REJECTION_REASONS, OTHER_REASON]
        self._failure: str | None = None

    def run(self, reader: TopicReader, limit: int | None, dry_run: bool) -> RedriveReport:
        """Send back what was not sent back before.

        Args:
            reader: Of the topic of rejects.
            limit: Events to send at most.
            dry_run: Count only: nothing is sent, no position moves.

        Raises:
            StartupError: Kafka did not acknowledge an event, or does not keep the position.
        """
        positions = RedrivePositions(self._settings)
        try:
            return self._run(reader, positions, limit, None if dry_run else self._producer())
        finally:
            positions.close()

    def _run(
        self, reader: TopicReader, positions: RedrivePositions, limit: int | None, producer: Producer | None
    ) -> RedriveReport:
        report = RedriveReport()
        bounds = reader.bounds()
        kept = positions.read(bounds)
        starts = {p: max(low, min(kept[p].get(r, low) for r in self._reasons)) for p, (low, _) in bounds.items()}
        ends = {partition: end for partition, (_, end) in bounds.items()}
        reached = dict(starts)
        for message in reader.read_to_end(starts, ends):
            event = read_rejected(message)
            self._handle(event, kept[event.partition], producer, report)
            reached[event.partition] = event.offset + 1
            if limit is not None and report.redriven.total() >= limit:
                break
            if producer is not None and len(producer) >= CHUNK:
                self._conclude(producer, positions, kept, reached)
        else:
            reached.update(ends)
        if producer is not None:
            self._conclude(producer, positions, kept, reached)
        return report

    def _handle(
        self, event: Rejected, kept: Mapping[str, int], producer: Producer | None, report: RedriveReport
    ) -> None:
        reason = event.reason if event.reason in REJECTION_REASONS else OTHER_REASON
        if reason not in self._reasons or event.offset < kept.get(reason, 0):
            return
        if event.is_cut:
            report.skipped["cut: the value was too long to be kept whole"] += 1
        elif event.source is None or event.source not in self._settings.topics.events:
            report.skipped[f"from {event.source or 'an unknown topic'}, which is no events topic of the settings"] += 1
        else:
            report.redriven[event.reason] += 1
            if producer is not None:
                self._send(producer, event, event.source)

    def _send(self, producer: Producer, event: Rejected, source: str) -> None:
        place = f"{self._settings.topics.rejected_events}/{event.partition}/{event.offset}"
        headers: list[Any] = [(name, content) for name, content in event.headers if name != REDRIVEN_HEADER]
        headers.append((REDRIVEN_HEADER, place.encode()))
        while True:
            try:
                # The key finds its home partition by murmur2, wherever the event stood before.
                producer.produce(source, event.value, event.key, headers=headers, on_delivery=self._delivered)
                return
            except BufferError:
                producer.poll(0.1)

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is not None and self._failure is None:
            self._failure = error.str()

    def _producer(self) -> Producer:
        return Producer(
            {
                **self._settings.librdkafka(),
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "log_level": 3,  # errors; what it retries by itself is nobody's business here
                "message.timeout.ms": int(self._settings.kafka.delivery_timeout_seconds * 1000),
            }
        )

    def _conclude(
        self, producer: Producer, positions: RedrivePositions, kept: Mapping[int, Mapping[str, int]], reached: Offsets
    ) -> None:
        """Wait for the acknowledgements, then keep the positions: never the other way round."""
        left = producer.flush(self._settings.kafka.delivery_timeout_seconds + 5)
        if left or self._failure is not None:
            raise StartupError(
                f"the source topic did not acknowledge every event ({self._failure or f'{left} open'}); "
                "what was acknowledged since the last kept position is sent again by the next redrive"
            )
        # A reason may have come further by itself than all of them together now.
        moved = {
            partition: {**kept[partition], **{r: max(offset, kept[partition].get(r, 0)) for r in self._reasons}}
            for partition, offset in reached.items()
        }
        positions.keep({partition: by_reason for partition, by_reason in moved.items() if by_reason != kept[partition]})
