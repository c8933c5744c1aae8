"""A failed delivery is noticed, although successes make no reports."""

import pytest

from stream.brokers.ports import free_ports
from stream.delivery import DeliveryFailed, Output, Publisher, publisher_config
from stream.settings import KafkaSettings, Settings
from stream.topics.expected import expected_topics


def test_what_nobody_takes_ends_in_a_failure() -> None:
    """Without the producer's `on_delivery` the flush returns as if all were well, and this is red.

    Red where a reported error does not count.
    """
    nobody = f"127.0.0.1:{free_ports(1)[0]}"
    settings = Settings(kafka=KafkaSettings(bootstrap_servers=nobody, delivery_timeout_seconds=1))
    with pytest.raises(DeliveryFailed, match="timed out"):
        Publisher(settings).publish([Output("answers", b"u", b"{}"), Output("answers", None, b"{}", partition=0)])


def test_answers_come_compressed_as_their_topic_is() -> None:
    """Else the broker compresses each of them once more before it acknowledges."""
    settings = Settings(kafka=KafkaSettings(bootstrap_servers="nobody:9092"))
    (topic,) = [each for each in expected_topics(settings) if each.name == settings.topics.recommendations]
    assert publisher_config(settings)["compression.type"] == topic.config["compression.type"]


def test_whoever_compresses_their_topic_otherwise_can_say_so() -> None:
    settings = Settings(kafka=KafkaSettings(bootstrap_servers="nobody:9092", properties={"compression.type": "lz4"}))
    assert publisher_config(settings)["compression.type"] == "lz4"
