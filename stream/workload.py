"""What a worker has in work and what waits for it: how old that is, and what it demands of the next batches."""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

from monitoring.metrics import Metrics
from stream.intake import CATCHING_UP_MS, Batch
from stream.overload import AnswerPressure, Regime
from stream.scorer import Processed
from stream.settings import Settings

THROTTLE_SECONDS = 1.0
"""A worker waits no longer than this before a batch, whatever the trainer does."""
QUIET_MS = 5_000
"""A worker that has taken nothing for so long has nothing that it could take."""


class _Taken(NamedTuple):
    """The batch in work: when it was taken, the least Kafka timestamp in it, ms; its events; whether more waited."""

    at_ms: int
    oldest_ms: int
    n_events: int
    more: bool


class Workload:
    """Knows the batch in work, how far answers and learning are behind, and whether anybody waits for them.

    Used on the event loop; `processing` is asked for in the compute thread, `learning_lag` told by the trainer's.

    Attributes:
        learning_lag: Examples that the trainer has not learned, as far as is known here.

    Args:
        settings: Of the worker.
        metrics: Where lags and levels are reported.
        now_ms: The wall clock.
        limit_batches: Told how many events the next batches may have.
    """

    def __init__(
        self, settings: Settings, metrics: Metrics, now_ms: Callable[[], int], limit_batches: Callable[[int], None]
    ) -> None:
        self.learning_lag = 0
        self._max_learning_lag = settings.intake.max_learning_lag
        self._batch_size = settings.model.batch_size
        self._metrics = metrics
        self._now_ms = now_ms
        self._limit_batches = limit_batches
        self._pressure = AnswerPressure(settings.overload, settings.intake.max_batch)
        self._taken = _Taken(now_ms(), now_ms(), 0, False)
        self._is_backlog = True

    @property
    def unlearned(self) -> int:
        """Examples that wait for the trainer; a rest that is too small for a step waits for nobody."""
        return self.learning_lag if self.learning_lag >= 2 * self._batch_size else 0

    def resume(self, live_since: int) -> None:
        """Go on with what an earlier process knew: what Kafka received since that moment, ms, is live."""
        self._pressure.live_since = live_since

    def caught_up(self) -> bool:
        """Note that nothing to speak of waits; return whether that is new: what comes from now on is live."""
        return self._pressure.caught_up(self._now_ms())

    async def take(self, batch: Batch) -> None:
        """Take notice of a batch before it is worked on; where it is backlog, let a trainer far behind catch up.

        A backlog would else be scored with weights that know nothing of it. In a live stream nobody waits: where it is
        too much, answers come first, and learning lags.
        """
        deadline = monotonic() + THROTTLE_SECONDS
        while (
            self._is_backlog
            and self.learning_lag > self._max_learning_lag
            and self._now_ms() - batch.records[-1].timestamp > CATCHING_UP_MS
            and monotonic() < deadline
        ):
            await asyncio.sleep(0.01)
        at = self._now_ms()
        stamped = [record.timestamp for record in batch.records if record.timestamp >= 0]
        self._taken = _Taken(at, min(stamped, default=at), len(batch.records), batch.more)

    def processing(self) -> Regime:
        """Report how long the batch has waited; return how it is to be worked on."""
        self._metrics.observe_wait(self._age_seconds())
        return self._pressure.regime

    def published(self, processed: Processed) -> None:
        """Take notice of a batch whose answers are delivered."""
        self.learning_lag += processed.n_examples  # until the trainer says how far it is
        taken, oldest = self._taken, processed.oldest_live
        self._is_backlog = oldest is None
        # Where nothing is left waiting nothing is too much, whatever the clocks of broker and worker say. A batch of
        # nothing but rejects says nothing of those who wait behind it.
        lag_ms = taken.at_ms - oldest if oldest is not None and taken.more else 0
        if processed.n_examples or not taken.more:
            self._press(taken.n_events, (self._now_ms() - taken.at_ms) / 1000, lag_ms / 1000)
        self._metrics.observe_lag_seconds("user-events", self._age_seconds())

    def look(self, *, busy: bool) -> None:
        """Report what is on its way and grows older; where nothing is, and nothing waits, nothing lags."""
        if busy:
            self._metrics.observe_lag_seconds("user-events", self._age_seconds())
        elif not self._taken.more or self._now_ms() - self._taken.at_ms > QUIET_MS:
            self._press(0, 0.0, 0.0)
            self._metrics.observe_lag_seconds("user-events", 0.0)

    def _age_seconds(self) -> float:
        return (self._now_ms() - self._taken.oldest_ms) / 1000

    def _press(self, n_events: int, seconds: float, lag_seconds: float) -> None:
        """Let the next batches be as the lag of the last one demands."""
        self._pressure.observe(n_events, seconds, lag_seconds)
        self._limit_batches(self._pressure.batch_limit)
        self._metrics.overload_level.labels("answers").set(self._pressure.level)
