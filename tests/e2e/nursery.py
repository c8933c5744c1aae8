"""Forks workers from a process that has imported everything: a start takes one second instead of five.

Reads one line of JSON for each worker: {"env": {}, "faults": [], "trainer": true, "log": path, "exit_file": path};
answers with its process id. A fault is [step, call, signal]: when the n-th call of a step has done its work, the
process sends itself the signal; with "hang" in its place the call never returns. Production code knows nothing of it:
the steps are wrapped here, and a step that is gone fails loudly.

Started with an order as its argument, it is that worker itself, as a command that a supervisor runs; the faults of an
order with a "once" are planted while the file of that name is not there.
"""

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


def plant(step, call, number):
    """Send this process signal `number` right after the `call`-th call of `step` has done its work."""
    module, owner, name = STEPS[step]
    holder = importlib.import_module(module)
    holder = holder if owner is None else getattr(holder, owner)
    original = getattr(holder, name)
    calls = 0

    def faulty(*arguments, **named):
        nonlocal calls
        result = original(*arguments, **named)
        calls += 1
        if calls == call and number == "hang":
            time.sleep(3600)
        elif calls == call:
            os.kill(os.getpid(), number)
        return result

    setattr(holder, name, faulty)


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
