"""How far behind a worker is, asked of the broker."""

from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from stream.intake import Partition
from stream.recovery import BrokerSilent, high_watermarks
from stream.settings import Settings

ANSWER_SECONDS = 5.0
"""A broker that takes longer counts as away."""


class LagReader:
    """Counts the records that wait; used by one thread.

    Attributes:
        error: What the client heard last while the broker did not answer.
    """

    def __init__(self, settings: Settings) -> None:
        self.error = "no answer in time"
        self._topic = settings.topics.events[0]
        self._config: dict[str, Any] = {**settings.librdkafka(), "error_cb": self._remember, "log_level": 0}
        self._admin = AdminClient(self._config)

    def lag(self, positions: Mapping[Partition, int]) -> int | None:
        """Return how many records stand at or after `positions`; None when the broker does not answer."""
        try:
            return self._lag(positions)
        except (BrokerSilent, KafkaException):
            self._admin.poll(0)
            # A client that was refused an answer may go on being refused, with the broker back for minutes.
            self._admin = AdminClient(self._config)
            return None

    def _lag(self, positions: Mapping[Partition, int]) -> int:
        if not positions:  # nothing to ask for yet, but whether there is anybody
            self._admin.list_topics(self._topic, timeout=ANSWER_SECONDS)
            return 0
        return sum(
            max(0, end - positions[Partition(topic, number)])
            for topic in {partition.topic for partition in positions}
            for number, end in high_watermarks(
                self._admin,
                topic,
                [partition.number for partition in positions if partition.topic == topic],
                ANSWER_SECONDS,
            ).items()
        )

    def _remember(self, error: KafkaError) -> None:
        if error.code() != KafkaError._ALL_BROKERS_DOWN:  # follows each reason, and says nothing
            self.error = error.str()
