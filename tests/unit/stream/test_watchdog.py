from dataclasses import dataclass

from stream.supervise import pause_seconds
from stream.watchdog import Patience, Vitals, Watchdog


@dataclass
class Worker:
    """A worker whose signs of life are set by hand."""

    now: float = 100.0
    beat: float = 100.0
    progress: float = 100.0
    ready: bool = True
    lag: int | None = 0
    error: Exception | None = None

    def coordinator(self) -> None:
        if self.error is not None:
            raise self.error

    def watched(self) -> Watchdog:
        vitals = Vitals(
            beat=lambda: self.beat,
            progress=lambda: self.progress,
            ready=lambda: self.ready,
            lag=lambda: self.lag,
            coordinator=self.coordinator,
        )
        return Watchdog(vitals, Patience(loop=10, assignment=30, stall=20), clock=lambda: self.now)


def test_a_working_worker_lives() -> None:
    worker = Worker()
    dog = worker.watched()
    for _ in range(100):
        worker.now += 5
        worker.beat = worker.progress = worker.now
        worker.lag = 1000
        assert dog.verdict() is None


def test_an_idle_worker_lives() -> None:
    worker = Worker()
    dog = worker.watched()
    for _ in range(100):
        worker.now += 5
        worker.beat = worker.now
        assert dog.verdict() is None


def test_a_stuck_loop_ends_it() -> None:
    worker = Worker()
    dog = worker.watched()
    worker.now += 11
    assert "event loop" in (dog.verdict() or "")


def test_lag_without_a_commit_ends_it() -> None:
    worker = Worker()
    dog = worker.watched()
    worker.lag = 5
    worker.now += 19
    worker.beat = worker.now
    assert dog.verdict() is None
    worker.now += 2
    worker.beat = worker.now
    assert "nothing was committed" in (dog.verdict() or "")


def test_no_assignment_ends_it() -> None:
    worker = Worker(ready=False)
    dog = worker.watched()
    worker.now += 31
    worker.beat = worker.now
    assert "no ready assignment" in (dog.verdict() or "")


def test_an_error_of_the_coordinator_ends_it() -> None:
    worker = Worker(error=RuntimeError("not authorised"))
    assert "not authorised" in (worker.watched().verdict() or "")


def test_while_the_broker_is_away_it_waits_and_every_clock_starts_again_after() -> None:
    worker = Worker()
    dog = worker.watched()
    worker.lag, worker.ready = None, False
    for _ in range(50):
        worker.now += 5
        worker.beat = worker.now
        assert dog.verdict() is None
    worker.lag = 7
    worker.now += 5
    worker.beat = worker.now
    assert dog.verdict() is None


def test_pauses_grow_to_a_ceiling() -> None:
    pauses = [pause_seconds(n, lambda: 0.0) for n in range(1, 12)]
    assert pauses == sorted(pauses)
    assert pauses[0] == 1.0
    assert pauses[-1] == 60.0
