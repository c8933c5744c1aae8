"""Clients that know nothing of us: another partitioner, other keys or none, any codec."""

import json
import signal
import subprocess
from collections import Counter

import pytest

from tests.e2e.checker import check, home_of
from tests.e2e.visits import START, events


def kcat(application, *arguments, lines=()):
    done = subprocess.run(
        ["kcat", "-b", application.bootstrap, *arguments],
        input="".join(f"{line}\n" for line in lines),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.splitlines()


def visits(n, first=0):
    return [
        {"user_id": f"u{number % 15}", "item_id": f"i{number % 40}", "behavior": "view", "timestamp": START + number}
        for number in range(first, first + n)
    ]


def test_a_stranger_with_its_own_partitioner_gets_its_answers(application, require):
    require("kcat")
    topic = application.settings.topics.events[0]
    worker = application.start(faults=[("publish", 1, signal.SIGKILL)]).until_ready()
    keyed = [f"{event['user_id']}|{json.dumps(event)}" for event in visits(60)]
    kcat(application, "-P", "-t", topic, "-K", "|", lines=keyed)
    assert worker.wait() == -signal.SIGKILL  # killed between republishing and committing: republished once more
    worker = application.start().until_ready()
    kcat(application, "-P", "-t", topic, lines=map(json.dumps, visits(60, 60)))  # no key
    kcat(application, "-P", "-t", topic, "-k", "elsewhere", lines=map(json.dumps, visits(60, 120)))
    application.until_done()
    application.until_learned()
    assert worker.stop() == 0

    report = check(application)
    outcomes = Counter(report.expected.outcomes.values())
    assert outcomes["accepted"] == 180
    assert outcomes["rekeyed"] > 30
    assert outcomes["replayed"] == outcomes_of_copies(report) > 0
    answers = application.settings.topics.recommendations
    lines = kcat(application, "-C", "-t", answers, "-o", "beginning", "-e", "-q", "-f", "%k %s\n")
    read = [line.split(" ", 1) for line in lines]
    assert {key for key, _ in read} == {f"u{number}" for number in range(15)}
    assert all(json.loads(answer)["user_id"] == key for key, answer in read)


def outcomes_of_copies(report):
    """Copies that came a second time."""
    return report.expected.copies.total() - len(report.expected.copies)


@pytest.mark.parametrize("partition_of", [0, 3])
def test_all_in_one_partition_is_sent_home(application, partition_of):
    """The worst that a partitioner can do."""
    worker = application.start().until_ready()
    producer = application.producer()
    for event in visits(80):
        producer.produce(application.settings.topics.events[0], json.dumps(event).encode(), partition=partition_of)
    assert producer.flush(30) == 0
    application.until_done()
    assert worker.stop() == 0
    report = check(application)
    away = sum(home_of(event["user_id"], application.partitions) != partition_of for event in visits(80))
    assert Counter(report.expected.outcomes.values()) == {"accepted": 80, "rekeyed": away}


def test_whatever_a_producer_compresses_with_is_read(application):
    worker = application.start().until_ready()
    for number, codec in enumerate(["gzip", "snappy", "lz4", "zstd"]):
        application.produce(events(60, seed=number), **{"compression.type": codec, "linger.ms": 50})
    application.until_done()
    assert worker.stop() == 0
    report = check(application)
    assert len(report.expected.outcomes) == 240
