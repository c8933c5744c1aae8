"""`--supervise`: start the worker again when it dies, with a growing pause, until told to stop."""

import logging
import random
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from time import monotonic

logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
HEALTHY_AFTER_SECONDS = 60.0
USAGE_EXIT_CODE = 2
"""A worker that says its settings are wrong will say so again: it is not restarted."""


def pause_seconds(n_failures: int, jitter: Callable[[], float] = random.random) -> float:
    """Return how long to wait after the n-th failure in a row, the first being 1.

    >>> pause_seconds(1, lambda: 0.0), pause_seconds(3, lambda: 0.0), pause_seconds(99, lambda: 0.0)
    (1.0, 4.0, 60.0)
    """
    pause: float = min(FIRST_PAUSE_SECONDS * 2 ** min(n_failures - 1, 10), LONGEST_PAUSE_SECONDS)
    return pause * (1 + 0.1 * jitter())


def supervise(command: Sequence[str]) -> int:
    """Run `command` until it ends well, ends for wrong settings, or this process is told to stop.

    Returns:
        The exit code of the last run.
    """
    stop = threading.Event()
    child: list[subprocess.Popen[bytes]] = []

    def forward(number: int, _: object) -> None:
        stop.set()
        if child and child[0].poll() is None:
            child[0].send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)
    n_failures = 0
    while True:
        started = monotonic()
        child[:] = [subprocess.Popen(command)]
        code = child[0].wait()
        if stop.is_set() or code in (0, USAGE_EXIT_CODE):
            return code
        n_failures = 1 if monotonic() - started > HEALTHY_AFTER_SECONDS else n_failures + 1
        pause = pause_seconds(n_failures)
        logger.error("worker ended code=%d failures=%d restart_in_seconds=%.1f", code, n_failures, pause)
        if stop.wait(pause):
            return code
