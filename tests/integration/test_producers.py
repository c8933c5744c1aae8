import gzip
import json
import signal
import subprocess
import sys
import time

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from producers.catalogue import read_catalogue
from producers.events import Event
from producers.publish import DeliveryFailed, EventPublisher
from stream.behaviors import behavior_table
from stream.records import Event as AcceptedEvent
from stream.records import event_decoder
from stream.settings import BehaviorSettings, FieldSettings
from stream.users import home_partition

NOW = 1_700_000_000_000
NOT_YET = {KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, KafkaError.UNKNOWN_TOPIC_OR_PART}
# The group as the command line calls it, with settings of the test's own.
PROGRAM = """
import json, sys
from types import SimpleNamespace
from producers.cli import app
config, events, catalog = json.loads(sys.argv.pop(1))
topics = SimpleNamespace(events=[events], item_catalog=catalog)
app(obj=SimpleNamespace(topics=topics, librdkafka=lambda: config))
"""


def start(bootstrap, topic, *arguments, catalog="none", **config):
    settings = json.dumps([{"bootstrap.servers": bootstrap, **config}, topic, catalog])
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, settings, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process, timeout=120):
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


def read_all(bootstrap, topic):
    """Return every record by (partition, offset)."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": f"reader-{topic}", "isolation.level": "read_committed"}
    )
    try:
        partitions = [TopicPartition(topic, p, 0) for p in consumer.list_topics(topic, 10).topics[topic].partitions]
        ends = {p.partition: end_of(consumer, p) for p in partitions}
        consumer.assign(partitions)
        records, deadline = {}, time.monotonic() + 90
        while len(records) < sum(ends.values()) and time.monotonic() < deadline:
            for message in consumer.consume(10_000, 0.5):
                records[message.partition(), message.offset()] = message
        assert len(records) >= sum(ends.values())  # more, where somebody is still writing
        return records
    finally:
        consumer.close()


def end_of(consumer, partition):
    deadline = time.monotonic() + 90
    while True:
        try:
            return consumer.get_watermark_offsets(partition, 10)[1]
        except KafkaException as error:  # a leader that has just been chosen does not know of it yet
            if error.args[0].code() not in NOT_YET or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def wait_until(condition, seconds=90):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def write_events(path, n, step_ms=10):
    rows = "".join(
        f"u{number % 97},i{number % 31},click,{(NOW + number * step_ms) / 1000:.3f}\n" for number in range(n)
    )
    path.write_bytes(gzip.compress(f"user_id,item_id,behavior,timestamp\n{rows}".encode()))


def topic_size(bootstrap, topic):
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "sizes"})
    try:
        partitions = consumer.list_topics(topic, 10).topics[topic].partitions
        return sum(end_of(consumer, TopicPartition(topic, partition)) for partition in partitions)
    finally:
        consumer.close()


def test_the_helper_sends_users_home_and_counts_what_was_acknowledged(kafka, topics, fresh_prefix):
    topic = f"{fresh_prefix}-events"
    topics({topic: 16})
    with EventPublisher({"bootstrap.servers": kafka.bootstrap}, topic) as publisher:
        for number in range(500):
            publisher.send(Event(user_id=f"usér-{number}", item_id="i", behavior="view", timestamp=NOW))
        publisher.flush()
        assert (publisher.sent, publisher.acknowledged, publisher.failed) == (500, 500, 0)
    records = read_all(kafka.bootstrap, topic)
    assert len(records) == 500
    for (partition, _), message in records.items():
        user = json.loads(message.value())["user_id"]
        assert message.key() == user.encode()
        assert partition == home_partition(user, 16)


def test_what_a_replay_says_it_delivered_is_on_the_topic(kafka, topics, fresh_prefix, tmp_path):
    topic = f"{fresh_prefix}-events"
    topics({topic: 4})
    path = tmp_path / "events.csv.gz"
    write_events(path, 5000)
    with gzip.open(path, "ab") as file:
        file.write(b"broken\nu1,i1,view,noon\nu1,i1,view,1700000100\n")
    code, out, err = finish(start(kafka.bootstrap, topic, "replay", path, "--speed", "max"))
    assert code == 0
    assert out.startswith("produced 5001, acknowledged 5001, skipped 2, ")
    assert "line 5002: expected 4 values, got 1" in err
    assert "line 5003: timestamp 'noon'" in err
    decode = event_decoder(FieldSettings(), behavior_table(BehaviorSettings()))
    accepted = [decode(message.value()) for message in read_all(kafka.bootstrap, topic).values()]
    assert len(accepted) == 5001
    assert all(isinstance(event, AcceptedEvent) for event in accepted)
    assert len({event.event_id for event in accepted}) == 5001


def test_ctrl_c_flushes_and_says_how_far_it_came(kafka, topics, fresh_prefix, tmp_path):
    topic = f"{fresh_prefix}-events"
    topics({topic: 4})
    write_events(tmp_path / "e.csv.gz", 20_000)
    process = start(kafka.bootstrap, topic, "replay", tmp_path / "e.csv.gz", "--speed", "1")
    wait_until(lambda: topic_size(kafka.bootstrap, topic) > 20)
    process.send_signal(signal.SIGINT)
    code, out, _ = finish(process)
    assert code == 130
    size = topic_size(kafka.bootstrap, topic)
    assert 20 < size < 20_000
    assert out.startswith(f"produced {size}, acknowledged {size}, skipped 0, ")
    assert f"read to line {size + 1}" in out


def acknowledged_of(out):
    return int(out.split("acknowledged ")[1].split(",")[0])


@pytest.mark.slow
def test_a_broker_that_is_killed_midway_is_told_with_what_it_had_acknowledged(fresh_kafka, tmp_path):
    broker = fresh_kafka(tmp_path / "data")
    topic = "events"
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.create_topics([NewTopic(topic, 4, 1)])[topic].result(30)
    write_events(tmp_path / "e.csv.gz", 20_000, step_ms=2)
    # At most 20 messages are on their way at any time: of 200 that are in the log, more than 100 were acknowledged.
    in_flight = {"max.in.flight.requests.per.connection": 1, "batch.num.messages": 20}
    process = start(
        broker.bootstrap, topic, "replay", tmp_path / "e.csv.gz", **in_flight, **{"message.timeout.ms": 5000}
    )
    wait_until(lambda: topic_size(broker.bootstrap, topic) > 200)
    broker.kill()
    code, out, err = finish(process)
    assert code == 1
    assert "Kafka did not take everything" in err
    acknowledged = acknowledged_of(out)
    assert 100 < acknowledged < 20_000
    assert f"{int(out.split()[1].rstrip(',')) - acknowledged} not acknowledged" in err
    again = fresh_kafka(tmp_path / "data")
    # What was acknowledged is there; what was in flight when it died may be.
    assert topic_size(again.bootstrap, topic) >= acknowledged


@pytest.mark.slow
def test_nobody_there_and_no_such_topic_are_one_line(kafka, fresh_prefix, tmp_path, monkeypatch):
    write_events(tmp_path / "e.csv.gz", 10)
    code, out, err = finish(start(kafka.bootstrap, f"{fresh_prefix}-x", "replay", tmp_path / "e.csv.gz"))
    assert (code, out) == (1, "")
    assert f"no topic '{fresh_prefix}-x'" in err
    assert "millstream topics create" in err
    assert f"{fresh_prefix}-x" not in kafka.admin.list_topics(timeout=10).topics
    code, out, err = finish(start("127.0.0.1:1", "events", "synthetic"))
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert "no answer from Kafka at 127.0.0.1:1" in err


def test_undelivered_events_raise_at_the_flush():
    publisher = EventPublisher({"bootstrap.servers": "127.0.0.1:1", "message.timeout.ms": 300}, "events")
    for _ in range(3):
        publisher.send(Event(user_id="u", item_id="i", behavior="view", timestamp=NOW))
    with pytest.raises(DeliveryFailed) as raised:
        publisher.flush(60)
    assert (raised.value.undelivered, raised.value.acknowledged) == (3, 0)
    publisher.flush(1)  # told once


def test_a_full_queue_holds_the_sender_back(kafka, topics, fresh_prefix):
    topic = f"{fresh_prefix}-events"
    topics({topic: 1})
    config = {"bootstrap.servers": kafka.bootstrap, "queue.buffering.max.messages": 10}
    with EventPublisher(config, topic) as publisher:
        for _ in range(1000):
            publisher.send(Event(user_id="u", item_id="i", behavior="view", timestamp=NOW))
    assert publisher.acknowledged == 1000


def test_a_synthetic_shop_under_control(kafka, topics, fresh_prefix, tmp_path):
    topic, catalog = f"{fresh_prefix}-events", f"{fresh_prefix}-items"
    topics({topic: 4})
    topics({catalog: 1}, {"cleanup.policy": "compact"})
    path = tmp_path / "items.jsonl"
    options = ("--control", "--rate", 200, "--items", 60, "--catalog", path)
    process = start(kafka.bootstrap, topic, "synthetic", *options, catalog=catalog)
    lines = [json.loads(process.stdout.readline())]
    process.stdin.write("launch\ndrift\n")
    process.stdin.flush()
    while "drifted" not in lines[-1] or len(lines) < 3:
        lines.append(json.loads(process.stdout.readline()))
    launched = next(line for line in lines if "launched" in line)
    wait_until(
        lambda: launched["launched"].encode() in b"".join(m.value() for m in read_all(kafka.bootstrap, topic).values())
    )
    process.stdin.close()
    rest = [json.loads(line) for line in process.stdout]
    assert process.wait(90) == 0
    last = rest[-1]
    records = read_all(kafka.bootstrap, topic)
    assert last["events"] == last["acknowledged"] == len(records)
    assert 0 < last["best_reachable"] < 1
    titles = {
        message.key().decode(): json.loads(message.value())["title"]
        for message in read_all(kafka.bootstrap, catalog).values()
        if message.value() is not None
    }
    assert titles[launched["launched"]] == launched["title"]
    viewed = {json.loads(message.value()).get("item_id") for message in records.values()}
    assert viewed - {None} <= set(titles)
    assert {item.item_id for item in read_catalogue(path)} <= set(titles)


def test_events_of_a_synthetic_shop_as_fast_as_possible(kafka, topics, fresh_prefix):
    topic = f"{fresh_prefix}-events"
    topics({topic: 4})
    before = time.time() * 1000
    code, out, err = finish(start(kafka.bootstrap, topic, "synthetic", "--rate", "max", "--events", 3000))
    assert (code, err) == (0, "")
    assert out.startswith("produced 3000, acknowledged 3000, ")
    records = [json.loads(message.value()) for message in read_all(kafka.bootstrap, topic).values()]
    assert len({record["event_id"] for record in records}) == 3000
    times = sorted(record["timestamp"] for record in records)
    assert times[-1] - times[0] == pytest.approx(3000 * 5, abs=10)
    assert before - 60_000 < times[-1] < time.time() * 1000


def test_a_parent_that_goes_ends_the_shop(kafka, topics, fresh_prefix):
    topic = f"{fresh_prefix}-events"
    topics({topic: 1})
    process = start(kafka.bootstrap, topic, "synthetic", "--control")
    process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    assert process.wait(90) == 0
