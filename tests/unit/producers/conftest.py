import pytest

from producers.events import encode
from producers.publish import DeliveryFailed


class FakePublisher:
    """Kafka as the producers see it: acknowledges when polled or flushed, until it breaks."""

    def __init__(self, breaks_after=None):
        self.events = []
        self.acknowledged = 0
        self.failed = 0
        self.flushes = 0
        self.on_send = lambda: None
        self._breaks_after = breaks_after

    @property
    def sent(self):
        return len(self.events)

    def send(self, event):
        encode(event)
        self.events.append(event)
        self.on_send()

    def poll(self):
        takes = self.sent if self._breaks_after is None else min(self.sent, self._breaks_after)
        self.acknowledged, self.failed = takes, self.sent - takes

    def flush(self, timeout_seconds=0):
        self.poll()
        self.flushes += 1
        if self.failed:
            raise DeliveryFailed(self.acknowledged, self.failed, "broken")


@pytest.fixture
def fake_publisher():
    return FakePublisher
