"""The demo's child processes: on a leash, their logs in files, ended within a deadline."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from stream.brokers.leash import Leash

TAIL_LINES = 15
_TAIL_BYTES = 65_536
_POLL_SECONDS = 0.05
_MAIN = "from stream.cli import main; main()"


class ChildDied(RuntimeError):
    """A child ended by itself.

    Attributes:
        log_path: Where its whole log is.
        tail: The last lines of it.
    """

    def __init__(self, name: str, how: str, log_path: Path, tail: list[str]) -> None:
        super().__init__(f"{name} ended by itself{how}")
        self.log_path = log_path
        self.tail = tail


class Child:
    """A `millstream` command as a child process.

    Args:
        name: What people call it.
        arguments: Of the command line, after `millstream`.
        variables: Environment variables that stand over this process' own.
        log_path: File that its standard error is appended to; its output too, where that is not `talks`.
        talks: Whether this process writes to its standard input and reads its standard output.
        scratch: Folder to delete when this process is gone without having ended the child.
    """

    def __init__(
        self,
        name: str,
        arguments: list[str],
        variables: Mapping[str, str],
        log_path: Path,
        *,
        talks: bool = False,
        scratch: Path | None = None,
    ) -> None:
        self.name = name
        self.log_path = log_path
        with log_path.open("ab") as log:
            self._log_start = log.tell()
            # A session of its own: Ctrl-C reaches this process alone, which ends its children in its own order.
            # -P: a folder called `stream` where somebody happens to stand is not ours.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _MAIN, *arguments],
                stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
                stdout=subprocess.PIPE if talks else log,
                stderr=log,
                env={**os.environ, **variables},
                start_new_session=True,
            )
        self._leash = Leash(self._process.pid, scratch)

    @property
    def pid(self) -> int:
        """Give the process id."""
        return self._process.pid

    @property
    def lines(self) -> IO[bytes]:
        """Give its standard output."""
        assert self._process.stdout is not None, "this child does not talk"
        return self._process.stdout

    def tell(self, line: str) -> None:
        """Write it a line; one that has ended hears nothing, which `check` tells."""
        assert self._process.stdin is not None, "this child does not talk"
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            pass

    def check(self) -> None:
        """Do nothing while it lives.

        Raises:
            ChildDied: It ended.
        """
        if (code := self._process.poll()) is not None:
            how = f" with exit code {code}" if code >= 0 else f" by {signal.Signals(-code).name}"
            raise ChildDied(f"the {self.name}", how, self.log_path, self.tail())

    def tail(self) -> list[str]:
        """Return the last lines that it logged."""
        return tail(self.log_path, self._log_start)

    def ask_to_end(self) -> None:
        """Ask it to end, and do not wait."""
        if self._process.poll() is None:
            self._process.terminate()

    def end(self, deadline_seconds: float, hurry: threading.Event) -> bool:
        """End it: by SIGTERM, and by SIGKILL after the deadline or when somebody is in a hurry.

        Returns:
            Whether it ended without SIGKILL.
        """
        self.ask_to_end()
        deadline = time.monotonic() + deadline_seconds
        while self._process.poll() is None and time.monotonic() < deadline and not hurry.is_set():
            time.sleep(_POLL_SECONDS)
        in_time = self._process.poll() is not None
        if not in_time:
            self._process.kill()
        self._process.wait()
        # First the wait, then the leash: until it is waited for, the process id belongs to nobody else.
        self._leash.release()
        if self._process.stdin is not None:
            try:
                self._process.stdin.close()
            except OSError:
                pass
        return in_time


def tail(log_path: Path, start: int = 0) -> list[str]:
    """Return the last lines of a log, of those that begin at byte `start` or later."""
    with log_path.open("rb") as log:
        end = log.seek(0, 2)
        log.seek(max(start, end - _TAIL_BYTES))
        return log.read().decode(errors="replace").splitlines()[-TAIL_LINES:]
