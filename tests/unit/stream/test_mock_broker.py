from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from stream.brokers.apache import ApacheKafka
from stream.brokers.choose import BrokerChoice, GivenKafka, choose_broker
from stream.brokers.errors import BrokerError
from stream.brokers.mock import LIMITS, MockKafka


def test_topics_have_the_partitions_asked_for() -> None:
    with MockKafka({"events": 7, "log": 1}) as broker:
        topics = AdminClient({"bootstrap.servers": broker.bootstrap}).list_topics(timeout=10).topics
        assert {name: len(topic.partitions) for name, topic in topics.items()} == {"events": 7, "log": 1}


def test_a_group_reads_what_was_produced() -> None:
    with MockKafka({"events": 3}) as broker:
        producer = Producer({"bootstrap.servers": broker.bootstrap, "enable.idempotence": True, "log_level": 0})
        for i in range(50):
            producer.produce("events", b"%d" % i, b"key%d" % i)
        assert producer.flush(10) == 0
        consumer = Consumer(
            {
                "bootstrap.servers": broker.bootstrap,
                "group.id": "g",
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 10,
                "log_level": 0,
            }
        )
        consumer.subscribe(["events"])
        read: set[object] = set()
        for _ in range(100):
            read |= {message.value() for message in consumer.consume(50, 0.2) if message.error() is None}
            if len(read) == 50:
                break
        consumer.close()
        assert read == {b"%d" % i for i in range(50)}


def test_a_topic_twice_or_without_partitions() -> None:
    with MockKafka({"events": 1}) as broker:
        with pytest.raises(BrokerError, match="could not create topic events"):
            broker.create_topic("events", 1)
        with pytest.raises(BrokerError, match="with 0 partitions"):
            broker.create_topic("other", 0)


def test_closing_twice_is_fine_and_then_it_is_closed() -> None:
    broker = MockKafka()
    broker.close()
    broker.close()
    with pytest.raises(BrokerError, match="closed"):
        _ = broker.bootstrap


@pytest.fixture
def _without_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)


@pytest.mark.usefixtures("_without_java")
def test_without_java_auto_takes_the_mock_and_says_its_limits() -> None:
    said: list[str] = []
    broker = choose_broker(BrokerChoice.AUTO, None, {"events": 2}, said.append)
    assert isinstance(broker, MockKafka)
    broker.close()
    assert said[0].startswith("no Apache Kafka on this machine: no Java")
    assert said[1] == LIMITS


@pytest.mark.usefixtures("_without_java")
def test_without_java_apache_is_an_error() -> None:
    with pytest.raises(BrokerError, match="no Java"):
        choose_broker(BrokerChoice.APACHE, None, {}, lambda _: None)


@pytest.mark.usefixtures("_without_java")
def test_an_address_in_the_settings_comes_first() -> None:
    broker = choose_broker(BrokerChoice.AUTO, "kafka:9092", {}, lambda _: None)
    assert broker == GivenKafka("kafka:9092")
    assert broker.bootstrap == "kafka:9092"
    broker.close()


def test_a_broker_that_was_never_started_leaves_nothing() -> None:
    broker = ApacheKafka()
    folder = broker.data_dir
    assert folder.is_dir()
    broker.close()
    assert not folder.exists()
    with pytest.raises(BrokerError, match="not started yet"):
        _ = broker.bootstrap
