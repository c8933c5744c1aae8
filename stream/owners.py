"""Which worker holds a partition that is not held here."""

import asyncio
import logging
from time import monotonic
from typing import NamedTuple

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from stream.settings import Settings

logger = logging.getLogger(__name__)

FRESH_SECONDS = 5.0
TIMEOUT_SECONDS = 3.0


class Owner(NamedTuple):
    """A worker: its instance id, and the address it advertises, where it does.

    The address travels as the client id of the group's member, which is what Kafka tells everybody about a member.
    """

    instance: str
    url: str | None


class Owners:
    """Owners of partitions, as the group says; asked at most every five seconds."""

    def __init__(self, settings: Settings) -> None:
        self._group = settings.app_id
        self._topic = settings.topics.events[0]
        self._config = {**settings.librdkafka(), "log_level": 2}
        self._known: dict[int, Owner] = {}
        self._asked_at = -FRESH_SECONDS
        self._asking = asyncio.Lock()

    async def of(self, partition: int) -> Owner | None:
        """Return the partition's owner; None when the group does not say."""
        async with self._asking:
            if monotonic() - self._asked_at >= FRESH_SECONDS:
                self._known = await asyncio.get_running_loop().run_in_executor(None, self._ask)
                self._asked_at = monotonic()
        return self._known.get(partition)

    def _ask(self) -> dict[int, Owner]:
        # For one question: such a client that lives through an outage may abort the process (librdkafka issue 4605).
        admin = AdminClient(self._config)
        futures = admin.describe_consumer_groups([self._group], request_timeout=TIMEOUT_SECONDS)
        try:
            group = futures[self._group].result(TIMEOUT_SECONDS)
        except (KafkaException, TimeoutError) as error:
            logger.warning("group cannot be described: %s", error)
            return {}
        return {
            tp.partition: Owner(
                member.group_instance_id or member.client_id,
                member.client_id if member.client_id.startswith(("http://", "https://")) else None,
            )
            for member in group.members
            if member.assignment is not None
            for tp in member.assignment.topic_partitions
            if tp.topic == self._topic
        }
