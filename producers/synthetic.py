"""The synthetic shop, running: events at a pace, its catalogue beside them, commands in between."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from producers.catalogue import Item, entry, write_catalogue
from producers.control import Commands
from producers.delivery import Delivery
from producers.pace import Clock, SteadyPace
from producers.publish import DeliveryFailed, EventPublisher
from producers.shop import Shop
from producers.terminal import Stop

USUAL_RATE = 200.0
_TICK_SECONDS = 0.05
_STATUS_SECONDS = 1.0
_FLUSH_SECONDS = 35.0
_LONG_AGO_MS = 60 * 86_400_000

Status: TypeAlias = dict[str, str | int | float | None]


def event_clock(wall_ms: Callable[[], int], factor: float, history: int | None) -> Callable[[int], int]:
    """Return the function from the number of an event to its time in milliseconds since the epoch, never in the future.

    Args:
        wall_ms: The time of now.
        factor: How many times as fast as the wall clock event time passes. Faster than 1 it starts 60 days ago; when it
            has caught up with the wall clock it stays with it.
        history: For events made as fast as possible: how many there will be. They lie as far apart as at `USUAL_RATE`
            events a second, times `factor`, and the last is now. None for events made at a pace.
    """
    began = wall_ms()
    if history is not None:
        step = 1000 / USUAL_RATE * factor
        return lambda number: began - round((history - number) * step)
    if factor == 1:
        return lambda _: wall_ms()

    def compressed(_number: int) -> int:
        now = wall_ms()
        return min(now, began - _LONG_AGO_MS + round((now - began) * factor))

    return compressed


class CatalogueOutput:
    """Where the catalogue goes: the topic, a file, both or neither.

    Args:
        delivery: Its producer; None where there is no topic.
        topic: Name of the topic.
        path: The file; None for none.
        known: Ids that the file has already.
    """

    def __init__(self, delivery: Delivery | None, topic: str, path: Path | None, known: Iterable[str] = ()) -> None:
        self._delivery = delivery
        self._topic = topic
        self._path = path
        self._known = frozenset(known)

    def write(self, changes: list[Item]) -> None:
        """Write items that came or went.

        Raises:
            DeliveryFailed: The client cannot send at all.
            OSError: The file cannot be written.
        """
        if not changes:
            return
        if self._delivery is not None:
            for item in changes:
                # A null value withdraws an item: compaction forgets it in time.
                self._delivery.send(self._topic, item.item_id.encode(), entry(item) if item.available else None)
        if self._path is not None:
            write_catalogue(self._path, [i for i in changes if not (i.available and i.item_id in self._known)])

    def flush(self) -> None:
        """Wait until Kafka has everything.

        Raises:
            DeliveryFailed: It does not.
        """
        if self._delivery is not None:
            self._delivery.flush(_FLUSH_SECONDS)


@dataclass
class SyntheticReport:
    """How far a shop came: as for a replay, `acknowledged` is what all in-sync replicas have."""

    events: int = 0
    acknowledged: int = 0
    best_reachable: float | None = None
    seconds: float = 0.0
    failure: str | None = None

    def __str__(self) -> str:
        rate = self.acknowledged / self.seconds if self.seconds > 0 else 0.0
        reach = "" if self.best_reachable is None else f", best reachable hit rate at 20 {self.best_reachable:.3f}"
        return f"produced {self.events}, acknowledged {self.acknowledged}, {rate:.0f} events/s{reach}"


class Synthetic:
    """Runs a shop.

    Args:
        shop: Who does what.
        publisher: Where the events go.
        catalogue: Where the catalogue goes.
        event_time: From the number of an event to its time; see `event_clock`.
        pace: When each event is due; None for at once.
        stop: Whether somebody wants it to end.
        limit: Events at most.
        commands: What a parent process wants; None where there is none.
        on_status: Called once a second and at the end, and with the answer to each command.
        clock: For the status and the duration.
        wall_ms: The time of now, in milliseconds since the epoch.
    """

    def __init__(
        self,
        shop: Shop,
        publisher: EventPublisher,
        catalogue: CatalogueOutput,
        event_time: Callable[[int], int],
        pace: SteadyPace | None,
        stop: Stop,
        *,
        limit: int | None = None,
        commands: Commands | None = None,
        on_status: Callable[[Status], None] = lambda _: None,
        clock: Clock = time.monotonic,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._shop = shop
        self._publisher = publisher
        self._catalogue = catalogue
        self._event_time = event_time
        self._pace = pace
        self._stop = stop
        self._limit = limit
        self._commands = commands
        self._on_status = on_status
        self._clock = clock
        self._wall_ms = wall_ms
        self._next_tick = 0.0
        self._status_at = clock()
        self._status_events = 0
        self._now_ms = 0

    def run(self) -> SyntheticReport:
        """Go on until the limit is reached, somebody stops it, the parent goes away, or Kafka fails; then flush."""
        report, started = SyntheticReport(), self._clock()
        try:
            self._catalogue.write(self._shop.stock.take_changes())
            self._catalogue.flush()
            while self._goes_on():
                self._step()
        except (DeliveryFailed, OSError) as error:
            report.failure = str(error)
        try:
            self._publisher.flush(_FLUSH_SECONDS)
            self._catalogue.flush()
        except DeliveryFailed as error:
            report.failure = f"Kafka did not take everything: {error}"
        except KeyboardInterrupt:
            report.failure = "asked twice to stop: what is not acknowledged may or may not have arrived"
        report.events, report.acknowledged = self._publisher.sent, self._publisher.acknowledged
        report.best_reachable = self._shop.best_reachable
        report.seconds = self._clock() - started
        self._on_status(self.status())
        return report

    def status(self) -> Status:
        """Return how it goes; the rate is that since the last time, in events a second."""
        now, sent = self._clock(), self._publisher.sent
        elapsed = now - self._status_at
        rate = (sent - self._status_events) / elapsed if elapsed > 0 else 0.0
        self._status_at, self._status_events = now, sent
        return {
            "events": sent,
            "acknowledged": self._publisher.acknowledged,
            "rate": round(rate, 1),
            "best_reachable": _rounded(self._shop.best_reachable),
            "best_reachable_recent": _rounded(self._shop.best_reachable_recent),
        }

    def _goes_on(self) -> bool:
        ended = self._commands is not None and self._commands.ended
        return not (ended or self._stop.requested or self._shop.n_events == self._limit or self._publisher.failed)

    def _step(self) -> None:
        wait = 0.0 if self._pace is None else self._pace.delay()
        while True:
            pause = min(wait, _TICK_SECONDS)
            self._wait(pause)
            wait -= pause
            if self._clock() >= self._next_tick:
                self._tick()
            if not self._goes_on():
                return
            if wait <= 0:
                break
        self._now_ms = self._event_time(self._shop.n_events + 1)
        self._publisher.send(self._shop.step(self._now_ms))
        self._catalogue.write(self._shop.stock.take_changes())

    def _wait(self, seconds: float) -> None:
        if seconds <= 0:
            return
        if self._commands is None:
            self._stop.wait(seconds)
        else:
            self._obey(self._commands.take(seconds))

    def _tick(self) -> None:
        now = self._clock()
        self._next_tick = now + _TICK_SECONDS
        self._publisher.poll()
        if self._commands is not None:
            self._obey(self._commands.take())
        if now - self._status_at >= _STATUS_SECONDS:
            self._on_status(self.status())

    def _obey(self, commands: list[str]) -> None:
        for command in commands:
            # An item is launched in the shop's own time; a person sees it on the wall clock.
            now_ms = self._event_time(self._shop.n_events + 1)
            if command == "launch":
                item = self._shop.launch(now_ms)
                self._catalogue.write(self._shop.stock.take_changes())
                self._on_status({"launched": item.item_id, "title": item.title, "at": self._wall_ms()})
            elif command == "drift":
                self._shop.drift()
                self._on_status({"drifted": self._shop.n_events, "at": self._wall_ms()})
            else:
                self._on_status({"error": f"no command {command[:100]!r}: there are launch and drift"})


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)
