"""The broker's Java process, on its leash."""

import logging
import signal
import subprocess
from pathlib import Path

from stream.brokers.leash import Leash

log = logging.getLogger(__name__)


class LeashedProcess:
    """A child process that ends with its parent, however the parent ends (SIGTERM, after ten seconds SIGKILL)."""

    def __init__(self, command: list[str], log_path: Path, scratch: Path | None, inherit: int) -> None:
        """Start the process.

        Args:
            command: Program and arguments.
            log_path: File that its output is appended to.
            scratch: Folder to delete when this process is gone without having ended the child.
            inherit: File descriptor that the child keeps open.
        """
        with log_path.open("ab") as output:
            self._log_start = output.tell()
            # A session of its own: Ctrl-C reaches this process alone, which ends the child in its own order.
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=[inherit],
            )
        self._log_path = log_path
        self._leash = Leash(self._child.pid, scratch)

    @property
    def pid(self) -> int:
        """Give the child's process id."""
        return self._child.pid

    @property
    def is_alive(self) -> bool:
        """Say whether the child lives (it may be paused)."""
        return self._child.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the child."""
        self._child.send_signal(number)

    def end(self, deadline_seconds: float) -> None:
        """End it by SIGTERM, by SIGKILL after the deadline; at once where that is 0."""
        if self.is_alive and deadline_seconds > 0:
            self._child.send_signal(signal.SIGCONT)  # a paused process would not hear the next signal
            self._child.terminate()
            try:
                self._child.wait(deadline_seconds)
            except subprocess.TimeoutExpired:
                log.warning("kafka did not stop within seconds=%g and is killed", deadline_seconds)
        if self.is_alive:
            self._child.kill()
        # First the wait, then the leash: until it is waited for, the process id belongs to nobody else.
        self._child.wait()
        self._leash.release()

    def log_tail(self) -> str:
        """Read what this child wrote, at most the last 64 KiB."""
        with self._log_path.open("rb") as file:
            end = file.seek(0, 2)
            file.seek(max(self._log_start, end - 65_536))
            return file.read().decode(errors="replace")
