"""The log of examples on a real Kafka: of two that read it at once, one learns that it was replaced."""

import threading
import time
from contextlib import suppress

import pytest
from confluent_kafka import Consumer, Producer

from stream import example_log as module
from stream.example_log import ExampleLog
from stream.settings import Settings
from stream.trainer_errors import TrainerError, TrainerFenced

DEADLINE = 40.0


@pytest.fixture
def open_log(kafka, topics, fresh_prefix):
    """Give `open_log(instance)`: a log that is open, without the look at who is there already, as in a race.

    With `fencing=False` it does not fence the others either, as one that was replaced and comes back for a moment.
    """
    settings = Settings(
        app_id=fresh_prefix, kafka={"bootstrap_servers": kafka.bootstrap, "session_timeout_seconds": 1.0}
    )
    topics({settings.training_examples_topic: 1})
    stop = threading.Event()
    opened = []

    def start(instance, fencing=True):
        log = ExampleLog(settings, instance, stop)
        log._refuse_company = lambda: None
        if not fencing:
            log._positions.take_over = lambda: None
        log.open(None)
        opened.append(log)
        return log

    yield start
    stop.set()
    for log in opened:
        with suppress(AttributeError):  # it is closed
            log.close()


def test_of_two_that_start_at_once_the_fenced_one_is_told_though_no_record_comes(open_log, kafka, fresh_prefix):
    """The assignor gives the partition to whose name is first, which is the one whose transactions were fenced.

    Red where only a record makes a new assignment be proven: the fenced one keeps the partition and learns nothing,
    while the other waits for it, and leaves.
    """
    fenced, other = open_log("a"), open_log("b")
    deadline = time.monotonic() + DEADLINE

    def read_both():
        while time.monotonic() < deadline:
            assert fenced.read(10, 0.1) == other.read(10, 0.1) == []

    with pytest.raises(TrainerFenced, match="another trainer has taken over t"):
        read_both()
    fenced.close()
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    producer.produce(f"{fresh_prefix}-training-examples", b"first")
    assert producer.flush(30) == 0
    read = []
    while not read:
        assert time.monotonic() < deadline, "the other one does not get the partition"
        read = other.read(10, 0.1)
    assert [record.value for record in read] == [b"first"]


def test_who_never_gets_the_partition_leaves_it_to_the_other(open_log, monkeypatch):
    """Red where nobody counts how long: a second trainer would wait for the first one's end, unseen.

    One session is granted: a member that was replaced may come back for a moment.
    """
    monkeypatch.setattr(module, "DISPLACED_SECONDS", 0.5)
    deadline = time.monotonic() + DEADLINE
    other = open_log("a")
    while not other._proven:
        assert time.monotonic() < deadline
        assert other.read(10, 0.1) == []
    displaced = open_log("b", fencing=False)

    def read_both():
        while time.monotonic() < deadline:
            assert displaced.read(10, 0.1) == other.read(10, 0.1) == []

    with pytest.raises(TrainerFenced, match="another trainer has joined"):
        read_both()
    assert other.read(10, 0.1) == []


def test_a_place_that_the_group_has_given_away_without_a_rival_is_taken_again_by_a_restart(
    open_log, kafka, fresh_prefix
):
    """As after a broker that hung: what it answers too late counts for a member that nobody is.

    Red where the client's fatal error is taken for a passing one: the trainer would read nothing any more, and fail
    at each checkpoint; and where it is taken for a rival's doing: its supervisor would wait for the rival's end.
    """
    log = open_log("a")
    deadline = time.monotonic() + DEADLINE
    while not log._proven:
        assert time.monotonic() < deadline
        assert log.read(10, 0.1) == []
    group = f"{fresh_prefix}-trainer"
    other = Consumer(
        {"bootstrap.servers": kafka.bootstrap, "group.id": group, "group.instance.id": "a", "log_level": 0}
    )
    other.subscribe([f"{fresh_prefix}-training-examples"])

    def read():
        while time.monotonic() < deadline:
            other.poll(0.1)
            assert log.read(10, 0.1) == []

    with pytest.raises(TrainerError, match="starting again") as ended:
        read()
    assert ended.value.exit_code == 1
    other.close()
