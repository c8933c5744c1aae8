"""What the trainer and the pipeline tell, as metrics."""

from monitoring.metrics import Metrics
from stream.scorer import Processed
from stream.trainer_messages import Facts, Started


def report_start(metrics: Metrics, started: Started) -> None:
    """Take over what earlier runs counted."""
    metrics.resume_measure(started.measure)
    if started.checkpoint_at is not None:
        metrics.observe_checkpoint(started.checkpoint_at)


def report_facts(metrics: Metrics, facts: Facts) -> None:
    """Report how the trainer is doing."""
    for step in facts.steps:
        metrics.observe_step(step.report, step.seconds, step.n_sampled_out)
    for outcome, n in facts.new_examples.items():
        if outcome != "learned":  # those are counted with their steps
            metrics.count_examples(outcome, n)  # type: ignore[arg-type]  # the outcomes are the metric's labels
    metrics.observe_lag("training-examples", facts.lag)
    metrics.observe_lag_seconds("training-examples", facts.lag_seconds)
    metrics.overload_level.labels("learning").set(facts.overload)
    metrics.observe_measure(facts.measure)
    metrics.guard_trial.set(facts.on_trial)
    metrics.guard_exhausted.set(facts.guard_exhausted)
    for seconds in facts.checkpoint_seconds:
        metrics.observe_checkpoint(facts.checkpoint_at or 0.0, seconds)


def report_published(metrics: Metrics, processed: Processed, flush_seconds: float, delivered_ms: int) -> None:
    """Report a batch whose outputs are delivered."""
    metrics.observe_answers([(delivered_ms - logged_at) / 1000 for logged_at in processed.answered_at])
    metrics.count_lists(len(processed.answered_at) - processed.n_coalesced, processed.n_coalesced)
    for outcome, n in processed.outcomes.items():
        if outcome != "rejected":  # those are counted with their reasons
            metrics.count_events(outcome, n)  # type: ignore[arg-type]  # the outcomes are the metric's labels
    for reason, n in processed.rejected.items():
        metrics.count_rejected(reason, n)  # type: ignore[arg-type]  # likewise
    for stage, seconds in processed.stage_seconds.items():
        metrics.observe_stage(stage, seconds)  # type: ignore[arg-type]  # likewise
    metrics.observe_stage("publish", flush_seconds)
