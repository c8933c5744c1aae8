"""The link between a worker and its trainer, in both kinds of isolation."""

import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from stream.identity import Identity
from stream.settings import Settings
from stream.trainer_link import TrainerHandle
from stream.trainer_lock import LOCK_FILE
from stream.trainer_messages import Ended, Facts, Started, Updated, decode, encode

IDENTITY = Identity("cluster", {})


class Inbox:
    """Messages, and waiting for one of a kind."""

    def __init__(self):
        self.messages = []
        self._changed = threading.Condition()

    def __call__(self, message):
        with self._changed:
            self.messages.append(message)
            self._changed.notify_all()

    def wait_for(self, kind, timeout=60.0):
        with self._changed:
            assert self._changed.wait_for(lambda: any(isinstance(m, kind) for m in self.messages), timeout)
            return next(m for m in self.messages if isinstance(m, kind))


def settings(folder, isolation, bootstrap, app_id):
    return Settings(
        app_id=app_id,
        data_dir=folder,
        kafka={"bootstrap_servers": bootstrap},
        model={"hidden": 4, "device": "cpu"},
        trainer={"isolation": isolation},
        log_level="ERROR",
    )


@pytest.fixture
def start(tmp_path, kafka, fresh_prefix, topics):
    handles = []
    topics({f"{fresh_prefix}-training-examples": 1})

    def started(isolation, deliver):
        handle = TrainerHandle(settings(tmp_path, isolation, kafka.bootstrap, fresh_prefix))
        handles.append(handle)
        handle.start(IDENTITY, "instance")
        handle.listen(deliver)
        return handle

    yield started
    for handle in handles:
        handle.stop(10)


def test_messages_survive_the_pipe():
    for message in (
        Started(
            "run", 3, None, None, 1.5, {"learned": 1}, {"late_lists": {(): 2.0}, "scored": {("live", "organic"): 1.0}}
        ),
        Updated(4, False, None, 17, b"\x00\xff"),
        Facts([], {}, {}, 5, 9, 0, 1, 2, 0, None, {}, None, [0.5], 0),
        Ended(75, "another"),
    ):
        assert decode(encode(message)) == message
    assert Facts([], {}, {}, 5, 9, 0, 1, 2, 0, None, {}, None, [], 0).lag == 4


@pytest.mark.parametrize("isolation", ["process", "thread"])
def test_it_starts_with_a_full_update_and_stops_when_told(start, isolation):
    inbox = Inbox()
    handle = start(isolation, inbox)
    first = inbox.wait_for(Updated)
    assert first.full
    assert handle.alive
    assert (handle.pid == os.getpid()) == (isolation == "thread")
    assert psutil.Process(handle.pid).nice() - psutil.Process().nice() == (5 if isolation == "process" else 0)
    assert handle.stop(20)
    assert not handle.alive
    assert handle.ended == inbox.messages[-1] == Ended(0)
    kinds = [type(message) for message in inbox.messages if not isinstance(message, Facts)]
    assert kinds == [Started, Updated, Ended]


@pytest.mark.parametrize("isolation", ["process", "thread"])
def test_the_second_one_says_where_the_first_one_runs(start, isolation):
    first, second = Inbox(), Inbox()
    holder = start(isolation, first)
    first.wait_for(Updated)
    refused = start(isolation, second)
    ended = second.wait_for(Ended)
    assert ended.exit_code == 1
    assert f"pid {holder.pid}, instance instance" in ended.line
    assert refused.ended == ended
    assert holder.alive


def test_a_callback_that_raises_loses_no_message(start):
    inbox = Inbox()

    def deliver(message):
        inbox(message)
        raise RuntimeError("cannot take it")

    handle = start("thread", deliver)
    inbox.wait_for(Updated)
    handle.stop(20)
    assert inbox.messages[-1] == Ended(0)


def test_a_killed_process_is_told_of(start):
    inbox = Inbox()
    handle = start("process", inbox)
    inbox.wait_for(Updated)
    os.kill(handle.pid, signal.SIGKILL)
    ended = inbox.wait_for(Ended)
    assert ended == Ended(-9, "the trainer process was killed by signal 9")
    assert not handle.alive
    assert handle.stop(1)


def test_a_process_that_does_not_end_when_told_is_killed(start):
    """Red without the kill: it would hold the lock of the folder against its successor."""
    inbox = Inbox()
    handle = start("process", inbox)
    inbox.wait_for(Updated)
    os.kill(handle.pid, signal.SIGSTOP)
    assert not handle.stop(0.2)
    assert inbox.wait_for(Ended).exit_code == -9
    assert not handle.alive


def test_ctrl_c_does_not_reach_the_process_and_sigterm_stops_it(start):
    """Red where the child does not ignore it; where it is born without the mask, also by the start of the first child's
    resource tracker, which takes the mask away: that is seen where this test runs first.
    """
    inbox = Inbox()
    handle = start("process", inbox)
    os.kill(handle.pid, signal.SIGINT)  # at once: it is not ready yet to ignore anything
    inbox.wait_for(Updated)
    os.kill(handle.pid, signal.SIGINT)
    os.kill(handle.pid, signal.SIGTERM)
    assert inbox.wait_for(Ended) == Ended(0)


PARENT = """
import sys, time
from pathlib import Path
from stream.identity import Identity
from stream.settings import Settings
from stream.trainer_link import TrainerHandle

if __name__ == "__main__":
    folder, bootstrap, app_id = sys.argv[1:]
    settings = Settings(
        app_id=app_id, data_dir=Path(folder), kafka={"bootstrap_servers": bootstrap}, model={"hidden": 4}
    )

    def deliver(message):
        print(type(message).__name__, handle.pid, flush=True)

    handle = TrainerHandle(settings)
    handle.start(Identity("cluster", {}), "instance")
    handle.listen(deliver)
    time.sleep(600)
"""


def test_it_dies_with_its_parent_even_by_sigkill(tmp_path, start, kafka, fresh_prefix):
    """Red where the child keeps its copy of the parent's end open: it would wait for orders for ever.

    Where nobody reads orders it ends a little later, with the next message that it cannot send.
    """
    script = tmp_path / "parent"  # no suffix: as a console script has none
    script.write_text(PARENT)
    command = [sys.executable, script, tmp_path, kafka.bootstrap, fresh_prefix]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        line = next(line for line in parent.stdout if line.startswith("Updated"))
    finally:
        parent.kill()
        parent.wait()
    child = int(line.split()[1])
    deadline = time.monotonic() + 90
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the trainer outlives its worker"
        time.sleep(0.05)
    assert (tmp_path / "checkpoints" / LOCK_FILE).exists()
    inbox = Inbox()
    start("thread", inbox)  # its successor gets the lock
    inbox.wait_for(Updated)
