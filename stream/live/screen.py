"""Where the view is drawn: the whole terminal, or a line now and then."""

from contextlib import suppress
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.status import Status

from stream.live.model import LiveState
from stream.live.plain import line
from stream.live.render import View

LINE_SECONDS = 3.0


class Progress:
    """Tells how far the start is: what is done stays, and what is being done has a spinner on a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None

    def doing(self, text: str) -> None:
        """Say what takes a while now."""
        if not self._console.is_terminal:
            self.say(f"{text} ...")
        elif self._status is None:
            self._status = self._console.status(text)
            self._status.start()
        else:
            self._status.update(text)

    def say(self, text: str) -> None:
        """Say what is so now."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def done(self) -> None:
        """Take the spinner away."""
        if self._status is not None:
            self._status.stop()
            self._status = None


class Screen(Protocol):
    """Something to draw the state on."""

    def draw(self, state: LiveState, now: float) -> None:
        """Show the state of this moment."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class WholeScreen:
    """The terminal's other screen: what stood on the first one is there again afterwards."""

    def __init__(self, console: Console) -> None:
        self._live = Live(
            console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )

    def draw(self, state: LiveState, now: float) -> None:
        """Draw over what stands there; nothing is wiped in between, so nothing flickers."""
        self._live.update(View(state, now), refresh=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):  # of a terminal that is gone
            self._live.stop()


class Lines:
    """A line every few seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next = 0.0

    def draw(self, state: LiveState, now: float) -> None:
        """Print a line, when it is time for one."""
        if now >= self._next:
            self._next = now + LINE_SECONDS
            self._console.print(line(state, now), highlight=False, markup=False, soft_wrap=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass
