"""Topics, tail and rejected against a real Kafka, as the commands are called."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import typer
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import NewPartitions
from typer.testing import CliRunner, Result

from stream.brokers.mock import MockKafka
from stream.commands import rejected as rejected_command
from stream.commands import topics as topics_command
from stream.commands.tail import tail
from stream.errors import StartupError
from stream.settings import KafkaSettings, Settings, TopicSettings
from stream.topics.expected import expected_topics, partition_counts
from stream.topics.preflight import create_missing, preflight

CreateTopics = Callable[..., None]


@pytest.fixture
def settings(kafka: Any, fresh_prefix: str) -> Settings:
    """An application with topics of its own on the session's broker."""
    return shop(kafka.bootstrap, fresh_prefix)


def shop(bootstrap: str, prefix: str, **names: Any) -> Settings:
    plain = {
        "events": [f"{prefix}-events"],
        "recommendations": f"{prefix}-recommendations",
        "rejected_events": f"{prefix}-rejected",
        "item_catalog": f"{prefix}-catalog",
        "user_profiles": f"{prefix}-profiles",
        "erasure_requests": f"{prefix}-erasure",
        "partitions": 4,
    }
    return Settings(
        app_id=prefix, kafka=KafkaSettings(bootstrap_servers=bootstrap), topics=TopicSettings(**{**plain, **names})
    )


def eventually(condition: Callable[[], bool]) -> None:
    """The controller acknowledges changes a moment before the broker shows them."""
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def delete(kafka: Any, name: str) -> None:
    kafka.admin.delete_topics([name])[name].result(30)
    eventually(lambda: name not in kafka.admin.list_topics(timeout=60).topics)


def run(app: typer.Typer, settings: Settings, *arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, obj=settings, catch_exceptions=False)


def run_tail(settings: Settings, *arguments: str) -> list[str]:
    app = typer.Typer()
    app.command()(tail)
    result = run(app, settings, *arguments)
    assert result.exit_code == 0
    return [line for line in result.output.splitlines() if line]


def test_create_makes_what_is_missing_and_alters_nothing(kafka: Any, settings: Settings) -> None:
    described = run(topics_command.app, settings, "describe")
    assert described.exit_code == 1
    assert f"STOPS THE WORKER: {settings.user_state_topic} does not exist" in described.output
    created = run(topics_command.app, settings, "create")
    assert created.exit_code == 0
    for topic in expected_topics(settings):
        assert f"created {topic.name} (" in created.output
    again = run(topics_command.app, settings, "create")
    assert "every topic exists" in again.output
    described = run(topics_command.app, settings, "describe")
    assert described.exit_code == 0
    assert "everything is as expected" in described.output
    assert "1 broker: one replica" in described.output


def test_create_follows_events_that_exist(kafka: Any, settings: Settings, topics: CreateTopics) -> None:
    topics({settings.topics.events[0]: 3})
    run(topics_command.app, settings, "create")
    listed = kafka.admin.list_topics(timeout=60).topics
    assert len(listed[settings.topics.events[0]].partitions) == 3
    assert len(listed[settings.user_state_topic].partitions) == 3
    report = json.loads(run(topics_command.app, settings, "describe", "--json").output)
    (difference,) = report["differences"]
    assert difference["difference"] == "message.timestamp.type is CreateTime, LogAppendTime expected"
    assert preflight(settings).event_partitions == 3


def test_preflight_tells_who_everybody_is(kafka: Any, settings: Settings) -> None:
    create_missing(settings)
    ready = preflight(settings)
    assert ready.identity.cluster_id == kafka.broker.cluster_id
    offsets_matter = {*settings.topics.events, settings.training_examples_topic, settings.user_state_topic}
    assert set(ready.identity.topic_ids) == offsets_matter
    assert ready.event_partitions == 4
    assert settings.topics.item_catalog in ready.optional
    assert not ready.is_mock
    before = ready.identity
    name = settings.topics.events[0]
    delete(kafka, name)
    create_missing(settings)
    assert f"topic {name} was made anew" in str(preflight(settings).identity.difference(before))
    harmless = settings.topics.recommendations
    now = preflight(settings).identity
    delete(kafka, harmless)
    create_missing(settings)
    assert preflight(settings).identity.difference(now) is None


def test_preflight_stops_without_topics(settings: Settings) -> None:
    with pytest.raises(StartupError, match=r"-events does not exist; `millstream topics create` makes it \(and 4 more"):
        preflight(settings)


def test_preflight_stops_at_a_changelog_that_is_not_partitioned_as_the_events(kafka: Any, settings: Settings) -> None:
    create_missing(settings)
    name = settings.topics.events[0]
    kafka.admin.create_partitions([NewPartitions(name, 6)])[name].result(30)
    eventually(lambda: len(kafka.admin.list_topics(timeout=60).topics[name].partitions) == 6)
    with pytest.raises(StartupError, match=r"user-state has 4 partitions, 6 expected: .*MILLSTREAM_APP_ID"):
        preflight(settings)
    assert run(topics_command.app, settings, "describe").exit_code == 1


