"""A worker that is alive and does not work: it ends with 70 and a line that says why; one that only waits does not."""

import json
import os
import signal
import subprocess
import sys

import psutil
import pytest

from tests.e2e.checker import check
from tests.e2e.visits import events
from tests.e2e.workers import NURSERY, Worker, eventually, only_line

IMPATIENT = {
    "WATCHDOG__LOOP_SECONDS": "3",
    "WATCHDOG__ASSIGNMENT_SECONDS": "8",
    "WATCHDOG__STALL_SECONDS": "4",
    "WATCHDOG__LEARNING_SECONDS": "5",
}

SUPERVISOR = """
import json, subprocess, sys
from stream.log_limit import configure
from stream.supervise import supervise
configure("INFO")
sys.exit(supervise(lambda: subprocess.Popen(json.loads(sys.argv[1])), 30.0))
"""


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ("loop", "the event loop has not run for"),
        ("publish", "events wait and nothing was committed for"),  # a flush that never returns
        ("offsets", "events wait and nothing was committed for"),  # a transaction that hangs
    ],
)
def test_what_hangs_ends_the_worker_and_a_new_one_goes_on(application, step, words):
    worker = application.start(faults=[(step, 2, "hang")], **IMPATIENT).until_ready()
    with application.producing(events(200), per_second=200):
        assert worker.wait() == 70
    assert words in only_line(worker.output)
    worker = application.start(**IMPATIENT).until_ready()
    application.until_done()
    application.until_learned()
    assert worker.stop() == 0
    check(application)


def test_a_recovery_that_hangs_ends_the_worker(application):
    worker = application.start(faults=[("recovered", 1, "hang")], **IMPATIENT)
    assert worker.wait() == 70
    assert "no ready assignment for" in only_line(worker.output)


def test_a_group_that_refuses_the_worker_ends_it(application):
    """Faust never asks its coordinator: without the watchdog this worker would live, and hold nothing, for ever."""
    worker = application.start(trainer=False, KAFKA__SESSION_TIMEOUT_SECONDS="3600", **IMPATIENT)
    assert worker.wait() == 70
    assert "the group coordinator gave up: InvalidSessionTimeout" in only_line(worker.output)


@pytest.mark.slow
def test_a_trainer_that_stands_still_ends_the_worker_and_does_not_stay_behind(application):
    """It is stopped, so it cannot notice the end of its worker either: its lock would keep the next trainer out."""
    settings = IMPATIENT | {"TRAINER__ISOLATION": "process"}
    worker = application.start_command(**settings).until_ready()
    (trainer,) = psutil.Process(worker.pid).children()
    trainer.suspend()
    application.produce(events(300))
    assert worker.wait() == 70
    assert "examples wait and the trainer has learned none for" in only_line(worker.output)
    eventually(lambda: not trainer.is_running(), "the end of the trainer")
    worker = application.start(**settings).until_ready()
    application.until_done()
    application.until_learned()
    assert worker.stop() == 0
    check(application)


@pytest.mark.long
def test_a_supervisor_starts_a_stuck_worker_again(application):
    """The whole way: the loop is blocked, the watchdog ends the process, the supervisor starts it, nothing is lost."""
    log, once = application.folder / "supervised.log", application.folder / "planted"
    order = {"faults": [("loop", 1, "hang")], "once": str(once)}
    command = [sys.executable, str(NURSERY), json.dumps(order)]
    with log.open("wb") as output:
        supervisor = subprocess.Popen(
            [sys.executable, "-c", SUPERVISOR, json.dumps(command)],
            env=application.environment(**IMPATIENT),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    worker = Worker(supervisor.pid, log, supervisor.poll)
    application.workers.append(worker)
    worker.until_ready()
    application.produce(events(200))
    eventually(lambda: "worker ended code=70 failures=1" in worker.output, lambda: f"a restart:\n{worker.output}")
    application.until_done()
    application.until_learned()
    assert worker.stop() == 0
    check(application)


def test_a_worker_that_was_paused_is_not_taken_for_a_stuck_one(application):
    """Paused as a whole for longer than its loop may stand still: on waking, the watchdog may be the first to run."""
    worker = application.start(**IMPATIENT).until_ready()
    os.kill(worker.pid, signal.SIGSTOP)
    eventually(lambda: not application.holders(), "the end of its session, later than any patience")
    os.kill(worker.pid, signal.SIGCONT)
    application.produce(events(100))
    application.until_done()
    assert worker.stop() == 0
