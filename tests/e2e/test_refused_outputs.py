"""A broker that does not take what a worker has to publish: nothing of that batch is committed."""

import signal

import pytest

from stream.topics.preflight import create_missing
from tests.e2e.checker import check
from tests.e2e.test_bad_input import allow
from tests.e2e.visits import events
from tests.e2e.workers import eventually, only_line


def ended_uncommitted(application, worker):
    assert worker.wait() == 1, worker.output
    assert application.lag() == 100
    return " ".join(line for line in worker.output.splitlines() if " CRITICAL " in line)


@pytest.mark.slow
def test_answers_that_are_refused_or_have_no_topic_end_the_worker_before_it_commits(application, kafka):
    """First the broker takes no record of that size, then the topic is gone; when it is right again all is answered."""
    topic = application.settings.topics.recommendations
    allow(kafka, topic, 100)
    worker = application.start(KAFKA__DELIVERY_TIMEOUT_SECONDS="5").until_ready()
    application.produce(events(100))
    assert "too large" in ended_uncommitted(application, worker).lower()
    allow(kafka, topic, 1_000_000)

    # The publisher knows the topic from the start on: it is gone before the first answer.
    worker = application.start(KAFKA__DELIVERY_TIMEOUT_SECONDS="5", faults=[("recovery-read", 1, int(signal.SIGSTOP))])
    worker.until_stopped_by_itself()
    kafka.admin.delete_topics([topic])[topic].result(30)
    eventually(lambda: topic not in kafka.admin.list_topics(timeout=10).topics, "the topic to be gone")
    worker.send(signal.SIGCONT)
    assert "undelivered" in ended_uncommitted(application, worker)
    assert topic in only_line(refused_start(application))

    create_missing(application.settings)
    worker = application.start().until_ready()
    application.until_done()
    application.until_learned()
    assert worker.stop() == 0
    check(application)


def refused_start(application):
    worker = application.start()
    assert worker.wait() == 2, worker.output
    return worker.output