def test_preflight_stops_at_a_second_partition_of_examples(settings: Settings, topics: CreateTopics) -> None:
    topics({settings.training_examples_topic: 2})
    create_missing(settings)
    with pytest.raises(StartupError, match="training-examples has 2 partitions, 1 expected"):
        preflight(settings)


def test_preflight_stops_at_events_topics_of_several_sizes(kafka: Any, fresh_prefix: str, topics: CreateTopics) -> None:
    names = [f"{fresh_prefix}-web", f"{fresh_prefix}-app"]
    settings = shop(kafka.bootstrap, fresh_prefix, events=names)
    topics({names[0]: 2, names[1]: 3})
    create_missing(settings)
    with pytest.raises(StartupError, match=f"differ in partitions .{names[0]}: 2, {names[1]}: 3"):
        preflight(settings)


def test_preflight_stops_where_nobody_answers(monkeypatch: pytest.MonkeyPatch, fresh_prefix: str) -> None:
    monkeypatch.setattr("stream.topics.cluster.ANSWER_SECONDS", 1.0)
    with pytest.raises(StartupError, match=r"no Kafka answers at 127\.0\.0\.1:1: .*refused.*BOOTSTRAP_SERVERS"):
        preflight(shop("127.0.0.1:1", fresh_prefix))


def test_preflight_takes_the_mock(fresh_prefix: str) -> None:
    with MockKafka(partition_counts(shop("x", fresh_prefix))) as broker:
        settings = shop(broker.bootstrap, fresh_prefix)
        ready = preflight(settings)
    assert ready.is_mock
    assert ready.event_partitions == 4
    assert len(set(ready.identity.topic_ids.values())) == 3


def produce(settings: Settings, topic: str, records: list[tuple[Any, ...]]) -> None:
    """Each record: key, value, headers."""
    failures: list[object] = []
    producer = Producer({**settings.librdkafka(), "partitioner": "murmur2_random"})
    for key, value, headers in records:
        producer.produce(topic, value, key, headers=headers, on_delivery=lambda error, _: failures.append(error))
    assert producer.flush(30) == 0
    assert failures == [None] * len(records)


def test_tail_shows_json_msgpack_and_bytes(settings: Settings) -> None:
    create_missing(settings)
    example = msgspec.msgpack.encode({"user": "x", "history": [("a", "view", 1)]})
    produce(settings, settings.training_examples_topic, [(None, example, []), (b"k", b"\xff\x1b", [("h", b"1")])])
    json_line, raw_line = run_tail(settings, "training-examples", "--from-beginning", "--no-follow")
    assert json_line.endswith('0:0  -  {"user":"x","history":[["a","view",1]]}')
    assert raw_line.endswith("0:1  k  [h=1] \\xff\\x1b")
    (last,) = run_tail(settings, settings.training_examples_topic, "-n", "1", "--no-follow", "--json")
    assert json.loads(last)["offset"] == 1


def test_tail_takes_the_last_of_all_partitions(settings: Settings) -> None:
    create_missing(settings)
    for i in range(30):
        produce(settings, settings.topics.events[0], [(b"user%d" % i, b'{"n":%d}' % i, [])])
    lines = run_tail(settings, "user-events", "-n", "7", "--no-follow", "--json")
    assert [json.loads(line)["value"]["n"] for line in lines] == list(range(23, 30))


