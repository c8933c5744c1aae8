"""A run of this program as a fork of a process that has imported everything: a restart need not import it again.

A fork takes over every lock that another thread held, so it is only for a process with one thread, which is counted.
"""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

_STOPS = {signal.SIGTERM, signal.SIGINT}


def may_fork() -> bool:
    """Say whether a fork is safe: other threads would be gone in the child, and the locks that they held would not."""
    tasks = Path("/proc/self/task")  # of the kernel: librdkafka's threads, or torch's, are not Python's
    return tasks.is_dir() and len(list(tasks.iterdir())) == 1


class Forked:
    """A child that was forked to run something; as much of `subprocess.Popen` as a supervisor needs.

    Args:
        run: What the child does; its exit code is what this returns, or 1 where it raises.

    Attributes:
        pid: Of the child.
        returncode: How it ended, below 0 for a signal; None until `wait` has returned.
    """

    def __init__(self, run: Callable[[], int]) -> None:
        self.returncode: int | None = None
        # A stop that comes between the two must find either the parent's handlers or the child's own.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
        try:
            self.pid = os.fork()
            if self.pid == 0:
                _be(run, before)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def wait(self) -> int:
        """Wait for the end of the child and return its exit code."""
        if self.returncode is None:
            _, status = os.waitpid(self.pid, 0)
            self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it is known to have ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


def _be(run: Callable[[], int], mask: set[int | signal.Signals]) -> NoReturn:
    """Be the child: nothing of what the parent would do on its way out is done twice."""
    code = 1
    try:
        for number in _STOPS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        code = run()
    finally:
        os._exit(code)
