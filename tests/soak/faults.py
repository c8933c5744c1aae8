"""What is done to a soak. Each fault returns when what it does is done; what it could not do raises `Impossible`."""

import os
import resource
import signal
import time
from contextlib import suppress

import psutil

from online_model import checkpoint
from tests.e2e.visits import START
from tests.e2e.workers import SESSION_SECONDS, eventually
from tests.soak.fleet import pause

SMALL_FILE = 64 * 1024
"""No checkpoint fits. Nor may a log grow that is longer: failures are read from the metrics."""


class Impossible(RuntimeError):
    """This machine, or this moment, does not allow it."""


def kill_worker(soak):
    """The worker is killed; its trainer goes with it, its supervisor starts it again."""
    os.kill(soak.fleet.main_pid(), signal.SIGKILL)


def kill_worker_twice(soak):
    """Killed, and killed again while it recovers."""
    first = soak.fleet.main_pid()
    os.kill(first, signal.SIGKILL)
    second = eventually(lambda: (pid := soak.fleet.main_pid()) != first and pid, "the worker's restart")
    time.sleep(soak.dice.uniform(2, 5))
    with suppress(ProcessLookupError):
        os.kill(second, signal.SIGKILL)


def kill_trainer(soak):
    """The trainer alone is killed: its worker ends with it."""
    os.kill(soak.fleet.trainer_pid(), signal.SIGKILL)


def pause_worker(soak):
    """The worker and its trainer are held past their session, then go on."""
    worker, trainer = soak.fleet.main_pid(), soak.fleet.trainer_pid()
    os.kill(trainer, signal.SIGSTOP)
    try:
        pause(worker, SESSION_SECONDS + 4)
    finally:
        with suppress(ProcessLookupError):
            os.kill(trainer, signal.SIGCONT)


def pause_trainer(soak):
    """The trainer alone is held past its session: nobody replaces it, and it goes on."""
    pause(soak.fleet.trainer_pid(), SESSION_SECONDS + 4)


def kill_scorer(soak):
    """One that shares the partitions is killed, and comes back."""
    os.kill(soak.fleet.pid_of(_some_scorer(soak)), signal.SIGKILL)


def pause_scorer(soak):
    """One that shares the partitions is held past its session: a zombie with a batch in its hands."""
    pause(soak.fleet.pid_of(_some_scorer(soak)), SESSION_SECONDS + 4)


def add_scorer(soak):
    """A rebalance: one more shares the partitions."""
    name = next((name for name in ("scorer1", "scorer2") if name not in soak.fleet.scorers), None)
    if name is None:
        raise Impossible("three workers run already")
    soak.fleet.add(name)


def remove_scorer(soak):
    """A rebalance: one stops for good."""
    soak.fleet.remove(_some_scorer(soak))


def kill_in_a_rebalance(soak):
    """A scorer comes, or one goes where all are there, and the worker is killed while the partitions move."""
    try:
        add_scorer(soak)
    except Impossible:
        remove_scorer(soak)
    time.sleep(soak.dice.uniform(0.5, 4))
    os.kill(soak.fleet.main_pid(), signal.SIGKILL)


def pause_broker(soak):
    """The broker is held for 10 s: connections stay open and nobody answers."""
    soak.broker.pause()
    time.sleep(10)
    soak.broker.resume()


def kill_broker_10(soak):
    """The broker is killed, and is away for 10 s."""
    _kill_broker(soak, 10)


def kill_broker_30(soak):
    """The broker is killed, and is away for 30 s."""
    _kill_broker(soak, 30)


def repeat_events(soak):
    """The latest 300 events are sent once more."""
    soak.load.repeat(300)


def poison(soak):
    """One item shown very often, random labels, and ids that nobody has seen, some thousand of each."""
    dice, now = soak.dice, START + 10**9
    for number in range(3_000):
        user = f"p{dice.randrange(50)}"
        item = dice.choice(["i1", f"i{dice.randrange(400)}", f"new{dice.randrange(10**9)}"])
        soak.load.send([{"user_id": user, "item_id": item, "behavior": "view", "timestamp": now + number}])


