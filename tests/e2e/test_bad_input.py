"""What is no event, or none that can be used: it comes back as it was, with the reason, and the stream goes on."""

import json
import subprocess
from collections import Counter

import pytest

from tests.e2e.checker import check, read
from tests.e2e.visits import START, events

GOOD = {"user_id": "u1", "item_id": "i1", "behavior": "view", "timestamp": START + 10**8}


def changed(**fields):
    return json.dumps({**GOOD, **fields}).encode()


BAD = [
    (b'{"user_id": "u1", ', "not-json"),
    (b"\x00\xff\xfe binary \x80", "not-json"),
    (b"", "not-json"),
    (b"[1, 2, 3]", "schema"),
    (b'{"user_id": "u1"}', "schema"),
    (changed(user_id=""), "schema"),
    (changed(item_id="i" * 257), "schema"),
    (changed(behavior="teleport"), "unknown-behavior"),
    (changed(timestamp=START // 1000), "looks-like-seconds"),
    (changed(timestamp=4_000_000_000_000), "from-the-future"),
    (changed(query="q" * 70_000), "too-large"),
    (None, "null-value"),
]


def test_each_kind_of_bad_input_comes_back_with_its_reason(application):
    worker = application.start().until_ready()
    topic = application.settings.topics.events[0]
    application.produce([GOOD])
    producer = application.producer()
    headers = [("traceparent", b"00-1-2-3"), ("mine", b"\x00\xff")]
    for number, (value, _) in enumerate(BAD):
        producer.produce(topic, value, b"key %d" % number, headers=headers, partition=number % application.partitions)
    assert producer.flush(30) == 0
    application.produce([{**GOOD, "timestamp": START}])  # too late for the same user
    application.produce(events(40))
    application.until_done()
    assert worker.stop() == 0

    report = check(application)  # the others are answered
    found = {}
    for record in read(application.bootstrap, application.settings.topics.rejected_events):
        tags = dict(record.headers())
        assert tags["source-topic"] == topic.encode()
        assert tags["detail"]
        if tags["reason"] != b"too-late":
            assert record.headers()[:2] == headers
        found[record.key()] = record.value(), tags["reason"].decode()
    assert found.pop(b"u1") == (json.dumps({**GOOD, "timestamp": START}).encode(), "too-late")
    assert {key: kept for key, kept in found.items() if key.startswith(b"key ")} == {
        b"key %d" % number: kept for number, kept in enumerate(BAD)
    }
    assert len(report.expected.reasons) >= len(BAD) + 1


@pytest.mark.parametrize("size", [1_000_000, 2_500_000])
def test_a_record_larger_than_we_may_write_is_cut_and_says_so(application, kafka, size):
    """2.5 MB is more than one fetch of a partition brings by default, and must not stop it either."""
    topic = application.settings.topics.events[0]
    allow(kafka, topic, size + 10_000)
    worker = application.start().until_ready()
    producer = application.producer(**{"message.max.bytes": size + 10_000})
    producer.produce(topic, b"x" * size, b"large", partition=1)
    assert producer.flush(30) == 0
    application.produce(events(40))
    application.until_done()
    assert worker.stop() == 0
    (record,) = [
        r for r in read(application.bootstrap, application.settings.topics.rejected_events) if r.key() == b"large"
    ]
    tags = dict(record.headers())
    assert (tags["reason"], tags["cut-from-bytes"]) == (b"too-large", b"%d" % size)
    assert set(record.value()) == {ord("x")}
    check(application)


def allow(kafka, topic, n_bytes):
    """Let a topic take records of this size, as its owner may have done."""
    from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource

    entry = ConfigEntry("max.message.bytes", str(n_bytes), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    kafka.admin.incremental_alter_configs([resource])[resource].result(30)


def test_keys_mean_nothing(application):
    """A null key, somebody else's key: the user's home is what `user_id` says."""
    worker = application.start().until_ready()
    producer = application.producer()
    topic = application.settings.topics.events[0]
    stream = list(events(60))
    for number, event in enumerate(stream):
        producer.produce(topic, json.dumps(event).encode(), [None, b"somebody", b"\xff\x00"][number % 3])
    assert producer.flush(30) == 0
    application.until_done()
    assert worker.stop() == 0
    report = check(application)
    assert "rekeyed" in report.expected.outcomes.values()


def test_a_header_whose_name_is_no_text_stops_nothing(application, require):
    """aiokafka alone raises at it for ever. (Our own producer cannot write one.)"""
    require("kcat")
    worker = application.start().until_ready()
    topic = application.settings.topics.events[0]
    stream = [{**GOOD, "user_id": f"u{number}", "timestamp": START + number} for number in range(40)]
    for partition in range(application.partitions):
        subprocess.run(
            ["kcat", "-b", application.bootstrap, "-P", "-t", topic, "-p", str(partition), "-H", b"\xff\xfe=odd"],
            input="".join(json.dumps(event) + "\n" for event in stream[partition :: application.partitions]),
            text=True,
            timeout=60,
            check=True,
        )
    application.until_done()
    assert worker.stop() == 0
    answers = read(application.bootstrap, application.settings.topics.recommendations)
    assert Counter(answer.key() for answer in answers) == {event["user_id"].encode(): 1 for event in stream}
