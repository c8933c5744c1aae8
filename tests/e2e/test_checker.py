"""The checker finds what it is there to find: a topic is changed behind a worker's back, and it says so."""

import json

import msgspec

from stream.records import decode_example, encode_example
from tests.e2e.checker import LOST, NEVER, NO_EVENT, TWICE, WRONG_STATE, audit, check, home_of, read
from tests.e2e.visits import START, events


def test_what_is_lost_wrong_or_too_much_is_found(application):
    worker = application.start().until_ready()
    application.produce(events(100))
    application.until_done()
    application.until_learned()
    assert worker.stop() == 0
    report = check(application)
    assert set(audit(application, acknowledged=[(0, 10_000)]).findings) == {LOST}, "an acknowledged event that is gone"

    topics, producer = application.settings.topics, application.producer()
    records = {name: read(application.bootstrap, name) for name in (topics.recommendations,)}
    answer = json.loads(records[topics.recommendations][0].value())
    answer["trigger"]["offset"] = 10_000
    producer.produce(topics.recommendations, json.dumps(answer).encode(), answer["user_id"].encode())
    assert producer.flush(30) == 0
    assert set(audit(application).findings) == {NO_EVENT}

    one, other = sorted(report.states)[:2]
    changed = next(r for r in reversed(read_states(application)) if r.key() == other.encode())
    producer.produce(
        application.settings.user_state_topic, changed.value(), one, partition=home_of(one, application.partitions)
    )
    assert producer.flush(30) == 0
    assert set(audit(application).findings) == {NO_EVENT, WRONG_STATE}

    example = decode_example(read(application.bootstrap, application.settings.training_examples_topic)[0].value())
    nobody = msgspec.structs.replace(example, offset=10_000)
    producer.produce(application.settings.training_examples_topic, encode_example(nobody), partition=0)
    late = {"user_id": "u1", "item_id": "i1", "behavior": "view", "timestamp": START + 10**10}
    producer.produce(topics.events[0], json.dumps(late).encode(), partition=home_of("u1", application.partitions))
    assert producer.flush(30) == 0
    assert set(audit(application).findings) == {NO_EVENT, WRONG_STATE, LOST, NEVER}


def read_states(application):
    return read(application.bootstrap, application.settings.user_state_topic)


def test_a_ledger_that_disagrees_with_the_log_is_found(application, monkeypatch):
    """One example is taken out of what was read, then one stands there twice that was counted once."""
    worker = application.start().until_ready()
    application.produce(events(60))
    application.until_done()
    application.until_learned()
    assert worker.stop() == 0
    from tests.e2e import checker

    real, log = checker.read, application.settings.training_examples_topic

    def without_one(bootstrap, topic, *rest):
        found = real(bootstrap, topic, *rest)
        return [*found[:5], *found[6:], found[0]] if topic == log else found

    monkeypatch.setattr(checker, "read", without_one)
    findings = audit(application).findings
    assert TWICE in findings
    assert NEVER in findings