def jump_clock(soak):
    """A producer's clock jumps: a day ahead of Kafka's, which is rejected, then years back for new users."""
    users = [f"c{soak.dice.randrange(10**6)}" for _ in range(100)]
    for offset in (86_400_000, -(10**11)):
        now = int(time.time() * 1000) + offset
        soak.load.send(
            {"user_id": user, "item_id": f"i{n}", "behavior": "search", "query": "q", "timestamp": now}
            for n, user in enumerate(users)
        )


def fill_disk(soak):
    """No file may grow beyond 64 KiB for as long as two checkpoints take."""
    trainer = soak.fleet.trainer_pid()
    unlimited = resource.prlimit(trainer, resource.RLIMIT_FSIZE)
    failures = soak.fleet.checkpoint_failures()
    resource.prlimit(trainer, resource.RLIMIT_FSIZE, (SMALL_FILE, unlimited[1]))
    try:
        eventually(lambda: soak.fleet.checkpoint_failures() > failures, "a checkpoint that does not fit", 60)
    finally:
        with suppress(ProcessLookupError):
            resource.prlimit(trainer, resource.RLIMIT_FSIZE, unlimited)


def close_folder(soak):
    """The folder of the checkpoints takes nothing: where the next one would be written stands a file."""
    aside, failures = soak.checkpoints / ".writing", soak.fleet.checkpoint_failures()

    def barred():
        with suppress(OSError):  # a checkpoint that is being written has it
            aside.touch(exist_ok=False)
        return soak.fleet.checkpoint_failures() > failures

    try:
        eventually(barred, "a checkpoint that cannot be written", 60)
    finally:
        with suppress(OSError):
            aside.unlink()


def tear_checkpoint(soak):
    """Killed, and half of the newest checkpoint is missing when it comes back."""
    _harm(soak, lambda content: content[: len(content) // 2])


def flip_a_bit(soak):
    """Killed, and one bit of the newest checkpoint is another when it comes back."""

    def flip(content):
        changed = bytearray(content)
        changed[soak.dice.randrange(len(content))] ^= 1 << soak.dice.randrange(8)
        return bytes(changed)

    _harm(soak, flip)


FAULTS = [
    *[kill_worker, kill_worker_twice, kill_trainer, pause_worker, pause_trainer, kill_scorer, pause_scorer, add_scorer],
    *[remove_scorer, kill_in_a_rebalance, pause_broker, kill_broker_10, kill_broker_30, repeat_events, poison],
    *[jump_clock, fill_disk, close_folder, tear_checkpoint, flip_a_bit],
]


def _some_scorer(soak):
    """One that shares the partitions; where there is none, one comes first."""
    if not soak.fleet.scorers:
        add_scorer(soak)
    return soak.dice.choice(eventually(lambda: soak.fleet.sharing(soak.application), "a scorer with partitions"))


def _kill_broker(soak, seconds):
    soak.broker.kill()
    time.sleep(seconds)
    soak.broker.start()
    soak.application.disconnect()
    soak.flow.reconnect()


def _harm(soak, change):
    """Kill the worker, and change a file of its newest checkpoint before its successor reads it."""
    supervisor = psutil.Process(soak.fleet.pids()[0])
    if len(checkpoint.paths(soak.checkpoints)) < 2:
        raise Impossible("there is no second checkpoint yet")
    worker = soak.fleet.main_pid()
    trainer = soak.fleet.trainer_pid()
    supervisor.suspend()  # or the successor might be faster
    try:
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: not _alive(trainer), "the trainer's end")
        newest = checkpoint.paths(soak.checkpoints)[-1]
        victim = soak.dice.choice(sorted(newest.glob("*.*")))
        victim.write_bytes(change(victim.read_bytes()))
    finally:
        supervisor.resume()


def _alive(pid):
    with suppress(psutil.Error):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False
