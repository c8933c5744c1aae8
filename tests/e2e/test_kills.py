"""Workers that are killed: nothing is lost, nothing is applied or learned twice."""

import itertools
import random
import signal
import time

import pytest

from tests.e2e.checker import check, committed_states
from tests.e2e.visits import events
from tests.e2e.workers import OffsetWatch

KILL = int(signal.SIGKILL)


def without_lists(states):
    """What does not depend on the weights that a worker happened to have."""
    return {user: (s.applied, s.visits, s.negatives, s.event_ids, s.newest, s.origins) for user, s in states.items()}


@pytest.mark.parametrize("n_kills", [5, pytest.param(50, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
def test_sigkills_at_random_moments_lose_and_repeat_nothing(application, applications, n_kills):
    """Its trainer in a process of its own, the first one the command as it is installed; only the waits are seeded."""
    dice = random.Random(n_kills)
    settings = {"TRAINER__ISOLATION": "process"}
    worker = application.start_command(**settings).until_ready()
    with OffsetWatch(application) as offsets:
        for number in range(n_kills):
            with application.producing(events(200, seed=number), per_second=400):
                time.sleep(dice.uniform(0.05, 0.5))
                worker.kill()
            worker = application.start(**settings).until_ready()
        application.until_done()
        application.until_learned()
    assert worker.stop() == 0
    assert not offsets.went_back
    report = check(application)

    undisturbed = applications(application.bootstrap, TOPICS__EVENTS=application.settings.topics.events[0])
    undisturbed.start().until_ready()
    undisturbed.until_done()
    assert without_lists(committed_states(undisturbed)) == without_lists(report.states)


# Step, and at which of its calls: early ones meet a partition's first commit, later ones a stream under way.
PLAN = [
    *[("publish", 1), ("publish", 3), ("begin", 2), ("begin", 4), ("changelog", 1), ("changelog", 3), ("offsets", 1)],
    *[("offsets", 3), ("commit", 1), ("commit", 4), ("swap", 2), ("compute", 2), ("compute", 4)],
    *[("recovery-read", 1), ("recovered", 1), ("recovered", 1)],
    *[("checkpoint-position", 1), ("checkpoint-position", 2), ("checkpoint", 1), ("checkpoint", 2)],
]


@pytest.mark.slow
def test_a_kill_after_each_step_loses_and_repeats_nothing(application):
    """Twenty kills in one stream, each right after a step of the protocol has done its work."""
    plan = random.Random(20).sample(PLAN, len(PLAN))
    assert len(plan) == 20
    stream = itertools.count()
    with OffsetWatch(application) as offsets:
        for step, call in plan:
            worker = application.start(faults=[(step, call, KILL)])
            while worker.poll() is None:  # a little at a time: a step that is reached again needs another batch
                application.produce(events(20, seed=next(stream)))
                time.sleep(0.05)
                assert next(stream) < 5_000, f"{step} was never reached {call} times:\n{application.logs()}"
            assert worker.poll() == -KILL, f"{step}:\n{worker.output}"
        worker = application.start().until_ready()
        application.until_done()
        application.until_learned()
    assert worker.stop() == 0
    assert not offsets.went_back
    report = check(application)
    assert report.duplicate_lists > 0, "no kill stood between an answer and its commit"
    assert report.counts["duplicate"] == report.duplicate_examples > 0


def test_what_was_published_and_not_committed_is_published_again(application):
    """The one window where answers double, looked at by itself: the offsets have not moved, the answers are out."""
    worker = application.start(faults=[("publish", 1, KILL)]).until_ready()
    application.produce(events(30))
    assert worker.wait() == -KILL
    assert application.lag() == 30
    assert committed_states(application) == {}
    worker = application.start().until_ready()
    application.until_done()
    application.until_learned()
    assert worker.stop() == 0
    report = check(application)
    assert report.duplicate_lists > 0
    assert report.duplicate_examples == report.counts["duplicate"] > 0


def test_a_kill_between_commit_and_swap_repeats_nothing(application):
    worker = application.start(faults=[("commit", 2, KILL)])  # the first is that of the partitions' identity
    application.produce(events(30))
    assert worker.wait() == -KILL
    worker = application.start().until_ready()
    application.until_done()
    assert worker.stop() == 0
    report = check(application)
    assert (report.duplicate_lists, report.duplicate_examples) == (0, 0)
