"""A worker that nobody disturbs: what all the others are compared with."""

from collections import Counter

from tests.e2e.checker import check
from tests.e2e.visits import events


def test_every_event_is_answered_remembered_and_learned_once(application):
    worker = application.start()
    worker.until_ready()
    application.produce(events(1_000))
    application.until_done()
    application.until_learned()  # four checkpoints a second: reading and writing at the same time must not lock up
    assert worker.stop() == 0
    report = check(application)
    outcomes = Counter(report.expected.outcomes.values())
    assert outcomes["accepted"] > 800
    assert outcomes["duplicate"] > 30
    assert outcomes["rejected"] > 5
    assert report.duplicate_lists == report.duplicate_examples == 0
    assert report.coalesced == report.counts["sampled_out"] == 0
