"""Every metric of a millstream process, on a registry that is passed in.

Label children exist from the start: a series that first appears at 1 has no rate, and its first event goes unseen.
"""

import math
import platform
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from importlib.metadata import version
from itertools import groupby

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from monitoring.labels import (
    EVICTED,
    EXAMPLE_OUTCOMES,
    OUTCOMES,
    OVERLOADED,
    REFUSAL_REASONS,
    REJECT_REASONS,
    STAGES,
    TOPIC_ROLES,
    ExampleOutcome,
    Outcome,
    RefusalReason,
    RejectReason,
    Stage,
    TopicRole,
)
from monitoring.measure import MeasureTotals, PrequentialMetrics
from monitoring.probability import ProbabilityMetrics
from online_model.protocol import LearnReport

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

_MS = 0.001
# Dense where answers are expected (5 to 25 ms at the median), up to the 10 s of a worker that is catching up.
_ANSWER_BUCKETS = tuple(
    n * _MS
    for n in (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 75, 100, 150, 250, 500, 1000, 2500, 5000, 10000)
)
_STAGE_BUCKETS = tuple(n * _MS for n in (0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 5000, 30000))
_LEARN_BUCKETS = tuple(n * _MS for n in (1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128, 256, 512, 1000, 5000))
_FRESHNESS_BUCKETS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30, 60, 300, 3600)


