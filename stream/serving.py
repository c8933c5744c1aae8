"""The serving copy of the weights: written and read by the compute thread alone, between batches."""

import threading
from collections.abc import Callable
from time import perf_counter

from monitoring.metrics import Metrics
from online_model.config import ModelConfig
from online_model.learner import OnlineLearner
from online_model.serving import ServingModel, Update, UpdateRefused
from online_model.warm import warm_up


class Serving:
    """Follows the trainer by its updates.

    Args:
        config: Of the model; what is served before the first update is an empty model of this size.
        metrics: Where updates are reported.
        now_ms: The wall clock.
    """

    def __init__(self, config: ModelConfig, metrics: Metrics, now_ms: Callable[[], int]) -> None:
        warm_up(config)
        self.model = ServingModel(OnlineLearner(config).update(full=True))
        self.ready = threading.Event()
        self._metrics = metrics
        self._now_ms = now_ms

    def apply(self, payload: bytes, oldest_logged_at: int | None) -> None:
        """Take an update.

        Args:
            payload: An encoded `Update`.
            oldest_logged_at: Kafka timestamp of the oldest event that it is the first to know, ms.

        Raises:
            UpdateRefused: It cannot be served; the weights are as before. Every later update builds on it, so the
                process must end and start from a full one.
        """
        started = perf_counter()
        update = Update.decode(payload)
        try:
            self.model.apply(update)
        except UpdateRefused as refused:
            self._metrics.count_refused(refused.reason)  # type: ignore[arg-type]  # the reasons are the metric's labels
            raise
        self.ready.set()
        self._metrics.model_version.set(self.model.version)
        self._metrics.vocabulary_items.set(self.model.n_items)
        if oldest_logged_at is not None:
            self._metrics.observe_update(self.model.version, (self._now_ms() - oldest_logged_at) / 1000)
        self._metrics.observe_stage("snapshot", perf_counter() - started)
