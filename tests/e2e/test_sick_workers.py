"""Workers that go wrong from inside: numbers that are none, a trainer gone, a clock."""

import math
import time

import psutil
import pytest

from online_model import checkpoint
from stream.learning import refuse_broken
from tests.e2e.checker import check
from tests.e2e.visits import events
from tests.e2e.workers import eventually


def ended_with_70(application, worker, words):
    """Feed the worker until the planted fault ends it."""
    for seed in range(1, 200):
        if worker.poll() is not None:
            break
        application.produce(events(40, seed=seed))
        time.sleep(0.05)
    assert worker.wait() == 70, worker.output
    assert words in worker.output


@pytest.mark.slow
def test_numbers_that_are_none_are_never_served_or_saved(application):
    """NaN forced into a gradient, before there is a checkpoint to go back to; then infinity into a weight."""
    never = {"TRAINER__CHECKPOINT_INTERVAL_SECONDS": "3600"}
    worker = application.start(faults=[("gradient", 6, math.nan)], **never).until_ready()
    ended_with_70(application, worker, "the model has diverged")
    worker = application.start().until_ready()
    application.produce(events(40, seed=1))
    application.until_done()
    application.until_learned()
    assert worker.stop() == 0
    worker = application.start(faults=[("weight", 6, math.inf)]).until_ready()
    for seed in range(2, 200):
        if "diverged position=" in worker.output:
            break
        application.produce(events(40, seed=seed))
        time.sleep(0.05)
    assert "diverged position=" in worker.output
    application.until_done()
    application.until_learned()
    assert worker.stop() == 0, "the trainer goes back by itself where there is a checkpoint"
    for path in checkpoint.paths(application.data_dir() / "checkpoints"):
        refuse_broken(checkpoint.load(path).states["learner"])
    check(application, set_aside=None)


@pytest.mark.long
def test_a_trainer_that_is_killed_alone_is_started_again_with_its_worker(application):
    """The installed command with its own supervisor; nobody else restarts anything."""
    supervisor = application.start_command("w0", "--supervise", TRAINER__ISOLATION="process").until_ready()
    with application.producing(events(300), per_second=100):
        (worker,) = psutil.Process(supervisor.pid).children()
        (trainer,) = worker.children()
        time.sleep(0.5)
        trainer.kill()
        eventually(lambda: "worker ended code=" in supervisor.output, "the worker's end")
    application.until_done()
    application.until_learned()
    assert "was killed by signal 9" in supervisor.output
    assert "worker ended code=1 " in supervisor.output  # and not 247, which would be -9
    assert supervisor.stop() == 0
    check(application)


@pytest.mark.slow
def test_of_two_trainers_started_at_once_one_is_left(application):
    """Two workers of one application, each with a folder of its own, in the same moment."""
    both = [application.start(name) for name in ("one", "other")]
    eventually(
        lambda: sum(worker.poll() is None for worker in both) < 2,
        lambda: f"the end of one of them:\n{application.logs()}",
    )
    left = [worker for worker in both if worker.poll() is None] or [application.start("one")]
    (gone,) = (worker for worker in both if worker not in left) if len(left) == 1 else both[:1]
    assert gone.poll() in (1, 75), gone.output
    left[0].until_ready()
    application.produce(events(200))
    application.until_done()
    application.until_learned()
    assert left[0].stop() == 0
    check(application)


def test_a_clock_that_jumps_changes_nothing_that_is_kept(application):
    """The worker's wall clock is a day ahead, then right, then years behind, every half second.

    Event times and Kafka's are what counts.
    """
    worker = application.start(faults=[("clock", 0.5, [86_400.0, 0.0, -(10**8)])]).until_ready()
    with application.producing(events(600), per_second=200):
        pass
    application.until_done()
    application.until_learned()
    assert worker.stop() == 0
    check(application)
