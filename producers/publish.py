"""A small helper with which an application sends its events."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from types import TracebackType
from typing import Self

from producers.delivery import Delivery, DeliveryFailed
from producers.events import ITEMLESS, Event, EventInvalid, encode

__all__ = ["DeliveryFailed", "Event", "EventInvalid", "EventPublisher"]


class EventPublisher:
    """Sends events, keyed by user, each checked before and acknowledged after.

    Leaving the `with` block flushes. One publisher serves a whole process, from one thread.

    ```python
    with EventPublisher({"bootstrap.servers": "localhost:9092"}, "user-events") as publisher:
        publisher.send(Event(user_id="u1", item_id="i7", behavior="view", timestamp=1_767_225_600_000))
    ```

    Args:
        config: librdkafka's settings: bootstrap.servers, security, ... Acknowledgement by all replicas, idempotence and
            the partitioner are not for changing.
        topic: Where the events go.
        itemless: Behaviours that may come without an item.
    """

    def __init__(
        self, config: Mapping[str, str | int | float], topic: str, *, itemless: AbstractSet[str] = ITEMLESS
    ) -> None:
        self.topic = topic
        self._itemless = itemless
        self._delivery = Delivery(config)

    @property
    def sent(self) -> int:
        """Events handed over."""
        return self._delivery.sent

    @property
    def acknowledged(self) -> int:
        """Events that all in-sync replicas have."""
        return self._delivery.acknowledged

    @property
    def failed(self) -> int:
        """Events that were given up; a later flush raises for them."""
        return self._delivery.failed

    def send(self, event: Event) -> None:
        """Check an event and hand it over; waits where Kafka does not keep up.

        Raises:
            EventInvalid: The event would be rejected by its reader; nothing was sent.
            DeliveryFailed: The client cannot send at all (a fatal error).
        """
        value = encode(event, self._itemless)
        self._delivery.send(self.topic, event.user_id.encode(), value)

    def poll(self) -> None:
        """Take in delivery reports; call it now and then where events are rare."""
        self._delivery.poll()

    def flush(self, timeout_seconds: float = 30.0) -> None:
        """Wait until everything sent has its report.

        Raises:
            DeliveryFailed: With the counts and the first error, where events since the last flush are not acknowledged.
        """
        self._delivery.flush(timeout_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.flush()
        except DeliveryFailed as undelivered:
            if error is None:
                raise
            # The first trouble is the one to see; this one goes along with it.
            error.add_note(str(undelivered))
