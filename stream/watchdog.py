"""Ends a worker that is alive but does not work; a supervisor starts it again.

Faust never looks at its group coordinator's errors, and a stuck event loop answers nobody. The watchdog is a plain
thread, so that it sees both. While the broker is away it waits: a restart would not bring it back.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from stream.settings import WatchdogSettings

logger = logging.getLogger(__name__)

EXIT_CODE = 70
PERIOD_SECONDS = 2.0
SLOW_SECONDS = 5.0
"""A look that takes longer, or comes so much later, tells nothing about the worker."""


@dataclass(frozen=True, slots=True)
class Vitals:
    """What the watchdog looks at; all of it is called from its own thread.

    Attributes:
        beat: When the event loop last ran, on the monotonic clock.
        progress: When a transaction last succeeded, or the state of an assignment was loaded.
        ready: Partitions are assigned, and their states are loaded or being loaded.
        lag: Events not yet read in the partitions held; None when the broker does not answer.
        why_away: What was heard last of a broker that does not answer.
        learned: When the trainer was last seen to go on in its log.
        unlearned: Examples that wait for it; 0 while they may just be too few for a step.
        coordinator: Raises what the group coordinator could not deal with.
    """

    beat: Callable[[], float]
    progress: Callable[[], float]
    ready: Callable[[], bool]
    lag: Callable[[], int | None]
    why_away: Callable[[], str]
    learned: Callable[[], float]
    unlearned: Callable[[], int]
    coordinator: Callable[[], None]


class Watchdog:
    """Looks every two seconds; `verdict` decides, `end` acts.

    Args:
        vitals: What to look at.
        patience: How long each sign of life may be missing.
        end: Ends the process for the reason given.
        alive: Told of each look that found nothing wrong.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        vitals: Vitals,
        patience: WatchdogSettings,
        end: Callable[[str], None],
        alive: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._vitals = vitals
        self._patience = patience
        self._clock = clock
        self._end = end
        self._alive = alive
        self._stopped = threading.Event()
        self._away_since: float | None = None
        self._excused = self._was_ready = self._had_no_lag = self._had_no_examples = clock()

    def start(self) -> None:
        """Begin to look."""
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Look no more: the worker is stopping, and has a deadline of its own for that."""
        self._stopped.set()

    def excuse(self) -> None:
        """Begin every clock anew: for a while nothing could be expected."""
        self._excused = self._was_ready = self._had_no_lag = self._had_no_examples = self._clock()

    def verdict(self) -> str | None:
        """Return why the worker must end; None while it works, or while the broker is away."""
        began = self._clock()
        lag = self._vitals.lag()
        now = self._clock()
        self._note_broker(lag is not None, now)
        if lag is None or now - began > SLOW_SECONDS:
            self.excuse()
            return None
        if self._vitals.ready():
            self._was_ready = now
        if lag == 0:
            self._had_no_lag = now
        if (unlearned := self._vitals.unlearned()) == 0:
            self._had_no_examples = now
        try:
            self._vitals.coordinator()
        except Exception as error:
            return f"the group coordinator gave up: {error!r}"
        return self._overdue(now, lag, unlearned)

    def _overdue(self, now: float, lag: int, unlearned: int) -> str | None:
        patience, vitals = self._patience, self._vitals
        still = now - max(vitals.beat(), self._excused)
        if still > patience.loop_seconds:
            return f"the event loop has not run for {still:.0f} s"
        if (waited := now - self._was_ready) > patience.assignment_seconds:
            return f"no ready assignment for {waited:.0f} s while the broker answers"
        silent = now - max(vitals.progress(), self._had_no_lag)
        if silent > patience.stall_seconds:
            return f"{lag} events wait and nothing was committed for {silent:.0f} s while the broker answers"
        idle = now - max(vitals.learned(), self._had_no_examples)
        if idle > patience.learning_seconds:
            return f"{unlearned} examples wait and the trainer has learned none for {idle:.0f} s"
        return None

    def _note_broker(self, answers: bool, now: float) -> None:
        """One line when the broker goes, one when it is back: the clients' own lines about it are a storm."""
        if answers and self._away_since is not None:
            logger.warning("broker answers again away_seconds=%.0f", now - self._away_since)
            self._away_since = None
        elif not answers and self._away_since is None:
            self._away_since = now
            logger.error("broker does not answer: %s", self._vitals.why_away())

    def _run(self) -> None:
        while True:
            slept_at = self._clock()
            if self._stopped.wait(PERIOD_SECONDS):
                return
            if self._clock() - slept_at > PERIOD_SECONDS + SLOW_SECONDS:
                self.excuse()  # the whole process stood still: everything else has to wake up first, too
                continue
            try:
                why = self.verdict()
            except Exception:
                logger.exception("watchdog cannot look")
                continue
            if why is None:
                self._alive()
            elif not self._stopped.is_set():
                self._end(why)
                return
