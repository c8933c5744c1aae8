"""What each topic should be like: DESIGN of the topics as data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from stream.settings import Settings

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
MIB = 1024 * 1024
MAX_REJECTED_PARTITIONS = 4
ANSWERS_COMPRESSION = "zstd"

# A changelog of Kafka's default segments (1 GiB, 7 days) is hardly ever compacted: the active segment is left alone.
# Measured, 300,000 records of 2,000 users: all left after 20 s with the defaults, 12,856 with small segments.
_CHANGELOG = {
    "cleanup.policy": "compact",
    # Of each partition one segment is left alone: with 16 partitions a recovery reads 256 MiB of old states at most.
    "segment.bytes": str(16 * MIB),
    "segment.ms": str(10 * MINUTE_MS),
    # Markers of transactions stay so long too, and each transaction leaves one of 78 bytes in every partition that it
    # touched: 50 a second come to 5 GB in Kafka's 24 hours. A recovery needs tombstones no longer than it takes.
    "delete.retention.ms": str(10 * MINUTE_MS),
    "min.cleanable.dirty.ratio": "0.1",
    "max.compaction.lag.ms": str(HOUR_MS),
}

Duty = Literal["events", "output", "examples", "state", "optional"]


@dataclass(frozen=True)
class ExpectedTopic:
    """A topic as it should be.

    Attributes:
        name: As it is called on this Kafka.
        duty: What it is to the worker; it starts without the `optional` ones.
        partitions: How many there should be.
        fixed: The worker relies on just this number of partitions.
        config: Topic configuration that differs from the broker's defaults.
    """

    name: str
    duty: Duty
    partitions: int
    fixed: bool = False
    config: Mapping[str, str] = field(default_factory=dict)

    @property
    def cleanup(self) -> frozenset[str]:
        """Give the cleanup policies as a set: their order means nothing."""
        return policies(self.config["cleanup.policy"])


def policies(text: str) -> frozenset[str]:
    """Read a `cleanup.policy`.

    >>> sorted(policies("delete, compact"))
    ['compact', 'delete']
    """
    return frozenset(part.strip() for part in text.split(",") if part.strip())


def expected_topics(settings: Settings, event_partitions: int | None = None) -> list[ExpectedTopic]:
    """List every topic of this application.

    Args:
        settings: Names, and the number of partitions that a new events topic gets.
        event_partitions: What the events topics have, where they exist; topics beside them follow it.

    >>> [topic.name for topic in expected_topics(Settings(app_id="shop")) if topic.fixed]
    ['shop-training-examples', 'shop-user-state']
    """
    n = event_partitions or settings.topics.partitions
    names = settings.topics
    delete = {"cleanup.policy": "delete"}
    compact = {"cleanup.policy": "compact"}
    answers = {
        "cleanup.policy": "compact,delete",
        "compression.type": ANSWERS_COMPRESSION,
        "retention.ms": str(7 * DAY_MS),
        "min.compaction.lag.ms": str(DAY_MS),
    }
    appended = delete | {"message.timestamp.type": "LogAppendTime"}
    a_week = delete | {"retention.ms": str(7 * DAY_MS)}
    events = [ExpectedTopic(name, "events", n, config=appended) for name in names.events]
    return [
        *events,
        ExpectedTopic(names.recommendations, "output", n, config=answers),
        ExpectedTopic(names.rejected_events, "output", min(n, MAX_REJECTED_PARTITIONS), config=delete),
        ExpectedTopic(settings.training_examples_topic, "examples", 1, fixed=True, config=a_week),
        ExpectedTopic(settings.user_state_topic, "state", n, fixed=True, config=_CHANGELOG),
        ExpectedTopic(settings.model_updates_topic, "optional", 1, config=delete),
        ExpectedTopic(names.item_catalog, "optional", 1, config=compact),
        ExpectedTopic(names.user_profiles, "optional", n, config=compact),
        ExpectedTopic(names.erasure_requests, "optional", n, config=compact),
    ]


def partition_counts(settings: Settings) -> dict[str, int]:
    """Give the topics with their partition counts, as the embedded mock broker wants them."""
    return {topic.name: topic.partitions for topic in expected_topics(settings)}
