"""What the batch in work demands of the next ones; the clock is the test's."""

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest
from prometheus_client import CollectorRegistry

from monitoring.metrics import Metrics
from stream.intake import CATCHING_UP_MS, Batch, Record
from stream.scorer import Processed
from stream.settings import KafkaSettings, Settings
from stream.workload import QUIET_MS, Workload

MAX_BATCH = 100


class Desk:
    """A workload, its clock, and what it told."""

    def __init__(self) -> None:
        self.now = 1_000_000
        self.limits: list[int] = []
        self.metrics = Metrics(CollectorRegistry())
        settings = Settings(
            kafka=KafkaSettings(bootstrap_servers="127.0.0.1:1"),
            intake={"max_batch": MAX_BATCH, "max_learning_lag": 80},
            overload={"grow_after_seconds": 1.0, "coalesce_after_seconds": 5.0, "batch_deadline_ms": 2000},
            model={"batch_size": 10},
        )
        self.workload = Workload(settings, self.metrics, lambda: self.now, self.limits.append)

    def batch(self, age_ms: int, *, more: bool) -> Batch:
        records = [SimpleNamespace(timestamp=self.now - age_ms)] * MAX_BATCH
        return Batch(1, cast("list[Record]", records), {}, more)

    def work(self, age_ms: int, *, more: bool, live: bool) -> None:
        oldest = self.now - age_ms
        asyncio.run(self.workload.take(self.batch(age_ms, more=more)))
        self.now += 1000
        self.workload.published(Processed(oldest_live=oldest if live else None, n_examples=MAX_BATCH))

    @property
    def lag(self) -> float | None:
        return self.metrics.registry.get_sample_value("millstream_lag_seconds", {"topic": "user-events"})


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_live_events_that_waited_make_the_next_batches_larger(desk: Desk) -> None:
    desk.work(3000, more=True, live=True)
    assert desk.limits[-1] == 2 * MAX_BATCH
    assert desk.lag == 4.0


@pytest.mark.parametrize(("more", "live"), [(False, True), (True, False)])
def test_nothing_gives_way_where_nobody_waits(desk: Desk, more: bool, live: bool) -> None:
    """Of a backlog, however old, or where the batch was all there was, whatever the two clocks say."""
    desk.work(3000, more=more, live=live)
    assert desk.limits[-1] == MAX_BATCH


def test_at_rest_nothing_lags(desk: Desk) -> None:
    """Also where more waited and never came, as after a rebalance; not before it had its time."""
    desk.work(3000, more=True, live=True)
    desk.workload.look(busy=False)
    assert desk.limits[-1] == 2 * MAX_BATCH
    desk.now += QUIET_MS
    desk.workload.look(busy=True)
    assert desk.lag == 9.0
    desk.workload.look(busy=False)
    assert (desk.limits[-1], desk.lag) == (MAX_BATCH, 0.0)


@pytest.mark.parametrize(("age_ms", "lag", "waits"), [(10**6, 81, True), (10**6, 80, False), (0, 81, False)])
def test_a_backlog_waits_for_a_trainer_far_behind(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, age_ms: int, lag: int, waits: bool
) -> None:
    """Red where the age of the batch is not looked at: live events waited too."""
    assert age_ms == 0 or age_ms > CATCHING_UP_MS
    slept = []

    async def sleep(_: float) -> None:
        slept.append(True)
        desk.workload.learning_lag = 0

    monkeypatch.setattr("stream.workload.asyncio.sleep", sleep)
    desk.workload.learning_lag = lag
    asyncio.run(desk.workload.take(desk.batch(age_ms, more=True)))
    assert bool(slept) is waits


def test_a_rest_smaller_than_two_steps_waits_for_nobody(desk: Desk) -> None:
    desk.workload.learning_lag = 19
    assert desk.workload.unlearned == 0
    desk.workload.learning_lag = 20
    assert desk.workload.unlearned == 20
