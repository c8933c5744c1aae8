"""A broker that goes away, and a worker that is told to stop."""

import os
import re
import signal
import time

import pytest
from confluent_kafka import KafkaException

from tests.e2e.checker import check
from tests.e2e.visits import events
from tests.e2e.workers import eventually

STOP_SECONDS = 8


def test_sigterm_commits_what_was_taken_and_exits_0(application):
    """The command as it is installed, in the middle of a stream."""
    worker = application.start_command(TRAINER__ISOLATION="process").until_ready()
    with application.producing(events(400), per_second=400):
        time.sleep(0.5)
        assert worker.stop() == 0
    assert "stopped clean=True" in worker.output
    worker = application.start_command(TRAINER__ISOLATION="process").until_ready()
    application.until_done()
    application.until_learned()
    assert worker.stop() == 0
    report = check(application)
    assert report.duplicate_lists == report.duplicate_examples == 0


class Supervised:
    """A worker that is started again when it ends, as a supervisor does; each end has its line."""

    def __init__(self, application):
        self.application = application
        self.worker = application.start()

    def until_done(self):
        eventually(self._is_done, lambda: f"every event committed:\n{self.application.logs()}", 150)

    def _is_done(self):
        if self.worker.poll() is not None:
            assert self.worker.poll() == 1
            assert len(re.findall(" CRITICAL |^millstream: ", self.worker.output, re.MULTILINE)) == 1
            self.worker = self.application.start()
        try:
            return self.application.lag() == 0
        except KafkaException:
            return False


@pytest.mark.slow
def test_a_broker_may_die_and_hang_and_nothing_is_lost(applications, fresh_kafka):
    """A worker waits for its broker as long as a transaction may take, then ends, and is started again."""
    broker = fresh_kafka()
    application = applications(broker.bootstrap, STOP_TIMEOUT_SECONDS=str(STOP_SECONDS))
    supervised = Supervised(application)
    supervised.worker.until_ready()
    application.produce(events(100))
    with application.producing(events(500, seed=2), per_second=100):
        time.sleep(1)
        broker.kill()
        broker.start()  # same port, same data
        supervised.until_done()
        os.kill(broker.pid, signal.SIGSTOP)
        time.sleep(5)
        os.kill(broker.pid, signal.SIGCONT)
    supervised.until_done()
    worker = supervised.worker.until_ready()
    application.until_learned()
    assert worker.stop() == 0
    check(application)


def test_a_stop_ends_in_time_with_the_broker_gone(applications, fresh_kafka):
    broker = fresh_kafka()
    application = applications(broker.bootstrap, STOP_TIMEOUT_SECONDS=str(STOP_SECONDS))
    worker = application.start().until_ready()
    application.produce(events(100))
    application.until_done()
    application.disconnect()
    broker.kill()
    worker.send(signal.SIGTERM)
    worker.wait(STOP_SECONDS + 20)  # far below what a client waits for a broker
