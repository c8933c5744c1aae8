"""Workers that share the partitions: who is gone is replaced, and each knows where a user is."""

import signal

import pytest

from tests.e2e.checker import check, home_of
from tests.e2e.visits import events
from tests.e2e.workers import eventually


@pytest.mark.slow
def test_partitions_move_to_the_living_and_look_ups_follow(application):
    first = application.start("first").until_ready()
    second = application.start("second", trainer=False, WEB__ADVERTISED_URL="http://second.example:8080").until_ready()
    application.until_held_by("first", "second")
    application.produce(events(300))
    application.until_done()

    of_first, of_second = user_of(application, "first"), user_of(application, "second")
    eventually(lambda: (first.get(f"/recommendations/{of_first}") or [0])[0] == 200, "an answer by the owner")
    status, body = eventually(lambda: second.get(f"/recommendations/{of_first}"), "an answer by the other")
    assert (status, body["instance"]) == (421, application.instance("first"))  # it advertises no address
    status, body = eventually(
        lambda: first.get(f"/recommendations/{of_second}", redirects=False), "an answer by the other"
    )
    assert (status, body["instance"]) == (307, application.instance("second"))

    with application.producing(events(300, seed=2), per_second=200):
        second.send(signal.SIGKILL)
        application.until_held_by("first")
        third = application.start("third", trainer=False).until_ready()
        application.until_held_by("first", "third")
    application.until_done()
    of_third = user_of(application, "third")
    eventually(lambda: (third.get(f"/recommendations/{of_third}") or [0])[0] == 200, "an answer by the newcomer")
    application.until_learned()
    assert (third.stop(), first.stop()) == (0, 0)
    check(application)


@pytest.mark.long
def test_of_three_workers_one_is_killed_and_one_that_is_added_dies_in_that_rebalance(applications, kafka):
    """The newcomer has joined, the partitions move, and it is killed while it reads what it was given.

    Faust gives a worker at most its share of the partitions, rounded up: of four, a third worker would get none.
    """
    application = applications(kafka.bootstrap, partitions=6)
    first = application.start("first").until_ready()
    second = application.start("second", trainer=False).until_ready()
    third = application.start("third", trainer=False).until_ready()
    application.until_held_by("first", "second", "third")
    with application.producing(events(800, seed=5), per_second=60):
        second.kill()
        dying = application.start("fourth", trainer=False, faults=[("recovery-read", 1, int(signal.SIGKILL))])
        assert dying.wait() == -signal.SIGKILL
        fourth = application.start("fourth", trainer=False).until_ready()
        application.until_held_by("first", "third", "fourth")
    application.until_done()
    application.until_learned()
    assert [worker.stop() for worker in (fourth, third, first)] == [0, 0, 0]
    check(application)


def user_of(application, name):
    held = application.holders()[application.instance(name)]
    return next(user for user in (f"u{n}" for n in range(60)) if home_of(user, application.partitions) in held)
