"""Ctrl-C and its kind: the first ends the demo in order, the next ones at once."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """Somebody wants it to end."""


class Interruptions:
    """Turns the first signal into an exception in the main thread, and later ones into hurry.

    Attributes:
        number: The first signal; None while there was none.
        hurry: Set by the second.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.hurry = threading.Event()
        self._is_ending = False
        self._before: dict[signal.Signals, Any] = {}

    @property
    def exit_code(self) -> int:
        """Give what shells expect; Ctrl-C is how a demo ends, so it is no failure."""
        return 0 if self.number in (None, signal.SIGINT) else 128 + (self.number or 0)

    def end(self) -> None:
        """Say that the end has begun: from now on a signal only makes it faster."""
        self._is_ending = True

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._take) for number in _NUMBERS}
        # A stopped demo would leave the terminal's other screen up, and its children at work.
        self._before[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, signal.SIG_IGN)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take(self, number: int, _frame: FrameType | None) -> None:
        if self._is_ending:
            self.hurry.set()
            return
        self._is_ending = True
        self.number = number
        raise Interrupted
