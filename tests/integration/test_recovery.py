"""What a worker reads before it works, on a real Kafka: no aborted transaction, and no place that is gone."""

import threading
import time

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from stream.intake import Partition
from stream.recovery import BrokerSilent, RecoveryError, StartOffsets, read_changelog
from stream.settings import Settings


@pytest.fixture
def settings(kafka, topics, fresh_prefix):
    settings = Settings(
        app_id=fresh_prefix,
        kafka={"bootstrap_servers": kafka.bootstrap},
        topics={"events": [f"{fresh_prefix}-events"]},
    )
    topics({settings.user_state_topic: 2, settings.topics.events[0]: 1})
    return settings


@pytest.fixture
def transactions(settings):
    """Give `transactions(name)`: a producer of transactions on the changelog."""

    def make(name):
        producer = Producer(
            {"bootstrap.servers": settings.kafka.bootstrap_servers, "transactional.id": f"{settings.app_id}-{name}"}
        )
        producer.init_transactions(30)
        return producer

    return make


def write(producer, settings, *keys):
    producer.begin_transaction()
    for key in keys:
        producer.produce(settings.user_state_topic, key, key, partition=0)
    assert producer.flush(30) == 0


def read(settings):
    found = []
    n_records = patient(read_changelog)(settings, {0, 1}, lambda message: found.append(message.key()))
    assert n_records == len(found)
    return found


def test_states_of_an_aborted_transaction_are_not_read(settings, transactions):
    """Red where the reader is not told `read_committed`: users would get states whose offsets were never committed."""
    producer = transactions("one")
    write(producer, settings, b"u1", b"u2")
    producer.commit_transaction(30)
    write(producer, settings, b"u3")
    producer.abort_transaction(30)
    assert read(settings) == [b"u1", b"u2"]


def test_a_transaction_that_is_still_open_is_waited_for(settings, transactions):
    """Red where the end is the last stable offset: a predecessor's last states would come after the recovery."""
    producer = transactions("one")
    write(producer, settings, b"u1")
    decided = threading.Timer(1.0, producer.commit_transaction, (30,))
    decided.start()
    assert read(settings) == [b"u1"]
    decided.join()


def commit(settings, offset):
    consumer = Consumer({"bootstrap.servers": settings.kafka.bootstrap_servers, "group.id": settings.app_id})
    consumer.commit(offsets=[TopicPartition(settings.topics.events[0], 0, offset)], asynchronous=False)
    consumer.close()


def patient(ask):
    """As a worker does it: a broker that has just begun to be a coordinator is asked again."""

    def until_answered(*arguments):
        deadline = time.monotonic() + 60
        while True:
            try:
                return ask(*arguments)
            except BrokerSilent:
                assert time.monotonic() < deadline
                time.sleep(0.05)

    return until_answered


def test_a_place_that_is_gone_is_told_and_what_expired_is_counted(settings, kafka):
    """Red without the two comparisons: aiokafka would begin where it is told to where an offset is out of range."""
    topic = settings.topics.events[0]
    partition = Partition(topic, 0)
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for _ in range(10):
        producer.produce(topic, b"x", partition=0)
    assert producer.flush(30) == 0
    offsets = patient(StartOffsets(settings))
    assert offsets([partition], "earliest") == ({partition: 0}, {})
    assert offsets([partition], "latest") == ({partition: 10}, {})
    commit(settings, 3)
    assert offsets([partition], "latest") == ({partition: 3}, {})
    kafka.admin.delete_records([TopicPartition(topic, 0, 5)])[TopicPartition(topic, 0)].result(30)
    assert offsets([partition]) == ({partition: 5}, {partition: 2})
    commit(settings, 11)
    with pytest.raises(RecoveryError, match=r"offset 11 .* beyond the log's end 10.*reset --offsets"):
        offsets([partition])
