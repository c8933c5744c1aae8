"""A limit on storms of log lines: while a broker is away, a Kafka client repeats one line dozens of times a second.

The first lines of a kind are written as they come, the rest of its window is counted, and one line tells how many there
were. Nothing at level CRITICAL is held back.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import NamedTuple, TextIO

LINES = 3
"""Of a kind, in one window."""
WINDOW_SECONDS = 10.0
MAX_KINDS = 1_000


class Kind(NamedTuple):
    """What makes two lines alike: their arguments may differ."""

    logger: str
    level: int
    template: str


@dataclass(slots=True)
class _Window:
    began: float
    n_written: int = 0
    n_held_back: int = 0


class StormLimit:
    """Decides which lines are written. Not thread-safe.

    >>> limit = StormLimit(lines=1, window_seconds=10, clock=lambda: 0.0)
    >>> kind = Kind("aiokafka", logging.ERROR, "no connection to %s")
    >>> limit.admit(kind), limit.admit(kind), limit.admit(kind)
    (True, False, False)
    >>> limit.sums(everything=True)
    [(Kind(logger='aiokafka', level=40, template='no connection to %s'), 2)]
    """

    def __init__(
        self, lines: int = LINES, window_seconds: float = WINDOW_SECONDS, clock: Callable[[], float] = monotonic
    ) -> None:
        self._lines = lines
        self._window_seconds = window_seconds
        self._clock = clock
        self._windows: dict[Kind, _Window] = {}

    def admit(self, kind: Kind) -> bool:
        """Say whether a line of this kind is written now; one that is not is counted."""
        window = self._windows.get(kind)
        if window is None:
            if len(self._windows) >= MAX_KINDS:  # a text that is never the same twice makes no storm to be told of
                self._windows = {kept: window for kept, window in self._windows.items() if window.n_held_back}
            window = self._windows[kind] = _Window(self._clock())
        elif not window.n_held_back and self._is_over(window):
            window.began, window.n_written = self._clock(), 0
        if window.n_written < self._lines:
            window.n_written += 1
            return True
        window.n_held_back += 1
        return False

    def sums(self, everything: bool = False) -> list[tuple[Kind, int]]:
        """Return how many lines were held back in windows that are over, or in all of them, and begin those anew."""
        found = []
        for kind, window in self._windows.items():
            if window.n_held_back and (everything or self._is_over(window)):
                found.append((kind, window.n_held_back))
                # One line is as good as the sum itself: a storm that goes on is a line and a sum a window.
                window.began, window.n_written, window.n_held_back = self._clock(), self._lines - 1, 0
        return found

    @property
    def holds_back(self) -> bool:
        """Whether lines are counted that no sum has told yet."""
        return any(window.n_held_back for window in self._windows.values())

    def _is_over(self, window: _Window) -> bool:
        return self._clock() - window.began >= self._window_seconds


class CalmHandler(logging.StreamHandler[TextIO]):
    """Writes log lines to a stream, storms summed up.

    Args:
        stream: Where to; standard error by default.
        limit: What decides.
    """

    def __init__(self, stream: TextIO | None = None, limit: StormLimit | None = None) -> None:
        super().__init__(stream)
        self._limit = limit or StormLimit()
        self._timer: threading.Timer | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, or count it; the handler's lock is held."""
        if record.levelno >= logging.CRITICAL:
            super().emit(record)
            return
        if self._limit.admit(Kind(record.name, record.levelno, str(record.msg))):
            super().emit(record)
        elif self._timer is None:
            self._start_timer()

    def close(self) -> None:
        """Tell what was held back and not yet told."""
        self._sum_up(everything=True)
        super().close()

    def _sum_up(self, everything: bool = False) -> None:
        self.acquire()
        try:
            self._timer = None
            for kind, n_lines in self._limit.sums(everything):
                sum_line = f"... {n_lines:,} more in {WINDOW_SECONDS:.0f} s: {kind.template}"
                super().emit(logging.LogRecord(kind.logger, kind.level, "", 0, sum_line, None, None))
            if self._limit.holds_back:
                self._start_timer()
        finally:
            self.release()

    def _start_timer(self) -> None:
        self._timer = threading.Timer(WINDOW_SECONDS, self._sum_up)
        self._timer.daemon = True
        self._timer.start()


def configure(level: str) -> None:
    """Log this process's changes of state to standard error, and clients' lines where something is wrong."""
    handler = CalmHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
    for noisy in ("faust", "mode", "aiokafka", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
