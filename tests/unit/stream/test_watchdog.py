import threading
from dataclasses import dataclass, field

import pytest

from stream.settings import WatchdogSettings
from stream.watchdog import SLOW_SECONDS, Vitals, Watchdog


@dataclass
class Worker:
    """A worker whose signs of life are set by hand."""

    now: float = 100.0
    beat: float = 100.0
    progress: float = 100.0
    ready: bool = True
    lag: int | None = 0
    lag_seconds: float = 0.0
    learned: float = 100.0
    unlearned: int = 0
    error: Exception | None = None
    ends: list[str] = field(default_factory=list)

    def coordinator(self) -> None:
        if self.error is not None:
            raise self.error

    def read_lag(self) -> int | None:
        self.now += self.lag_seconds
        return self.lag

    def watched(self) -> Watchdog:
        vitals = Vitals(
            beat=lambda: self.beat,
            progress=lambda: self.progress,
            ready=lambda: self.ready,
            lag=self.read_lag,
            why_away=lambda: "refused",
            learned=lambda: self.learned,
            unlearned=lambda: self.unlearned,
            coordinator=self.coordinator,
        )
        patience = WatchdogSettings(loop_seconds=10, assignment_seconds=30, stall_seconds=20, learning_seconds=40)
        return Watchdog(vitals, patience, self.ends.append, clock=lambda: self.now)

    def passes(self, seconds: float) -> None:
        """Let time pass, the loop running."""
        self.now += seconds
        self.beat = self.now


def test_a_working_worker_lives() -> None:
    worker = Worker()
    dog = worker.watched()
    for _ in range(100):
        worker.passes(5)
        worker.progress = worker.learned = worker.now
        worker.lag, worker.unlearned = 1000, 1000
        assert dog.verdict() is None


def test_an_idle_worker_lives() -> None:
    """Red where a clock of lag, or of examples, runs on while nothing waits."""
    worker = Worker()
    dog = worker.watched()
    for _ in range(100):
        worker.passes(5)
        assert dog.verdict() is None


def test_a_stuck_loop_ends_it() -> None:
    """Red without the look at the loop."""
    worker = Worker()
    dog = worker.watched()
    worker.now += 11
    assert "event loop" in (dog.verdict() or "")


def test_lag_without_a_commit_ends_it() -> None:
    """Red without the look at the lag."""
    worker = Worker()
    dog = worker.watched()
    worker.lag = 5
    worker.passes(19)
    assert dog.verdict() is None
    worker.passes(2)
    assert "nothing was committed" in (dog.verdict() or "")


def test_no_assignment_ends_it() -> None:
    """Red without the look at the assignment."""
    worker = Worker(ready=False)
    dog = worker.watched()
    worker.passes(31)
    assert "no ready assignment" in (dog.verdict() or "")


def test_a_trainer_that_learns_nothing_ends_it_and_one_that_has_nothing_to_learn_does_not() -> None:
    """Red without the look at the examples."""
    worker = Worker()
    dog = worker.watched()
    worker.passes(100)
    assert dog.verdict() is None
    worker.unlearned = 500
    worker.passes(39)
    assert dog.verdict() is None
    worker.passes(2)
    assert "500 examples wait" in (dog.verdict() or "")
    worker.learned = worker.now
    assert dog.verdict() is None


def test_an_error_of_the_coordinator_ends_it() -> None:
    """Red where that error is passed over."""
    worker = Worker(error=RuntimeError("not authorised"))
    assert "not authorised" in (worker.watched().verdict() or "")


def test_while_the_broker_is_away_it_waits_and_every_clock_starts_again_after() -> None:
    """Red without the excuse."""
    worker = Worker(unlearned=500)
    dog = worker.watched()
    worker.lag, worker.ready = None, False
    for _ in range(50):
        worker.passes(5)
        assert dog.verdict() is None
    worker.lag = 7
    worker.passes(5)
    assert dog.verdict() is None


def test_a_broker_that_takes_its_time_is_no_working_broker() -> None:
    """It froze and went on: the answer came in the end, and nothing could be committed meanwhile.

    Red where a slow answer counts as one.
    """
    worker = Worker(lag=7, lag_seconds=SLOW_SECONDS + 20)
    dog = worker.watched()
    worker.passes(5)
    assert dog.verdict() is None
    worker.lag_seconds = 0
    worker.passes(19)
    assert dog.verdict() is None


def test_the_broker_s_absence_is_told_once_and_so_is_its_return(caplog: pytest.LogCaptureFixture) -> None:
    """Red where each look tells of it."""
    worker = Worker(lag=None)
    dog = worker.watched()
    for _ in range(10):
        worker.passes(5)
        dog.verdict()
    worker.lag = 0
    for _ in range(10):
        worker.passes(5)
        dog.verdict()
    assert [record.getMessage() for record in caplog.records] == [
        "broker does not answer: refused",
        "broker answers again away_seconds=50",
    ]


def test_a_process_that_stood_still_as_a_whole_is_excused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Continued after a pause, the watchdog may wake before the loop. Red without its excuse."""
    worker = Worker()
    dog = worker.watched()
    asleep = threading.Event()
    looks = 0

    class Pause:
        def is_set(self) -> bool:
            return False

        def wait(self, _seconds: float) -> bool:
            nonlocal looks
            looks += 1
            worker.now += 60 if looks == 1 else 2
            asleep.set()
            return looks > 2

    monkeypatch.setattr(dog, "_stopped", Pause())
    dog._run()
    assert worker.ends == []
