"""A stream through Kafka: how many events a second are scored and learned, whether each was answered, how well.

The stream stands in the topic before the worker starts, so what is measured is the worker working off a backlog; the
same stream is then put through the same learner in this process, without Kafka, by the same definition of a hit.
"""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from stream.benchmarks.rig import Metrics, Rig, rig
from stream.records import decode_recommendation
from stream.settings import Settings
from stream.topics.reading import as_bytes

ARMS = ("live", "frozen", "nightly", "popularity")
POLL_SECONDS = 0.5
SLICES = 10


@dataclass(frozen=True, slots=True)
class PipelineResult:
    """What a run came to: hits at 20 over scored events by arm, in all, in the last tenth, and live by tenth."""

    events: int
    answered: int
    examples: int
    ready_seconds: float
    seconds: float
    events_per_second: float
    worker_cpu_seconds: float
    broker_cpu_seconds: float
    worker_mib: float
    arms: dict[str, float]
    arms_last: dict[str, float]
    live_tenths: list[float]
    in_process: dict[str, Any] | None
    isolation: str


def run(settings: Settings, file: Path, n_events: int, *, compare: bool) -> PipelineResult:
    """Put the first events of a file through Kafka and a worker."""
    with rig(settings, measure={"sample": 1.0}) as at:
        at.produce("replay", str(file), "--limit", str(n_events), "--speed", "max")
        n_produced = len(at.read(at.settings.topics.events[0]))
        ready_seconds = at.start_worker()
        before = at.usage()
        seconds, history = _until_learned(at, n_produced)
        after = at.usage()
        in_process = _in_process(file, n_events) if compare else None
        return PipelineResult(
            events=n_produced,
            answered=_n_answered(at),
            examples=len(at.read(at.settings.training_examples_topic)),
            ready_seconds=ready_seconds,
            seconds=seconds,
            events_per_second=n_produced / seconds,
            worker_cpu_seconds=after.worker_cpu - before.worker_cpu,
            broker_cpu_seconds=after.broker_cpu - before.broker_cpu,
            worker_mib=after.worker_mib,
            arms=_rates(history[-1], {}),
            arms_last=_rates(history[-1], history[-2] if len(history) > 1 else {}),
            live_tenths=[_rates(now, then)["live"] for then, now in pairwise([{}, *history])],
            in_process=in_process,
            isolation=at.settings.trainer.isolation,
        )


def _until_learned(at: Rig, n_events: int) -> tuple[float, list[Metrics]]:
    """Wait until everything is learned; keep a reading at each tenth."""
    started = time.monotonic()
    history: list[Metrics] = []
    while True:
        assert at.worker is not None
        at.worker.check()
        metrics = at.metrics()
        n_learned = metrics.get(("millstream_learned_examples_total", ""), 0.0)
        if n_learned >= n_events * (len(history) + 1) / SLICES:
            history.append(metrics)
        if n_learned >= n_events:
            return time.monotonic() - started, history
        time.sleep(POLL_SECONDS)


def _rates(metrics: Metrics, earlier: Metrics) -> dict[str, float]:
    rates = {}
    for arm in ARMS:
        labels = f'arm="{arm}",origin="organic"'
        hits, scored = (
            metrics.get((f"millstream_prequential_{name}", labels), 0.0)
            - earlier.get((f"millstream_prequential_{name}", labels), 0.0)
            for name in ("hits", "scored")
        )
        if scored:
            rates[arm] = hits / scored
    return rates


def _n_answered(at: Rig) -> int:
    """Count distinct triggers on the recommendations topic."""
    answers = (
        decode_recommendation(as_bytes(message.value()) or b"")
        for message in at.read(at.settings.topics.recommendations)
    )
    return len({answer.recommendation_id for answer in answers})


def _in_process(file: Path, n_events: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "stream.cli", "replay", str(file), "--limit", str(n_events), "--json", "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    result["events_per_second"] = result["events"] / result["seconds"]
    return result
