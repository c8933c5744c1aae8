"""When to send: the pace of recorded times, or so many a second. Clock and waiting are passed in."""

from collections.abc import Callable
from dataclasses import dataclass, field

Clock = Callable[[], float]
"""Seconds that only go forward."""


@dataclass
class RecordedPace:
    """Due times that follow the recorded ones.

    Attributes:
        speed: How many times as fast as recorded.
        max_pause_seconds: No wait is longer: nights and gaps in a recording are not sat through.
        clock: Where the time of now comes from.
    """

    speed: float
    clock: Clock
    max_pause_seconds: float = 10.0
    _due: float | None = None
    _newest_ms: int = 0

    def delay(self, time_ms: int) -> float:
        """Return the seconds to wait before the event of that time is sent; 0 when it is late already."""
        if self._due is None:
            self._due, self._newest_ms = self.clock(), time_ms
        if time_ms > self._newest_ms:
            # Out of order is sent at once, and does not turn the schedule back.
            self._due += min((time_ms - self._newest_ms) / 1000 / self.speed, self.max_pause_seconds)
            self._newest_ms = time_ms
        return max(0.0, self._due - self.clock())


@dataclass
class SteadyPace:
    """So many events a second.

    Attributes:
        per_second: How many.
        clock: Where the time of now comes from.
        max_backlog_seconds: What was missed by more than this (a machine that slept) is not made up for.
    """

    per_second: float
    clock: Clock
    max_backlog_seconds: float = 1.0
    _due: float | None = field(default=None)

    def delay(self) -> float:
        """Return the seconds to wait before the next event, and count that event."""
        now = self.clock()
        if self._due is None or self._due < now - self.max_backlog_seconds:
            self._due = now
        wait = max(0.0, self._due - now)
        self._due += 1 / self.per_second
        return wait
