"""How far behind a worker is, asked of the broker."""

from collections.abc import Mapping

from confluent_kafka.admin import AdminClient

from stream.intake import Partition
from stream.recovery import RecoveryError, high_watermarks
from stream.settings import Settings


class LagReader:
    """Counts the records that wait; used by one thread."""

    def __init__(self, settings: Settings) -> None:
        self._admin = AdminClient(dict(settings.librdkafka()))

    def lag(self, positions: Mapping[Partition, int]) -> int | None:
        """Return how many records stand at or after `positions`; None when the broker does not answer."""
        try:
            return sum(
                max(0, end - positions[Partition(topic, number)])
                for topic in {partition.topic for partition in positions}
                for number, end in high_watermarks(
                    self._admin, topic, [partition.number for partition in positions if partition.topic == topic]
                ).items()
            )
        except RecoveryError:
            return None
