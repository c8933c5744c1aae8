"""A recorded stream, sent again: at its own pace times a factor, or as fast as Kafka takes it."""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from producers.events import EventInvalid
from producers.files import EventFile, FileUnreadable, Line
from producers.mapping import EventMapper, LineInvalid
from producers.pace import Clock, RecordedPace
from producers.publish import DeliveryFailed, EventPublisher
from producers.terminal import Stop
from producers.times import TimeUnit, choose_unit, to_milliseconds

SAMPLE_LINES = 1000
MAX_PROBLEMS = 5
_FLUSH_SECONDS = 35.0
"""A little more than the client takes to give a record up, so that every record has its report."""


@dataclass
class ReplayReport:
    """How far a replay came.

    Attributes:
        produced: Events handed to the client.
        acknowledged: Events that all in-sync replicas have.
        skipped: Lines that made no event.
        problems: The first of those, each with its number and reason.
        last_line: Number of the last line that was read.
        failure: Why it ended early; None where the file, or the limit, was reached, or somebody stopped it.
        seconds: How long it took, delivery included.
    """

    produced: int = 0
    acknowledged: int = 0
    skipped: int = 0
    problems: list[str] = field(default_factory=list)
    last_line: int = 0
    failure: str | None = None
    seconds: float = 0.0

    def __str__(self) -> str:
        rate = self.acknowledged / self.seconds if self.seconds > 0 else 0.0
        return (
            f"produced {self.produced}, acknowledged {self.acknowledged}, skipped {self.skipped}, "
            f"{rate:.0f} events/s, read to line {self.last_line}"
        )


def sample(file: EventFile, mapper: EventMapper) -> tuple[Iterator[Line], list[object]]:
    """Look ahead a little.

    Returns:
        All lines, those looked at included, and the times of the first ones.
    """
    lines = iter(file)
    first: list[Line] = []
    try:
        for line in itertools.islice(lines, SAMPLE_LINES):
            first.append(line)
    except FileUnreadable as error:
        # What stands before the damage is good: it is sent first.
        lines = _damaged(error)
    times = [value for line in first if not line.problem and (value := mapper.time_of(line)) not in (None, "")]
    return itertools.chain(first, lines), times


def resolve_unit(times: list[object], wanted: TimeUnit) -> tuple[TimeUnit, str]:
    """Return the unit of the times, and why.

    Raises:
        TimeUnitUnclear: `auto`, and they do not say.
    """
    return (wanted, "as told") if wanted is not TimeUnit.AUTO else choose_unit(times)


def shift_to_now(times: Iterable[object], unit: TimeUnit, now_ms: int, speed: float | None) -> int:
    """Return what to add to every time so that the recording happens now, and no event ever ahead of its sending.

    Args:
        times: All times of the recording; only the first is looked at where the speed is 1 or less.
        unit: What they count.
        now_ms: The time of now, in milliseconds since the epoch.
        speed: The pace's factor, None for as fast as possible. Faster than recorded, the last event is now and the
            others before it; else the first is.
    """
    newest: int | None = None
    for value in times:
        try:
            moment = to_milliseconds(value, unit)
        except (ValueError, OverflowError):
            continue
        newest = moment if newest is None else max(newest, moment)
        if speed is not None and speed <= 1:
            break
    return 0 if newest is None else now_ms - newest


class Replay:
    """Sends the lines of a file.

    Args:
        mapper: Makes events of lines.
        publisher: Where they go.
        pace: When each is due; None for at once.
        stop: Whether somebody wants it to end; its `wait` is the pause between events.
        limit: Events to send at most.
        stop_on_error: End at the first line that makes no event, rather than skip it.
        on_progress: Called now and then with the report so far.
        clock: For the progress and the duration.
    """

    def __init__(
        self,
        mapper: EventMapper,
        publisher: EventPublisher,
        pace: RecordedPace | None,
        stop: Stop,
        *,
        limit: int | None = None,
        stop_on_error: bool = False,
        on_progress: Callable[[ReplayReport], None] = lambda _: None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._mapper = mapper
        self._publisher = publisher
        self._pace = pace
        self._stop = stop
        self._limit = limit
        self._stop_on_error = stop_on_error
        self._on_progress = on_progress
        self._clock = clock
        self.report = ReplayReport()

    def run(self, lines: Iterable[Line]) -> ReplayReport:
        """Send until the file ends, the limit is reached, somebody stops it, or Kafka fails; then flush."""
        started = self._clock()
        try:
            self._send_all(lines)
        except (FileUnreadable, DeliveryFailed) as error:
            self.report.failure = str(error)
        self._finish()
        self.report.seconds = self._clock() - started
        return self.report

    def _send_all(self, lines: Iterable[Line]) -> None:
        report, publisher, next_progress = self.report, self._publisher, self._clock()
        for line in lines:
            if self._stop.requested or report.produced == self._limit or publisher.failed:
                return
            if not self._send(line):
                return
            report.last_line = line.number
            # A look at the clock is cheap, but not for nothing at full speed.
            if (self._pace is not None or line.number % 256 == 0) and self._clock() >= next_progress:
                report.acknowledged = publisher.acknowledged
                self._on_progress(report)
                next_progress = self._clock() + 0.2

    def _send(self, line: Line) -> bool:
        """Send one line; return whether to go on."""
        try:
            event = self._mapper.event(line)
            if self._pace is not None and not self._wait(self._pace.delay(event.timestamp)):
                return False
            self._publisher.send(event)
        except (LineInvalid, EventInvalid) as error:
            return self._skip(line.number, str(error))
        self.report.produced += 1
        return True

    def _wait(self, seconds: float) -> bool:
        """Wait, taking in delivery reports; return False where it is to end."""
        while seconds > 0:
            pause = min(seconds, 0.25)
            if self._stop.wait(pause):
                return False
            self._publisher.poll()
            if self._publisher.failed:
                return False
            seconds -= pause
        return True

    def _skip(self, number: int, reason: str) -> bool:
        self.report.skipped += 1
        if len(self.report.problems) < MAX_PROBLEMS:
            self.report.problems.append(f"line {number}: {reason}")
        if self._stop_on_error:
            self.report.failure = f"stopped at line {number}: {reason}"
        return not self._stop_on_error

    def _finish(self) -> None:
        try:
            self._publisher.flush(_FLUSH_SECONDS)
        except DeliveryFailed as error:
            self.report.failure = f"Kafka did not take everything: {error}"
        except KeyboardInterrupt:
            self.report.failure = "asked twice to stop: what is not acknowledged may or may not have arrived"
        self.report.acknowledged = self._publisher.acknowledged


def _damaged(error: FileUnreadable) -> Iterator[Line]:
    raise error
    yield  # makes it an iterator: the error comes when its turn does
