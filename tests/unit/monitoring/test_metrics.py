import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.parser import text_string_to_metric_families

from monitoring.labels import OUTCOMES, OVERLOADED, REJECT_REASONS, STAGES
from monitoring.measure import LABELS, cells
from monitoring.metrics import Metrics
from online_model.evaluation.tally import Tally
from online_model.protocol import Forecasts, LearnReport
from stream.records import REJECTION_REASONS

PROMISED = {
    "millstream_events_total": {"outcome"},
    "millstream_rejected_events_total": {"reason"},
    "millstream_recommendations_total": set(),
    "millstream_coalesced_total": set(),
    "millstream_event_to_recommendation_seconds_bucket": {"le"},
    "millstream_batch_wait_seconds_bucket": {"le"},
    "millstream_stage_seconds_bucket": {"stage", "le"},
    "millstream_prequential_scored_total": {"arm", "origin"},
    "millstream_prequential_hits_total": {"arm", "origin"},
    "millstream_prequential_reciprocal_rank_total": {"arm", "origin"},
    "millstream_prequential_pairs_total": {"against", "outcome"},
    "millstream_prequential_unscored_total": {"reason"},
    "millstream_prequential_late_lists_total": set(),
    "millstream_prequential_scored": {"arm", "origin"},
    "millstream_prequential_hits": {"arm", "origin"},
    "millstream_prequential_reciprocal_rank": {"arm", "origin"},
    "millstream_prequential_pairs": {"against", "outcome"},
    "millstream_prequential_unscored": {"reason"},
    "millstream_prequential_late_lists": set(),
    "millstream_examples_total": {"outcome"},
    "millstream_learned_examples_total": set(),
    "millstream_learn_loss": set(),
    "millstream_probability_stated_total": {"bin"},
    "millstream_probability_predicted_total": {"bin"},
    "millstream_probability_happened_total": {"bin"},
    "millstream_probability_squared_error_total": set(),
    "millstream_learn_step_seconds_bucket": {"le"},
    "millstream_freshness_seconds_bucket": {"le"},
    "millstream_model_version": set(),
    "millstream_consumer_lag": {"topic"},
    "millstream_lag_seconds": {"topic"},
    "millstream_overload_level": {"part"},
    "millstream_vocabulary_items": set(),
    "millstream_users": set(),
    "millstream_checkpoint_age_seconds": set(),
    "millstream_checkpoint_failures_total": set(),
    "millstream_updates_refused_total": {"reason"},
    "millstream_rollbacks_total": set(),
    "millstream_guard_trial": set(),
    "millstream_guard_exhausted": set(),
    "millstream_expired_total": {"topic"},
    "millstream_discarded_batches_total": set(),
    "millstream_evicted_total": {"kind"},
    "millstream_ready": set(),
    "millstream_build_info": {"version", "python", "torch", "role"},
}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry(), clock=lambda: 1000.0)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """Read one sample out of the exposition, as a scraper would."""
    for family in families(metrics):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return None


def families(metrics: Metrics) -> list[Metric]:
    return list(text_string_to_metric_families(metrics.exposition().decode()))


def test_every_promised_metric_is_exposed_with_its_labels(metrics: Metrics) -> None:
    metrics.observe_lag("user-events", 0)  # a gauge that is unknown is absent
    metrics.observe_lag_seconds("user-events", 0)
    samples = [sample for family in families(metrics) for sample in family.samples]
    labels = {sample.name: set(sample.labels) for sample in samples}
    assert {name: labels.get(name) for name in PROMISED} == PROMISED


def test_the_page_on_metrics_has_each_with_its_labels(repository: Path) -> None:
    text = (repository / "monitoring/README.md").read_text(encoding="utf-8")
    names = re.findall(r"`(?:(millstream_\w+)|…(_\w+))(?:\{([a-z,]+)\})?`", text.partition("## Metrics")[2])
    told = {
        name or f"millstream_prequential{rest}": set(filter(None, labels.split(","))) for name, rest, labels in names
    }
    for promised, labels in PROMISED.items():
        name = promised.removesuffix("_bucket")
        assert name in told, name
        if not re.search(r"prequential_.*(?<!_total)$", name):  # the gauges stand beside their counters
            assert told[name] == labels - {"le"}, name
    assert set(told) == {promised.removesuffix("_bucket") for promised in PROMISED}


