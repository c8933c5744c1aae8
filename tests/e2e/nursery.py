"""Forks workers from a process that has imported everything: a start takes one second instead of five.

Reads one line of JSON for each worker: {"env": {}, "faults": [], "trainer": true, "log": path, "exit_file": path};
answers with its process id. A fault is [step, call, signal]: when the n-th call of a step has done its work, the
process sends itself the signal; with "hang" in its place the call never returns. Or it is [what, call, value] for what
stands in `BROKEN`. Production code knows nothing of it: the steps are wrapped here, and one that is gone fails loudly.

Started with an order as its argument, it is that worker itself, as a command that a supervisor runs; the faults of an
order with a "once" are planted while the file of that name is not there.
"""

import ctypes
import faulthandler
import importlib
import json
import os
import select
import signal
import sys
import threading
import time
from pathlib import Path

import online_model.learner
import stream.commands.worker
import stream.trainer
import stream.trainer_link
import stream.worker
from online_model.learner import OnlineLearner
from stream.settings import load_settings
from stream.trainer_messages import Updated

STEPS = {
    "loop": ("stream.worker", "Worker", "_published"),  # runs on the event loop
    "compute": ("stream.scorer", "Scorer", "process"),
    "publish": ("stream.delivery", "Publisher", "publish"),
    "begin": ("stream.delivery", "Committer", "begin"),
    "changelog": ("stream.delivery", "Committer", "write_changelog"),
    "offsets": ("stream.delivery", "Committer", "send_offsets"),
    "commit": ("stream.delivery", "Committer", "end"),
    "swap": ("stream.users", "UserTable", "commit"),
    "recovery-read": ("stream.loading", None, "read_changelog"),
    "recovered": ("stream.loading", "Loader", "load"),
    "checkpoint-position": ("stream.example_log", "ExampleLog", "commit"),
    "checkpoint": ("stream.checkpoint_writer", None, "save"),
}


def plant(step, call, value):
    """Send this process signal `value` right after the `call`-th call of `step` has done its work, or hang there."""
    if step in BROKEN:
        BROKEN[step](call, value)
        return
    module, owner, name = STEPS[step]
    holder = importlib.import_module(module)
    holder = holder if owner is None else getattr(holder, owner)
    after(holder, name, call, lambda *_: time.sleep(3600) if value == "hang" else os.kill(os.getpid(), value))


def after(holder, name, call, act):
    """Let `act(result, arguments)` follow the `call`-th call of a function; call 0: each one."""
    original = getattr(holder, name)
    calls = 0

    def faulty(*arguments, **named):
        nonlocal calls
        result = original(*arguments, **named)
        calls += 1
        if call in (0, calls):
            act(result, arguments)
        return result

    setattr(holder, name, faulty)


def break_gradient(call, value):
    """A gradient with such a number, beyond the check of those that are computed."""

    def fill(gradients, _):
        if gradients is not None:
            gradients.vectors[0] = value

    after(online_model.learner, "gradients", call, fill)


def break_weight(call, value):
    """A weight that becomes such a number after a step, as a bit that flips in memory does."""
    after(OnlineLearner, "learn", call, lambda _, of: of[0]._recurrent.table.vectors[0].fill_(value))


def jump_clock(seconds, offsets):
    """The wall clock of this process jumps by each of the offsets in turn, every so many seconds."""
    started, real, real_ns = time.monotonic(), time.time, time.time_ns

    def offset():
        return offsets[int((time.monotonic() - started) / seconds) % len(offsets)]

    time.time = lambda: real() + offset()
    time.time_ns = lambda: real_ns() + int(offset() * 1e9)
    assert stream.trainer.time is real, "the trainer's clock is another one"
    stream.trainer.Trainer.__init__.__defaults__ = (time.time,)


def obey_permissions(_call, _value):
    """Let the modes of files and folders count for root as well: give away the capability to override them."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; then the upper halves
    assert libc.capget(header, sets) == 0
    for low in range(3):
        sets[low] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert libc.capset(header, sets) == 0


BROKEN = {
    "gradient": break_gradient,
    "weight": break_weight,
    "clock": jump_clock,
    "permissions": obey_permissions,
}


class WeightsThatStay:
    """In the place of the trainer: two workers of one application cannot both have one, and scorers share partitions.

    It gives the worker weights that have learned nothing, and never another word.
    """

    alive = True
    pid = None

    def __init__(self, settings):
        self._settings = settings

    def launch(self):
        pass

    def start(self, _identity, _instance_id):
        pass

    def listen(self, deliver):
        learner = OnlineLearner(self._settings.model, lineage="none")
        threading.Thread(
            target=lambda: deliver(Updated(0, True, None, None, learner.update(full=True).encode()))
        ).start()

    def stop(self, _timeout_seconds):
        return True


def work(order):
    """Be a worker; never returns."""
    code = 70
    try:
        os.setsid()
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for copy, descriptor in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(copy, descriptor)
        faulthandler.register(signal.SIGUSR1)  # a test that waits in vain asks for the stacks
        os.environ.clear()
        os.environ.update(order["env"])
        if not order["trainer"]:
            stream.trainer_link.TrainerHandle = WeightsThatStay
        for fault in order["faults"]:
            plant(*fault)
        code = stream.commands.worker.run(load_settings())
    except Exception as error:
        print(f"millstream: {error}", file=sys.stderr, flush=True)
        code = getattr(error, "exit_code", 2)
    finally:
        os._exit(code)


def reap(exit_files):
    """Write down how each child that has ended did."""
    while exit_files:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        path = Path(exit_files.pop(pid))
        aside = path.with_suffix(".writing")
        aside.write_text(str(os.waitstatus_to_exitcode(status)))
        aside.rename(path)


def main():
    exit_files = {}
    print("ready", flush=True)
    while True:
        readable, _, _ = select.select([0], [], [], 0.02)
        if readable:
            line = sys.stdin.readline()
            if not line:  # the tests are over, however they ended
                break
            order = json.loads(line)
            pid = os.fork()
            if pid == 0:
                work(order)
            exit_files[pid] = order["exit_file"]
            print(pid, flush=True)
        reap(exit_files)
    for pid in exit_files:
        os.kill(pid, signal.SIGKILL)


def work_as_told(order):
    """Be one worker in this very process."""
    once = Path(order["once"])
    if not once.exists():
        once.touch()
        for fault in order["faults"]:
            plant(*fault)
    sys.exit(stream.commands.worker.run(load_settings()))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        work_as_told(json.loads(sys.argv[1]))
    else:
        main()
