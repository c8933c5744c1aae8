"""A failed delivery is noticed, although successes make no reports."""

import pytest

from stream.brokers.ports import free_ports
from stream.delivery import DeliveryFailed, Output, Publisher
from stream.settings import KafkaSettings, Settings


def test_what_nobody_takes_ends_in_a_failure() -> None:
    """Without the producer's `on_delivery` the flush returns as if all were well, and this is red.

    Red where a reported error does not count.
    """
    nobody = f"127.0.0.1:{free_ports(1)[0]}"
    settings = Settings(kafka=KafkaSettings(bootstrap_servers=nobody, delivery_timeout_seconds=1))
    with pytest.raises(DeliveryFailed, match="timed out"):
        Publisher(settings).publish([Output("answers", b"u", b"{}"), Output("answers", None, b"{}", partition=0)])