def test_promtool_finds_no_fault(metrics: Metrics, require: Callable[..., None]) -> None:
    require("promtool")
    run = subprocess.run(["promtool", "check", "metrics"], input=metrics.exposition(), capture_output=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, b"", b"")


def test_no_series_stands_twice(metrics: Metrics) -> None:
    lines = [line.rsplit(" ", 1)[0] for line in metrics.exposition().decode().splitlines() if line[0] != "#"]
    assert len(lines) == len(set(lines))


def test_counters_start_at_zero_for_every_label(metrics: Metrics) -> None:
    for outcome in OUTCOMES:
        assert value(metrics, "millstream_events_total", outcome=outcome) == 0
    for reason in REJECT_REASONS:
        assert value(metrics, "millstream_rejected_events_total", reason=reason) == 0
    for stage in STAGES:
        assert value(metrics, "millstream_stage_seconds_count", stage=stage) == 0


def test_every_reason_for_a_rejection_has_a_counter() -> None:
    assert REJECT_REASONS == REJECTION_REASONS


def test_two_processes_in_one_do_not_share_metrics(metrics: Metrics) -> None:
    other = Metrics(CollectorRegistry())
    other.count_events("accepted", 5)
    assert value(metrics, "millstream_events_total", outcome="accepted") == 0


def test_a_rejected_event_counts_under_outcome_and_reason(metrics: Metrics) -> None:
    metrics.count_rejected("too-late", 2)
    assert value(metrics, "millstream_events_total", outcome="rejected") == 2
    assert value(metrics, "millstream_rejected_events_total", reason="too-late") == 2


def test_an_answer_before_its_event_by_the_brokers_clock_took_no_time(metrics: Metrics) -> None:
    metrics.observe_answer(-0.003)
    assert value(metrics, "millstream_event_to_recommendation_seconds_count") == 1
    assert value(metrics, "millstream_event_to_recommendation_seconds_sum") == 0


def test_many_answers_at_once_are_what_they_are_one_by_one(metrics: Metrics) -> None:
    """The histogram is filled past its `observe`: with `bisect_right` a wait on a bound is in the wrong bucket."""
    waits = [0.0, 0.001, 0.005, 0.005, 0.0051, 0.3, 1.0, 5.0, 1e9]
    single = Metrics(CollectorRegistry())
    for wait in waits:
        single.event_to_recommendation.observe(wait)
    metrics.observe_answers(waits)
    told = [
        [line for line in each.exposition().decode().splitlines() if "recommendation" in line and "created" not in line]
        for each in (metrics, single)
    ]
    assert told[0] == told[1]
    metrics.observe_answers([])


def test_lists_and_the_events_that_they_answer_besides_are_counted_apart(metrics: Metrics) -> None:
    metrics.count_lists(3, 2)
    assert value(metrics, "millstream_recommendations_total") == 3
    assert value(metrics, "millstream_coalesced_total") == 2


def test_a_lag_is_never_below_nothing_and_a_calm_start_says_so(metrics: Metrics) -> None:
    metrics.observe_lag_seconds("user-events", -0.2)
    assert value(metrics, "millstream_lag_seconds", topic="user-events") == 0
    for part in OVERLOADED:
        assert value(metrics, "millstream_overload_level", part=part) == 0


def test_who_was_only_counted_was_not_learned(metrics: Metrics) -> None:
    metrics.observe_step(LearnReport(n_examples=64, n_targets=16, loss=5.5, n_new_items=0, n_items=9), 0.02, 48)
    assert value(metrics, "millstream_examples_total", outcome="learned") == 16
    assert value(metrics, "millstream_learned_examples_total") == 16


def test_a_learning_step_is_reported_on_all_its_metrics(metrics: Metrics) -> None:
    metrics.observe_step(LearnReport(n_examples=64, n_targets=50, loss=5.5, n_new_items=3, n_items=900), 0.02)
    metrics.observe_step(LearnReport(n_examples=2, n_targets=0, loss=None, n_new_items=0, n_items=900), 0.01)
    assert value(metrics, "millstream_examples_total", outcome="learned") == 66
    assert value(metrics, "millstream_learned_examples_total") == 66
    assert value(metrics, "millstream_learn_loss") == 5.5
    assert value(metrics, "millstream_vocabulary_items") == 900
    assert value(metrics, "millstream_learn_step_seconds_count") == 2
    assert value(metrics, "millstream_stage_seconds_count", stage="learn") == 2


