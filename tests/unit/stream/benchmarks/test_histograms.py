"""Differences of two readings of `/metrics`."""

import math

import pytest
from prometheus_client import CollectorRegistry

from monitoring.metrics import Metrics
from stream.benchmarks.histograms import Histogram, between, stages
from stream.benchmarks.rig import parse


def test_only_what_came_between_the_readings_counts():
    metrics = Metrics(CollectorRegistry())
    metrics.observe_stage("score", 1.0)
    before = parse(metrics.exposition().decode())
    for _ in range(4):
        metrics.observe_stage("score", 0.003)
    metrics.observe_wait(0.01)
    after = parse(metrics.exposition().decode())
    found = stages(before, after, 2.0, ("score", "publish"))
    assert list(found) == ["score"]
    assert found["score"]["per_second"] == 2
    assert found["score"]["busy_cores"] == pytest.approx(0.006)
    assert 2 < found["score"]["p50_ms"] <= 4
    wait = between(before, after, "millstream_batch_wait_seconds")
    assert (wait.n, wait.total) == (1, pytest.approx(0.01))


def test_nothing_and_what_lies_beyond_the_last_bound():
    assert Histogram((), (), 0.0).quantile(0.5) == 0.0
    assert Histogram((1.0, math.inf), (0.0, 3.0), 9.0).quantile(0.5) == 1.0
