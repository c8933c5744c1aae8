"""Ends a worker that is alive but does not work; a supervisor starts it again.

Faust never looks at its group coordinator's errors, and a stuck event loop answers nobody. The watchdog is a plain
thread, so that it sees both. While the broker is away it waits: a restart would not bring it back.
"""

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

logger = logging.getLogger(__name__)

EXIT_CODE = 70
PERIOD_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Vitals:
    """What the watchdog looks at; all of it is called from its own thread.

    Attributes:
        beat: When the event loop last ran, on the monotonic clock.
        progress: When a transaction last succeeded, or the state of an assignment was loaded.
        ready: Partitions are assigned and their states are loaded.
        lag: Events not yet read in the partitions held; None when the broker does not answer.
        coordinator: Raises what the group coordinator could not deal with.
    """

    beat: Callable[[], float]
    progress: Callable[[], float]
    ready: Callable[[], bool]
    lag: Callable[[], int | None]
    coordinator: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long each sign of life may be missing, seconds."""

    loop: float = 15.0
    assignment: float = 90.0
    stall: float = 60.0


class Watchdog:
    """Looks every two seconds; `verdict` decides, `end` acts."""

    def __init__(
        self,
        vitals: Vitals,
        patience: Patience | None = None,
        clock: Callable[[], float] = monotonic,
        end: Callable[[str], None] | None = None,
    ) -> None:
        self._vitals = vitals
        self._patience = patience or Patience()
        self._clock = clock
        self._end = end or _exit
        self._stopped = threading.Event()
        now = clock()
        self._broker_seen = self._was_ready = self._had_no_lag = now

    def start(self) -> None:
        """Begin to look."""
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Look no more: the worker is stopping, and has a deadline of its own for that."""
        self._stopped.set()

    def verdict(self) -> str | None:
        """Return why the worker must end; None while it works, or while the broker is away."""
        now, patience = self._clock(), self._patience
        lag = self._vitals.lag()
        if lag is None:
            self._broker_seen = self._was_ready = self._had_no_lag = now
            return None
        if self._vitals.ready():
            self._was_ready = now
        if lag == 0:
            self._had_no_lag = now
        try:
            self._vitals.coordinator()
        except Exception as error:
            return f"the group coordinator gave up: {error!r}"
        if now - self._vitals.beat() > patience.loop:
            return f"the event loop has not run for {now - self._vitals.beat():.0f} s"
        if now - self._was_ready > patience.assignment:
            return f"no ready assignment for {now - self._was_ready:.0f} s while the broker answers"
        silent = now - max(self._vitals.progress(), self._had_no_lag, self._broker_seen)
        if silent > patience.stall:
            return f"{lag} events wait and nothing was committed for {silent:.0f} s while the broker answers"
        return None

    def _run(self) -> None:
        while not self._stopped.wait(PERIOD_SECONDS):
            try:
                why = self.verdict()
            except Exception:
                logger.exception("watchdog cannot look")
                continue
            if why is not None and not self._stopped.is_set():
                self._end(why)
                return


def _exit(why: str) -> None:
    logger.critical("watchdog ends the worker: %s", why)
    os._exit(EXIT_CODE)
