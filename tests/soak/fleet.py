"""The workers of a soak: one as people run it, under its own supervisor, and scorers that come and go beside it."""

import os
import signal
import threading
import time
from contextlib import suppress

import psutil
from confluent_kafka import KafkaException

from tests.e2e.workers import eventually

RESTART_SECONDS = 1.0


class Fleet:
    """One installed worker with `--supervise`, and up to two that share its partitions and have no trainer.

    Attributes:
        exits: Each end of a worker that nobody asked for: name and how it was told.
    """

    def __init__(self, application):
        self.exits = []
        self._application = application
        self._main = None
        self._scorers = {}
        self._wanted = set()
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._tend, name="fleet", daemon=True)

    def start(self):
        self._main = self._application.start_command("main", "--supervise")
        self._thread.start()

    @property
    def scorers(self):
        """Names of the scorers that are to run."""
        with self._lock:
            return sorted(self._wanted)

    def living(self):
        """Names of the scorers that run just now."""
        with self._lock:
            return sorted(name for name in self._wanted if self._scorers[name].poll() is None)

    def sharing(self, application):
        """Names of the scorers that run and hold partitions just now."""
        with suppress(KafkaException, OSError):  # the broker is away, or one has not chosen its instance id yet
            held = application.holders()
            return [name for name in self.living() if application.instance(name) in held]
        return []

    def checkpoint_failures(self):
        """How often the main worker says that a checkpoint could not be written."""
        with suppress(OSError, KeyError):
            return self._main.metrics()["millstream_checkpoint_failures_total"]
        return 0.0

    def pids(self):
        """Of all that is ours, without the nursery's own."""
        with self._lock:
            return [self._main.pid, *(worker.pid for worker in self._scorers.values())]

    def main_pid(self):
        """Of the worker under the supervisor; waits for one that is being started."""
        return self._child(self._main.pid, "stream.cli").pid

    def trainer_pid(self):
        """Of the main worker's trainer, its one child: a fork, so that nothing in its command line tells them apart."""
        worker = self.main_pid()
        return eventually(lambda: _first_child(worker, lambda _: True), f"a trainer of {worker}").pid

    def pid_of(self, name):
        """Of the main worker, or of a scorer."""
        if name == "main":
            return self.main_pid()
        with self._lock:
            return self._scorers[name].pid

    def add(self, name):
        """Let one more share the partitions."""
        with self._lock:
            self._wanted.add(name)
            self._scorers[name] = self._application.start(name, trainer=False)

    def remove(self, name):
        """Stop a scorer for good."""
        with self._lock:
            self._wanted.discard(name)
            worker = self._scorers.pop(name)
        return worker.stop() if worker.poll() is None else worker.poll()

    def stop(self):
        """Stop all; the main one last, which has the trainer. Gives their exit codes."""
        self._stop.set()
        self._thread.join(30)
        codes = [self.remove(name) for name in self.scorers]
        return [*codes, self._main.stop()]

    def close(self):
        """Leave nothing behind, whatever happened."""
        self._stop.set()
        if self._main is None:
            return
        with suppress(psutil.Error):
            supervisor = psutil.Process(self._main.pid)
            family = [supervisor, *supervisor.children(recursive=True)]
            for process in family:
                with suppress(psutil.Error):
                    process.kill()

    def output(self):
        """What the main worker and its supervisor have said."""
        return self._main.output

    def _child(self, pid, word):
        def has_word(child):
            return word in " ".join(child.cmdline())

        return eventually(lambda: _first_child(pid, has_word), f"a child of {pid} with {word}")

    def _tend(self):
        """Start again what has ended, as a supervisor does."""
        while not self._stop.wait(0.2):
            with self._lock:
                ended = [name for name in self._wanted if self._scorers[name].poll() is not None]
                for name in ended:
                    self.exits.append((name, self._scorers[name].poll()))
            if ended:
                time.sleep(RESTART_SECONDS)
            for name in ended:
                with self._lock:
                    if name in self._wanted:
                        self._scorers[name] = self._application.start(name, trainer=False)


def _first_child(pid, fits):
    """The first child of a process that fits and lives; None where there is none, or it has just gone."""
    with suppress(psutil.Error):
        living = (child for child in psutil.Process(pid).children() if child.status() != psutil.STATUS_ZOMBIE)
        return next((child for child in living if fits(child)), None)


def pause(pid, seconds):
    """Hold a process for so long."""
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
