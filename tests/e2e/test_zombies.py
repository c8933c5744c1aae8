"""Workers that are paused past their session, and wake up with a batch in their hands."""

import signal

import pytest

from tests.e2e.checker import check
from tests.e2e.visits import events
from tests.e2e.workers import OffsetWatch, eventually, only_line

PAUSE = int(signal.SIGSTOP)


@pytest.mark.slow
@pytest.mark.parametrize("step", ["publish", "changelog", "offsets", None])
def test_a_zombie_overwrites_nothing_and_moves_no_offset(application, step):
    """Two share the partitions; one of them stops after a step (None: anywhere) until the other has all of them."""
    living = application.start("living").until_ready()
    zombie = application.start("zombie", faults=[(step, 3, PAUSE)] if step else [], trainer=False).until_ready()
    application.until_held_by("living", "zombie")
    with OffsetWatch(application) as offsets:
        with application.producing(events(600), per_second=100):
            if step is None:
                application.produce(events(50, seed=2))
                zombie.send(PAUSE)
            zombie.until_stopped_by_itself()
            before = application.committed()
            application.until_held_by("living")  # its session is over
            if step in ("publish", None):  # with a transaction open, the successor waits for what becomes of it
                eventually(
                    # Asking what is committed may itself wait for an open transaction: all may be done by then.
                    lambda: (
                        all(offset > before[p] for p, offset in application.committed().items())
                        or application.lag() == 0
                    ),
                    lambda: f"commits by the successor:\n{application.logs()}",
                )
            zombie.send(signal.SIGCONT)
        application.produce(events(100, seed=3))
        application.until_done()
        eventually(
            lambda: zombie.poll() is not None or application.instance("zombie") in application.holders(),
            lambda: f"the zombie's end, or its return:\n{application.logs()}",
        )
        application.produce(events(100, seed=4))
        application.until_done()
        application.until_learned()
    assert not offsets.went_back
    if zombie.poll() is None:
        assert zombie.stop() == 0
    else:
        assert " CRITICAL " in zombie.output
    assert living.stop() == 0
    check(application)


@pytest.mark.slow
def test_a_paused_trainer_is_replaced_and_writes_nothing_when_it_wakes(application):
    """A whole worker is paused; its successor has a folder of its own. Two trainers would learn everything twice."""
    zombie = application.start("zombie").until_ready()
    application.produce(events(300))
    application.until_done()
    application.until_learned()
    kept = sorted((application.data_dir("zombie") / "checkpoints").iterdir())
    zombie.send(PAUSE)
    early = application.start("successor")
    if early.wait() != 0:  # the paused one is still listed: the newcomer says where the trainer runs, and goes
        assert "a trainer already works" in early.output
        assert application.instance("zombie") in early.output
    eventually(lambda: not application.holders(), "the end of the paused worker's session")
    successor = application.start("successor")
    application.produce(events(100, seed=2))
    successor.until_ready()
    application.until_done()
    zombie.send(signal.SIGCONT)
    assert zombie.wait() in (1, 75)  # whichever of its two halves is told first that it was replaced
    assert " CRITICAL " in zombie.output
    assert sorted((application.data_dir("zombie") / "checkpoints").iterdir()) == kept
    if successor.poll() is not None:  # woken, the zombie joins once more before it is fenced, and may displace this one
        assert successor.poll() == 75
        successor = application.start("successor").until_ready()
    application.until_learned()
    assert successor.stop() == 0
    check(application)


def test_a_worker_whose_instance_id_is_taken_ends_with_one_line(application):
    """Somebody copied a data folder, so no lock is in the way. The twin has fenced its transactions at the start.

    The two would take the place in the group from each other at every heartbeat, and neither would ever commit: that is
    how it was seen to go before a kept generation was doubted.
    """
    first = application.start("first", trainer=False).until_ready()
    application.produce(events(100))
    application.until_done()
    application.data_dir("twin").mkdir()
    (application.data_dir("twin") / "instance").write_text(application.instance("first") + "\n")
    twin = application.start("twin", trainer=False)
    with application.producing(events(200, seed=2), per_second=100):
        code = first.wait()
    # It may be told by the group first, which gives it no partitions: then it cannot prove who has them.
    taken = f"another process has taken over instance {application.instance('first')}"
    assert {75: taken, 1: "once more: starting again"}[code] in only_line(first.output)
    eventually(
        lambda: twin.poll() is not None or application.lag() == 0, lambda: f"what becomes of the twin:\n{twin.output}"
    )
    if twin.poll() is not None:  # the other had taken its place once more, before it was told
        assert twin.poll() == 1
        assert "once more: starting again" in only_line(twin.output)
        twin = application.start("twin", trainer=False)
    application.until_done()
    assert twin.stop() == 0
