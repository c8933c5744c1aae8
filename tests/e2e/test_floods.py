"""More of something than anybody meant to send: records that are none, one item, ids without end."""

import itertools
import random

import psutil
import pytest

from tests.e2e.checker import FUZZED, WRONG_STATE, audit, check
from tests.e2e.visits import START, events
from tests.soak.load import fuzzed


@pytest.mark.parametrize("n_fuzzed", [2_000, pytest.param(25_000, marks=pytest.mark.long)])
def test_fuzzed_records_end_in_exactly_one_way_each_and_people_get_their_answers(application, n_fuzzed):
    """Noise, cut, flipped and odd records, and events of people between them; `make soak` sends a million."""
    worker = application.start().until_ready()
    producer = application.producer()
    topic = application.settings.topics.events[0]
    for number, (value, key) in enumerate(itertools.islice(fuzzed(seed=1), n_fuzzed)):
        producer.produce(topic, value, key, headers=[(FUZZED, b"")])
        if number % 500 == 0:
            producer.poll(0)
            application.produce(events(20, seed=number))
    assert producer.flush(60) == 0
    application.until_done()
    application.until_learned()
    assert worker.stop() == 0
    report = check(application)
    assert len(report.expected.of("rejected")) > n_fuzzed / 3
    assert len(report.expected.outcomes) >= n_fuzzed + n_fuzzed // 500 * 20


@pytest.mark.parametrize("n_events", [500, pytest.param(3_000, marks=pytest.mark.long)])
def test_a_poisoned_stream_ends_nothing_and_memory_stays_bounded(application, n_events):
    """One item again and again, random labels, and new ids without end, at a ceiling of 300 items."""
    worker = application.start(MODEL__MAX_ITEMS="300", SEQUENCE__MAX_USERS="500").until_ready()
    dice = random.Random(1)

    def poison(first, n):
        for number in range(first, first + n):
            item = dice.choice(["hit", "hit", f"i{dice.randrange(200)}", f"new{number}"])
            user = dice.choice([f"u{dice.randrange(20)}", f"nobody{number}"])
            yield {"user_id": user, "item_id": item, "behavior": "view", "timestamp": START + number}

    sizes = []
    for part in range(4):
        application.produce(poison(n_events * part, n_events))
        application.until_done()
        application.until_learned()
        sizes.append(psutil.Process(worker.pid).memory_info().rss / 2**20)
    metrics = worker.metrics()
    assert metrics["millstream_vocabulary_items"] <= 300
    assert metrics["millstream_users"] <= 500 * 1.1
    assert max(sizes) < sizes[0] + 100, f"MiB after each part: {sizes}"
    application.produce(events(100, seed=3))
    application.until_done()
    application.until_learned()
    assert worker.stop() == 0
    assert set(audit(application).findings) <= {WRONG_STATE}  # those who were evicted have begun anew
