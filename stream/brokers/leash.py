"""The leash that ends a child process with its parent, however the parent ends."""

import subprocess
from pathlib import Path

# Linux' death signal (PR_SET_PDEATHSIG) would follow the *thread* that started the child, not the process, needs code
# between fork and exec, and is Linux only. This small shell holds the reading end of a pipe instead: it sees the end
# of file when the parent is gone, SIGKILL included. A line on the pipe sends it home without doing anything.
_LEASH = """
read -r _ && exit 0
kill -CONT "$1" 2>/dev/null && kill -TERM "$1" 2>/dev/null
n=0
while kill -0 "$1" 2>/dev/null && [ "$n" -lt 100 ]; do sleep 0.1; n=$((n + 1)); done
kill -KILL "$1" 2>/dev/null
[ -z "$2" ] || rm -rf -- "$2"
"""
LEASH_SECONDS = 10.0


class Leash:
    """Watches over a child: when this process is gone it gets SIGTERM, after ten seconds SIGKILL."""

    def __init__(self, pid: int, scratch: Path | None = None) -> None:
        """Put the child on the leash.

        Args:
            pid: Of the child, which this process has not waited for yet.
            scratch: Folder to delete when this process is gone without having released the child.
        """
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", _LEASH, "leash", str(pid), str(scratch or "")],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def release(self) -> None:
        """Take the leash off: the child has ended, and its folder is the caller's."""
        try:
            self._shell.communicate(b"ended\n", timeout=LEASH_SECONDS)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self._shell.kill()
            self._shell.wait()
