"""Benchmarks of a worker, so small that their figures mean nothing: they must run to the end."""

import pytest

from stream.benchmarks import freshness, latency
from stream.settings import Settings


@pytest.fixture
def settings(needs_kafka) -> Settings:
    return Settings()


@pytest.mark.long
def test_latency_by_rate_and_by_stage(settings, monkeypatch):
    monkeypatch.setattr(latency, "WARM_UP_SECONDS", 0.5)
    monkeypatch.setattr(latency, "DRAIN_SECONDS", 2.0)
    rows = latency.once(settings, [50.0], capacity=False, seconds=2.0, backlog=500)
    assert rows["capacity"]["per_second"] > 0
    assert 0 < rows["50/s"]["answered"] <= 1.0  # a busy machine answers some later than the benchmark looks
    assert 0 < rows["50/s"]["p50_ms"] <= rows["50/s"]["p99_ms"]
    parts = rows["50/s worked on"]["p50_ms"], rows["50/s handed out"]["p50_ms"]
    assert all(part <= rows["50/s"]["max_ms"] for part in parts)
    assert {"50/s wait", "50/s score", "50/s publish", "50/s transaction"} <= rows.keys()


@pytest.mark.long
def test_another_users_list_names_what_was_taught(settings, monkeypatch):
    monkeypatch.setattr(freshness, "WARM_UP_SECONDS", 1.0)
    monkeypatch.setattr(freshness, "BACKLOG", 500)
    rows = freshness.once(settings, trials=2, teachers=3, events=50.0)
    assert rows["another user's list"]["missed"] == 0
    assert rows["another user's list"]["p50_ms"] > 0
    assert rows["weights that serve"]["p50_ms"] > 0