def test_tail_follows(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from stream.commands.tail import records
    from stream.topics.reading import TopicReader

    create_missing(settings)
    produce(settings, settings.topics.rejected_events, [(b"a", b"old", [])])
    with TopicReader(settings, "rejected-events") as reader:
        following: Iterator[Any] = records(reader, True, 0, True)
        assert next(following).value() == b"old"
        produce(settings, settings.topics.rejected_events, [(b"b", b"new", [])])
        assert next(following).value() == b"new"


def test_tail_of_a_topic_that_is_not_there(settings: Settings) -> None:
    with pytest.raises(StartupError, match="nothing-here does not exist"):
        run_tail(settings, "nothing-here")


def reject(settings: Settings, reasons: list[str], source: str | None = None, **headers: bytes) -> None:
    place = [("source-topic", (source or settings.topics.events[0]).encode()), ("source-partition", b"0")]
    added = [(name.replace("_", "-"), content) for name, content in headers.items()]
    produce(
        settings,
        settings.topics.rejected_events,
        [
            (b"user%d" % i, b"bytes\xff%d" % i, [("trace", b"t"), ("reason", reason.encode()), *place, *added])
            for i, reason in enumerate(reasons)
        ],
    )


def events_of(settings: Settings) -> list[tuple[Any, Any, dict[str, bytes]]]:
    consumer = Consumer({**settings.librdkafka(), "group.id": "check", "isolation.level": "read_committed"})
    partitions = [TopicPartition(settings.topics.events[0], p, 0) for p in range(4)]
    n = sum(consumer.get_watermark_offsets(partition, timeout=60)[1] for partition in partitions)
    consumer.assign(partitions)
    read: list[Any] = []
    for _ in range(100):
        if len(read) == n:
            break
        read += consumer.consume(100, 0.2)
    consumer.close()
    return [(message.key(), message.value(), dict(message.headers() or [])) for message in read]


def redrive(settings: Settings, *arguments: str) -> dict[str, Any]:
    result = run(rejected_command.app, settings, "redrive", "--json", *arguments)
    assert result.exit_code == 0
    report: dict[str, Any] = json.loads(result.output)
    return report


def test_a_redrive_sends_the_original_back_once(settings: Settings) -> None:
    create_missing(settings)
    reject(settings, ["schema", "not-json", "schema"])
    assert redrive(settings, "--dry-run")["reasons"] == {"schema": 2, "not-json": 1}
    assert events_of(settings) == []
    assert redrive(settings)["redriven"] == 3
    sent = events_of(settings)
    assert {(key, value) for key, value, _ in sent} == {(b"user%d" % i, b"bytes\xff%d" % i) for i in range(3)}
    for _, _, headers in sent:
        assert set(headers) == {"trace", "redriven-from"}
    assert redrive(settings)["redriven"] == 0
    reject(settings, ["schema"])
    assert redrive(settings)["redriven"] == 1
    assert len(events_of(settings)) == 4


def test_reasons_and_limits_leave_the_rest_for_later(settings: Settings) -> None:
    create_missing(settings)
    reject(settings, ["schema", "not-json", "too-late", "schema", "made-up", "not-json"])
    assert redrive(settings, "--reason", "not-json", "--limit", "1")["reasons"] == {"not-json": 1}
    assert redrive(settings, "--reason", "not-json", "--reason", "too-late")["redriven"] == 2
    assert redrive(settings, "--limit", "2")["redriven"] == 2
    assert redrive(settings)["redriven"] == 1
    assert redrive(settings)["redriven"] == 0
    keys = [key for key, _, _ in events_of(settings)]
    assert sorted(keys) == [b"user%d" % i for i in range(6)]


def test_what_cannot_go_back_is_skipped_and_said(settings: Settings) -> None:
    create_missing(settings)
    reject(settings, ["schema"], source="somebody-elses")
    reject(settings, ["too-large"], cut_from_bytes=b"2000000")
    report = redrive(settings)
    assert report["redriven"] == 0
    assert sorted(report["skipped"].values()) == [1, 1]
    assert any("somebody-elses" in cause for cause in report["skipped"])
    assert events_of(settings) == []


def test_a_redrive_without_acknowledgement_keeps_no_position(kafka: Any, settings: Settings) -> None:
    create_missing(settings)
    reject(settings, ["schema"])
    name = settings.topics.events[0]
    delete(kafka, name)
    hasty = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"delivery_timeout_seconds": 1.0})})
    with pytest.raises(StartupError, match="did not acknowledge every event"):
        run(rejected_command.app, hasty, "redrive")
    create_missing(settings)
    assert redrive(settings)["redriven"] == 1
    assert len(events_of(settings)) == 1


def test_rejected_list_counts_by_reason(settings: Settings) -> None:
    create_missing(settings)
    reject(settings, ["schema", "not-json", "schema"])
    listed = json.loads(run(rejected_command.app, settings, "list", "--json").output)
    assert listed["reasons"] == {"schema": 2, "not-json": 1}
    shown = run(rejected_command.app, settings, "list", "--reason", "not-json", "-n", "5").output
    assert "user1  [trace=t reason=not-json" in shown
    assert "user0" not in shown
    with pytest.raises(StartupError, match="bogus is no reason"):
        run(rejected_command.app, settings, "list", "--reason", "bogus")


def test_tail_ends_quietly_when_nobody_reads_any_more(settings: Settings) -> None:
    create_missing(settings)
    produce(settings, settings.topics.rejected_events, [(b"k", b"x" * 5000, []) for _ in range(200)])
    code = (
        "import sys, typer; from stream.commands.tail import tail; from stream.settings import *\n"
        "app = typer.Typer(); app.command()(tail)\n"
        "app(sys.argv[2:], obj=Settings(kafka=KafkaSettings(bootstrap_servers=sys.argv[1])))"
    )
    command = [sys.executable, "-c", code, str(settings.kafka.bootstrap_servers), settings.topics.rejected_events]
    reading = subprocess.Popen(
        [*command, "--from-beginning"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    assert reading.stdout is not None
    assert reading.stderr is not None
    assert b"xxx" in reading.stdout.readline()
    reading.stdout.close()
    errors = reading.stderr.read()
    reading.stderr.close()
    assert (reading.wait(90), errors) == (0, b"")
