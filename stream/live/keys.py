"""Single keys from the terminal, without waiting for a whole line, and the terminal as it was afterwards."""

import os
import select
import sys
import termios
import time
import tty
from contextlib import suppress
from types import TracebackType
from typing import Any, Self


class Keys:
    """Reads keys while it is entered; where standard input is no terminal there are none.

    A key that sends several characters (an arrow) is dropped as a whole: none of them is a command.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = _standard_input() if descriptor is None else descriptor
        self._before: list[Any] | None = None

    def __enter__(self) -> Self:
        if self._descriptor is not None and os.isatty(self._descriptor):
            self._before = termios.tcgetattr(self._descriptor)
            # Single characters, no echo; Ctrl-C stays a signal.
            tty.setcbreak(self._descriptor, termios.TCSANOW)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None and self._descriptor is not None:
            with suppress(termios.error):  # of a terminal that is gone
                termios.tcsetattr(self._descriptor, termios.TCSANOW, self._before)
            self._before = None

    def wait(self, seconds: float) -> str:
        """Wait so long for a key; return the keys that were pressed, most often none or one."""
        if self._before is None or self._descriptor is None:
            time.sleep(seconds)
            return ""
        if not select.select([self._descriptor], [], [], seconds)[0]:
            return ""
        try:
            pressed = os.read(self._descriptor, 64).decode(errors="replace")
        except OSError:  # the terminal is gone; SIGHUP says so too
            self._before = None
            return ""
        return "" if pressed.startswith("\x1b") else pressed


def _standard_input() -> int | None:
    try:
        return sys.stdin.fileno()
    except (OSError, ValueError, AttributeError):  # closed, or replaced by something without a descriptor
        return None
