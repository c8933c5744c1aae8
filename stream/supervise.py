"""`--supervise`: start the worker again when it dies, with a growing pause, until told to stop."""

import logging
import os
import random
import select
import signal
import threading
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from stream.errors import KafkaAway

logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.25
AWAY_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
HEALTHY_AFTER_SECONDS = 60.0
USAGE_EXIT_CODE = 2
"""A worker that says its settings are wrong will say so again: it is not restarted."""

AWAY_EXIT_CODE = KafkaAway.exit_code
"""The worker has waited for its Kafka: looking again soon costs little, and the broker may come up at any moment."""
TAKEN_OVER_EXIT_CODE = 75
"""Somebody else does this worker's work: a quick return would only take it back."""


def pause_after(code: int, n_failures: int, jitter: Callable[[], float] = random.random) -> float:
    """Return how long to wait after a run that ended with this code, the n-th failure in a row.

    >>> [pause_after(code, 3, lambda: 0.0) for code in (1, 69, 70, 75)]
    [1.0, 1.0, 1.0, 60.0]
    """
    if code == AWAY_EXIT_CODE:
        return AWAY_PAUSE_SECONDS * (1 + 0.1 * jitter())
    return pause_seconds(99 if code == TAKEN_OVER_EXIT_CODE else n_failures, jitter)


def pause_seconds(n_failures: int, jitter: Callable[[], float] = random.random) -> float:
    """Return how long to wait after the n-th failure in a row, the first being 1.

    >>> pause_seconds(1, lambda: 0.0), pause_seconds(3, lambda: 0.0), pause_seconds(99, lambda: 0.0)
    (0.25, 1.0, 60.0)
    """
    pause: float = min(FIRST_PAUSE_SECONDS * 2 ** min(n_failures - 1, 10), LONGEST_PAUSE_SECONDS)
    return pause * (1 + 0.1 * jitter())


def exit_status(code: int) -> int:
    """Return what a shell would call the end of a process: 128 + n after signal n.

    >>> exit_status(75), exit_status(-9)
    (75, 137)
    """
    return code if code >= 0 else 128 - code


class Run(Protocol):
    """A process that was started; a `subprocess.Popen` is one."""

    returncode: int | None

    def wait(self) -> int:
        """Wait for its end and return its exit code."""
        ...

    def send_signal(self, sig: int, /) -> None:
        """Send it a signal."""
        ...

    def kill(self) -> None:
        """End it at once."""
        ...


def supervise(start: Callable[[], Run], stop_seconds: float) -> int:
    """Start a run again and again, until it ends well, ends for wrong settings, or this process is told to stop.

    Args:
        start: Starts one.
        stop_seconds: Patience with a run that was told to stop; after it, it is killed.

    Returns:
        The exit status of the last run.
    """
    stop = _Stop(stop_seconds)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop.ask)
    n_failures = 0
    while True:
        started = monotonic()
        code = stop.watch(start()).wait()
        if stop.asked or code in (0, USAGE_EXIT_CODE):
            return exit_status(code)
        n_failures = 1 if monotonic() - started > HEALTHY_AFTER_SECONDS else n_failures + 1
        pause = pause_after(code, n_failures)
        logger.error("worker ended code=%d failures=%d restart_in_seconds=%.1f", code, n_failures, pause)
        if stop.wait(pause):
            return exit_status(code)


class _Stop:
    """A request to stop, as a signal brings it: at any moment, between any two steps of the main thread.

    So it takes no lock: an Event that is set while the interrupted thread waits for it could wait for itself.
    """

    def __init__(self, patience_seconds: float) -> None:
        self.asked = False
        self._patience_seconds = patience_seconds
        self._child: Run | None = None
        self._reading, self._writing = os.pipe()

    def ask(self, number: int, _: object) -> None:
        """Be the signal handler."""
        if not self.asked:
            os.write(self._writing, b"x")
        self.asked = True
        self._tell(number)

    def watch(self, child: Run) -> Run:
        """Pass the request on to this process; one that came while it was being born is passed on now."""
        self._child = child
        if self.asked:
            self._tell(signal.SIGTERM)
        return child

    def wait(self, seconds: float) -> bool:
        """Wait for a request, no longer than this."""
        return bool(select.select([self._reading], [], [], seconds)[0])

    def _tell(self, number: int) -> None:
        child = self._child
        if child is None or child.returncode is not None:
            return
        child.send_signal(number)
        timer = threading.Timer(self._patience_seconds, child.kill)
        timer.daemon = True
        timer.start()
