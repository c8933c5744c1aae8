"""What a person sees and does while it runs: progress on a terminal, silence in a pipe, Ctrl-C."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn


class Stop:
    """A wish to end, seen between two events, so that counts stay true."""

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._event = threading.Event()

    @property
    def requested(self) -> bool:
        """Whether somebody wants it to end."""
        return self._event.is_set()

    @property
    def exit_code(self) -> int:
        """128 and the signal, as shells have it; 0 where no signal came."""
        return 0 if self.signal_number is None else 128 + self.signal_number

    def request(self) -> None:
        """Ask for the end."""
        self._event.set()

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until the end is wanted; return whether it is."""
        return self._event.wait(seconds)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.requested:
            # A second time: they mean it.
            raise KeyboardInterrupt
        self.signal_number = number
        self._event.set()


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Turn Ctrl-C and SIGTERM into a wish to end."""
    stop = Stop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, stop._on_signal) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def say(text: str) -> None:
    """Write a line to people; what is said on standard output is for programs too."""
    print(text, file=sys.stderr, flush=True)


class ProgressLine:
    """One line that moves on a terminal; nothing in a pipe, or where a parent process draws."""

    def __init__(self, total: float | None, *, quiet: bool = False) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            *([BarColumn(), TaskProgressColumn()] if total is not None else []),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            disable=quiet or not sys.stderr.isatty(),
            transient=True,
        )
        self._task = self._progress.add_task("", total=total)

    def show(self, text: str, completed: float | None = None) -> None:
        """Write the line anew."""
        self._progress.update(self._task, description=text, completed=completed)

    def __enter__(self) -> "ProgressLine":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