def test_what_lists_stated_is_counted_by_bin(metrics: Metrics) -> None:
    forecasts = Forecasts([5, 0, 0, 2, 0, 1], [0.01, 0.0, 0.0, 0.15, 0.0, 0.5], [0, 0, 0, 1, 0, 1], squared_error=0.9)
    for _ in range(2):
        metrics.observe_step(LearnReport(64, 50, 5.5, 3, 900, forecasts), 0.02)
    assert value(metrics, "millstream_probability_stated_total", bin="0.003") == 10
    assert value(metrics, "millstream_probability_predicted_total", bin="0.1") == pytest.approx(0.3)
    assert value(metrics, "millstream_probability_happened_total", bin="1") == 2
    assert value(metrics, "millstream_probability_squared_error_total") == pytest.approx(1.8)


def test_the_checkpoint_ages_by_the_clock() -> None:
    now = 1000.0
    metrics = Metrics(CollectorRegistry(), clock=lambda: now)
    assert value(metrics, "millstream_checkpoint_age_seconds") == 0
    now = 1060.0
    assert value(metrics, "millstream_checkpoint_age_seconds") == 60  # none yet: since the start
    metrics.observe_checkpoint(written_at=1050.0, seconds=0.4)
    assert value(metrics, "millstream_checkpoint_age_seconds") == 10
    assert value(metrics, "millstream_stage_seconds_count", stage="checkpoint") == 1


def test_the_measure_moves_counters_by_what_is_new(metrics: Metrics) -> None:
    metrics.observe_measure({"scored": {("live", "organic"): 10.0}, "late_lists": {(): 1.0}})
    metrics.observe_measure({"scored": {("live", "organic"): 12.0}, "late_lists": {(): 4.0}})
    assert value(metrics, "millstream_prequential_scored", arm="live", origin="organic") == 12
    assert value(metrics, "millstream_prequential_scored_total", arm="live", origin="organic") == 12
    assert value(metrics, "millstream_prequential_late_lists_total") == 4


def test_a_resumed_measure_keeps_exact_totals_and_starts_counters_at_zero(metrics: Metrics) -> None:
    metrics.resume_measure({"pairs": {("nightly", "live_only"): 100.0}})
    assert value(metrics, "millstream_prequential_pairs_total", against="nightly", outcome="live_only") == 0
    metrics.observe_measure({"pairs": {("nightly", "live_only"): 103.0}})
    assert value(metrics, "millstream_prequential_pairs", against="nightly", outcome="live_only") == 103
    assert value(metrics, "millstream_prequential_pairs_total", against="nightly", outcome="live_only") == 3


def test_a_rollback_lowers_totals_and_no_counter(metrics: Metrics) -> None:
    metrics.observe_measure({"unscored": {("first",): 20.0}})
    metrics.observe_measure({"unscored": {("first",): 15.0}})
    assert value(metrics, "millstream_prequential_unscored", reason="first") == 15
    assert value(metrics, "millstream_prequential_unscored_total", reason="first") == 20
    metrics.observe_measure({"unscored": {("first",): 16.0}})
    assert value(metrics, "millstream_prequential_unscored_total", reason="first") == 21


def test_what_the_live_measure_counts_is_what_is_exposed(metrics: Metrics) -> None:
    tally = Tally()
    tally.count("organic", {"live": 4, "nightly": 0}, late_list=True)
    tally.count_unscored("no_list")
    metrics.observe_measure(tally.totals())
    assert value(metrics, "millstream_prequential_reciprocal_rank_total", arm="live", origin="organic") == 0.25
    assert value(metrics, "millstream_prequential_pairs_total", against="nightly", outcome="live_only") == 1
    assert {q: set(cells(q)) for q in LABELS} == {q: set(values) for q, values in tally.totals().items()}


@pytest.mark.parametrize("totals", [{"clicks": {(): 1.0}}, {"scored": {("live", "paid"): 1.0}}])
def test_an_unknown_quantity_or_label_is_refused_before_anything_is_counted(
    metrics: Metrics, totals: dict[str, dict[tuple[str, ...], float]]
) -> None:
    with pytest.raises(ValueError, match=r"clicks|paid"):
        metrics.observe_measure({"late_lists": {(): 1.0}, **totals})
    assert value(metrics, "millstream_prequential_late_lists") == 0
