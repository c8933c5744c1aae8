"""A broker that goes away, and a worker that is told to stop."""

import os
import re
import signal
import time
from contextlib import suppress

import pytest
from confluent_kafka import KafkaException

from tests.e2e.checker import check
from tests.e2e.visits import events
from tests.e2e.workers import eventually

STOP_SECONDS = 8


def until_committed(application, n_events):
    """Wait until so many events are committed: the worker is at work."""

    def committed():
        with suppress(KafkaException):
            return sum(max(0, offset) for offset in application.committed().values()) >= n_events

    eventually(committed, lambda: f"{n_events} events committed:\n{application.logs()}")


def test_sigterm_commits_what_was_taken_and_exits_0(application):
    """The command as it is installed, in the middle of a stream."""
    worker = application.start_command(TRAINER__ISOLATION="process").until_ready()
    with application.producing(events(400), per_second=400):
        until_committed(application, 1)
        assert worker.stop() == 0
    assert "stopped clean=True" in worker.output
    worker = application.start(TRAINER__ISOLATION="process").until_ready()
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

    def until_ready(self):
        eventually(self._is_ready, lambda: f"ready:\n{self.application.logs()}", 150)

    def until_learned(self):
        """Also where the end of the worker comes only now; afterwards one is ready."""
        self.application.until_learned(self._restart)
        self.until_ready()

    def _is_ready(self):
        self._restart()
        answer = self.worker.get("/ready")
        return answer is not None and answer[0] == 200

    def _restart(self):
        if self.worker.poll() is not None:
            assert self.worker.poll() == 1
            assert len(re.findall(" CRITICAL |^millstream: ", self.worker.output, re.MULTILINE)) == 1
            self.worker = self.application.start()

    def _is_done(self):
        self._restart()
        try:
            return self.application.lag() == 0
        except KafkaException:
            return False


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dead_seconds", "hung_seconds"), [(0, 5), pytest.param(10, 10, marks=pytest.mark.long)], ids=["short", "long"]
)
def test_a_broker_may_die_and_hang_and_nothing_is_lost(applications, fresh_kafka, dead_seconds, hung_seconds):
    """A worker waits for its broker as long as a transaction may take, then ends, and is started again."""
    broker = fresh_kafka()
    application = applications(broker.bootstrap, STOP_TIMEOUT_SECONDS=str(STOP_SECONDS))
    supervised = Supervised(application)
    supervised.worker.until_ready()
    application.produce(events(100))
    with application.producing(events(500, seed=2), per_second=100):
        until_committed(application, 101)  # the second stream has begun
        broker.kill()
        time.sleep(dead_seconds)
        broker.start()  # same port, same data
        supervised.until_done()
        os.kill(broker.pid, signal.SIGSTOP)
        time.sleep(hung_seconds)
        os.kill(broker.pid, signal.SIGCONT)
    supervised.until_done()
    supervised.until_learned()
    assert supervised.worker.stop() == 0
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
    worker.wait(STOP_SECONDS + 40)  # far below what a client waits for a broker