class Metrics:
    """What a process reports.

    The learner returns facts, the agent reports them here; nothing in `online_model` knows of metrics. Thread-safe, as
    prometheus-client is.

    Args:
        registry: Where the metrics are registered; one `Metrics` a registry.
        role: What this process does, a label of `millstream_build_info`.
        clock: Seconds since the epoch, for the age of the checkpoint.
    """

    def __init__(
        self, registry: CollectorRegistry, *, role: str = "all", clock: Callable[[], float] = time.time
    ) -> None:
        # `_created` series double the exposition, and Prometheus finds resets without them.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus-client leaves it untyped
        self.registry = registry
        self._clock = clock
        self._checkpoint_at = clock()
        ProcessCollector(registry=registry)
        self._intake()
        self._latency()
        self._learning()
        self._health(role)
        self.prequential = PrequentialMetrics(registry)

    def _intake(self) -> None:
        self.events = self._counter("events", "Records taken from the events topic", "outcome", OUTCOMES)
        self.rejected = self._counter("rejected_events", "Records sent to the rejected topic", "reason", REJECT_REASONS)
        self.recommendations = self._counter("recommendations", "Lists acknowledged by the broker")
        self.coalesced = self._counter("coalesced", "Events answered by the list of a later event of their user")
        self.expired = self._counter(
            "expired", "Records that the broker had deleted before they were read", "topic", TOPIC_ROLES
        )
        self.discarded_batches = self._counter(
            "discarded_batches", "Batches published and not committed: their partitions had moved, they are read again"
        )
        self.consumer_lag = self._gauge("consumer_lag", "Records not yet read; absent until it is known", "topic")
        self.lag_seconds = self._gauge(
            "lag_seconds", "Age of the oldest record that is being worked on or waits; 0 where none does", "topic"
        )
        self.overload_level = self._gauge(
            "overload_level",
            "What has given way to live events that wait: 0 nothing; answers: 1 larger batches, 2 coalesced lists; "
            "learning: 1 larger steps, 2 a sample",
            "part",
        )
        for part in OVERLOADED:
            self.overload_level.labels(part).set(0)

    def _latency(self) -> None:
        self.event_to_recommendation = Histogram(
            "millstream_event_to_recommendation_seconds",
            "From the event's Kafka timestamp to the delivered answer",
            buckets=_ANSWER_BUCKETS,
            registry=self.registry,
        )
        self.batch_wait_seconds = Histogram(
            "millstream_batch_wait_seconds",
            "From the Kafka timestamp of a batch's oldest event to the moment its work begins",
            buckets=_ANSWER_BUCKETS,
            registry=self.registry,
        )
        self.stage_seconds = Histogram(
            "millstream_stage_seconds",
            "Time a batch, a recovery, a snapshot or a checkpoint took in one stage",
            ["stage"],
            buckets=_STAGE_BUCKETS,
            registry=self.registry,
        )
        for stage in STAGES:
            self.stage_seconds.labels(stage)

    def _learning(self) -> None:
        self.examples = self._counter(
            "examples", "Distinct examples by what became of them", "outcome", EXAMPLE_OUTCOMES
        )
        self.learned_examples = self._counter("learned_examples", "Examples that a learning step took")
        self.learn_loss = self._gauge("learn_loss", "Mean loss over the targets of the last mini-batch")
        self.learn_loss.set(math.nan)  # 0 would look like a perfect model
        self.probability = ProbabilityMetrics(self.registry)
        self.learn_step_seconds = Histogram(
            "millstream_learn_step_seconds", "Time of one learning step", buckets=_LEARN_BUCKETS, registry=self.registry
        )
        self.freshness_seconds = Histogram(
            "millstream_freshness_seconds",
            "From the Kafka timestamp of the oldest event in an update to the weights that serve it",
            buckets=_FRESHNESS_BUCKETS,
            registry=self.registry,
        )
        self.model_version = self._gauge("model_version", "Version of the weights that serve")
        self.updates_refused = self._counter(
            "updates_refused", "Updates of the weights that were not served", "reason", REFUSAL_REASONS
        )
        self.rollbacks = self._counter("rollbacks", "Returns to an earlier checkpoint")
        self.guard_trial = self._gauge("guard_trial", "1 while an earlier checkpoint is tried against the model of now")
        self.guard_exhausted = self._gauge("guard_exhausted", "1 while returns are so many that there is no other one")
        self.checkpoint_failures = self._counter("checkpoint_failures", "Checkpoints that could not be written")
        self.checkpoint_age_seconds = self._gauge(
            "checkpoint_age_seconds", "Age of the newest checkpoint; since the start, where there is none yet"
        )
        self.checkpoint_age_seconds.set_function(lambda: max(0.0, self._clock() - self._checkpoint_at))

    def _health(self, role: str) -> None:
        self.ready = self._gauge("ready", "1 when partitions are assigned, users recovered and a model serves")
        self.vocabulary_items = self._gauge("vocabulary_items", "Items that can be recommended")
        self.users = self._gauge("users", "Users whose state this process holds")
        self.evicted = self._counter("evicted", "Dropped to stay within a limit", "kind", EVICTED)
        self.build_info = Gauge(
            "millstream_build_info",
            "1; what runs here, in its labels",
            ["version", "python", "torch", "role"],
            registry=self.registry,
        )
        self.build_info.labels(version("millstream"), platform.python_version(), version("torch"), role).set(1)

    def count_events(self, outcome: Outcome, n: int = 1) -> None:
        """Count `n` records of the events topic; rejected ones by `count_rejected`."""
        self.events.labels(outcome).inc(n)

    def count_rejected(self, reason: RejectReason, n: int = 1) -> None:
        """Count `n` rejected records, under their outcome and their reason."""
        self.events.labels("rejected").inc(n)
        self.rejected.labels(reason).inc(n)

    def observe_answer(self, seconds: float) -> None:
        """Record one answer that the broker acknowledged `seconds` after its event's Kafka timestamp."""
        self.observe_answers([seconds])

    def observe_answers(self, seconds: Sequence[float]) -> None:
        """Record a batch's answers, each with the seconds from its event's Kafka timestamp to the acknowledgement."""
        # The broker's clock may be ahead of this one.
        _observe_all(self.event_to_recommendation, [max(0.0, each) for each in seconds])

    def observe_wait(self, seconds: float) -> None:
        """Record how long the oldest event of a batch had stood in Kafka when its work began."""
        self.batch_wait_seconds.observe(max(0.0, seconds))  # the broker's clock may be ahead of this one

    def count_lists(self, n_lists: int, n_coalesced: int) -> None:
        """Count lists that the broker acknowledged, and the events that they answer beside their triggers."""
        self.recommendations.inc(n_lists)
        self.coalesced.inc(n_coalesced)

    def observe_stage(self, stage: Stage, seconds: float) -> None:
        """Record how long a stage took."""
        self.stage_seconds.labels(stage).observe(seconds)

    def observe_lag(self, topic: TopicRole, n_records: int) -> None:
        """Record how many records of a topic are still to be read."""
        self.consumer_lag.labels(topic).set(n_records)

    def observe_lag_seconds(self, topic: TopicRole, seconds: float) -> None:
        """Record how long the oldest record of a topic has been waiting."""
        # The broker's clock may be ahead of this one.
        self.lag_seconds.labels(topic).set(max(0.0, seconds))

    def count_expired(self, topic: TopicRole, n_records: int) -> None:
        """Count records below the log's start that this process should have read."""
        self.expired.labels(topic).inc(n_records)

    def count_examples(self, outcome: ExampleOutcome, n: int = 1) -> None:
        """Count examples that were not learned; learned ones by `observe_step`."""
        self.examples.labels(outcome).inc(n)

    def observe_step(self, report: LearnReport, seconds: float, n_sampled_out: int = 0) -> None:
        """Record one learning step and what it did; so many of its examples were counted and not learned."""
        n_learned = report.n_examples - n_sampled_out
        self.examples.labels("learned").inc(n_learned)
        self.learned_examples.inc(n_learned)
        self.vocabulary_items.set(report.n_items)
        self.learn_step_seconds.observe(seconds)
        self.observe_stage("learn", seconds)
        if report.loss is not None:
            self.learn_loss.set(report.loss)
        if report.forecasts is not None:
            self.probability.observe(report.forecasts)

    def observe_update(self, model_version: int, freshness_seconds: float) -> None:
        """Record that new weights serve, and how old the oldest event is that they are the first to know."""
        self.model_version.set(model_version)
        self.freshness_seconds.observe(max(0.0, freshness_seconds))

    def count_refused(self, reason: RefusalReason) -> None:
        """Count an update that did not reach the serving weights."""
        self.updates_refused.labels(reason).inc()

    def observe_checkpoint(self, written_at: float, seconds: float | None = None) -> None:
        """Record the newest checkpoint.

        Args:
            written_at: Seconds since the epoch; of the checkpoint that a start resumed from, too.
            seconds: What writing it took; None when it was only found.
        """
        self._checkpoint_at = written_at
        if seconds is not None:
            self.observe_stage("checkpoint", seconds)

    def resume_measure(self, totals: MeasureTotals) -> None:
        """Take over the live measure's totals out of a checkpoint; the counters stay where they are."""
        self.prequential.resume(totals)

    def observe_measure(self, totals: MeasureTotals) -> None:
        """Report the live measure: exact totals as gauges, what is new in them on the counters."""
        self.prequential.observe(totals)

    def exposition(self) -> bytes:
        """Return what `/metrics` answers, in the text format 0.0.4 (`CONTENT_TYPE`)."""
        return generate_latest(self.registry)

    def _counter(self, name: str, help_text: str, label: str | None = None, values: tuple[str, ...] = ()) -> Counter:
        counter = Counter(f"millstream_{name}", help_text, [label] if label else [], registry=self.registry)
        for value in values:
            counter.labels(value)
        return counter

    def _gauge(self, name: str, help_text: str, label: str | None = None) -> Gauge:
        return Gauge(f"millstream_{name}", help_text, [label] if label else [], registry=self.registry)


def _observe_all(histogram: Histogram, amounts: Sequence[float]) -> None:
    """Do what `observe` does, for many amounts at once: one by one they took a tenth of the time around the model."""
    bounds = histogram._upper_bounds
    histogram._sum.inc(sum(amounts))
    for place, together in groupby(sorted(bisect_left(bounds, amount) for amount in amounts)):
        histogram._buckets[place].inc(len(list(together)))
