"""Commands that a parent process writes, one a line, read without ever waiting longer than wanted."""

import os
import select

_CHUNK = 4096
_MAX_LINE = 65_536


class Commands:
    """Lines from a pipe.

    Args:
        descriptor: Where they come from: 0 is standard input. It is read past Python's buffers, so nobody else may.

    Attributes:
        ended: Whether the other side has closed it.
    """

    def __init__(self, descriptor: int) -> None:
        self.ended = False
        self._descriptor = descriptor
        self._rest = b""

    def take(self, timeout_seconds: float = 0.0) -> list[str]:
        """Return the commands that have arrived; wait so long for one where there is none."""
        if self.ended or not select.select([self._descriptor], [], [], timeout_seconds)[0]:
            return []
        chunk = os.read(self._descriptor, _CHUNK)
        if not chunk:
            self.ended = True
            lines, self._rest = [self._rest], b""
        else:
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            # No command is so long: somebody sends something else.
            self._rest = self._rest[-_MAX_LINE:]
        return [text for line in lines if (text := line.decode(errors="replace").strip())]
