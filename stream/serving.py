"""The serving copy of the weights: written and read by the compute thread alone, between batches."""

import os
import threading
from collections.abc import Callable
from time import perf_counter

import torch

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
        torch.set_num_threads(scoring_threads(os.cpu_count() or 1, torch.get_num_threads()))
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


def scoring_threads(n_cores: int, n_default: int) -> int:
    """Return how many threads of torch score: half of the cores, and no more than torch would take by itself.

    The trainer, the event loop and often the broker want the others. Threads that share an operation wait for each
    other: where one of them has to wait for its core, all do.

    >>> scoring_threads(2, 2), scoring_threads(16, 16), scoring_threads(16, 1)
    (1, 8, 1)
    """
    return max(1, min(n_default, n_cores // 2))
