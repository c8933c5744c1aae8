"""A stream through Kafka: how many events a second are scored and learned, whether each was answered, how well.

The stream stands in the topic before the worker starts, so what is measured is the worker working off a backlog; the
same stream is then put through the same learner in this process, without Kafka, by the same definition of a hit.
The worker may be killed on the way: what it then recommends must be as good.
"""

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from online_model.evaluation.metrics import DEPTH
from stream.benchmarks.record import Measured, Rows, repeated
from stream.benchmarks.rig import Metrics, Rig, rig, synthetic_file
from stream.records import TrainingExample, answered, decode_example, decode_recommendation
from stream.settings import Settings
from stream.topics.reading import TopicReader, as_bytes

ARMS = ("live", "frozen", "nightly", "popularity")
POLL_SECONDS = 0.5
SLICES = 10


@dataclass(frozen=True, slots=True)
class PipelineResult:
    """What a run came to.

    Rates are hits at 20 over scored events: of the lists that examples say were served; and by arm as the worker counts
    them, in all, in the last tenth, and live by tenth. A worker that was killed has begun to count anew: then these are
    left out.
    """

    events: int
    answered: int
    examples: int
    ready_seconds: float
    seconds: float
    events_per_second: float
    worker_cpu_seconds: float
    broker_cpu_seconds: float
    worker_mib: float
    kills: int
    live: float
    arms: dict[str, float]
    arms_last: dict[str, float]
    live_tenths: list[float]
    in_process: dict[str, Any] | None
    isolation: str

    def rows(self) -> Rows:
        """Return the figures as they stand in a table."""
        figures = {
            "events_per_second": self.events_per_second,
            "events_per_worker_cpu_second": self.events / self.worker_cpu_seconds,
            "worker_cpu_seconds": self.worker_cpu_seconds,
            "broker_cpu_seconds": self.broker_cpu_seconds,
            "worker_mib": self.worker_mib,
            "ready_seconds": self.ready_seconds,
            "answered_of_events": self.answered / self.events,
            "examples_of_events": self.examples / self.events,
            "hit_rate": self.live,
        }
        figures |= {f"hit_rate_counted_{arm}": rate for arm, rate in self.arms.items()}
        figures |= {f"hit_rate_in_the_last_tenth_{arm}": rate for arm, rate in self.arms_last.items()}
        if self.in_process is not None:
            speed, recall = self.in_process["events_per_second"], self.in_process["recall"]
            figures |= {"in_process_events_per_second": speed, "in_process_recall": recall}
            figures["through_kafka_over_in_process"] = self.events_per_second / speed
            figures["hit_rate_over_in_process_recall"] = self.live / recall
        return {"through Kafka": figures}


def measure(
    settings: Settings, file: Path | None, n_events: int, repetitions: int, compare: bool, kills: int
) -> Measured:
    """Run it so many times; where no file is named, on one stream of the synthetic shop."""
    results: list[PipelineResult] = []

    def once(stream: Path) -> Rows:
        results.append(run(settings, stream, n_events, compare=compare, kills=kills))
        return results[-1].rows()

    with synthetic_file(file, n_events) as stream:
        runs = repeated("pipeline", repetitions, lambda: once(stream))
    parameters = {"file": file.name if file else "synthetic", "events": n_events, "kills": kills}
    tenths = [f"live by tenth: {' '.join(f'{rate:.3f}' for rate in result.live_tenths)}" for result in results]
    return Measured("pipeline", runs, parameters, {"results": [asdict(result) for result in results]}, tenths)


def run(settings: Settings, file: Path, n_events: int, *, compare: bool, kills: int = 0) -> PipelineResult:
    """Put the first events of a file through Kafka and a worker, which is killed so many times on its way."""
    with rig(settings, measure={"sample": 1.0}) as at:
        at.produce("replay", str(file), "--limit", str(n_events), "--speed", "max")
        n_produced = len(at.read(at.settings.topics.events[0]))
        ready_seconds = at.start_worker()
        before = at.usage()
        history: list[Metrics] = []
        if kills:
            seconds = _with_kills(at, n_produced, kills)
        else:
            seconds, history = _until_learned(at, n_produced)
        after = at.usage()
        examples = _examples(at)
        in_process = _in_process(file, n_events) if compare else None
        return PipelineResult(
            events=n_produced,
            answered=_n_answered(at),
            examples=len(examples),
            ready_seconds=ready_seconds,
            seconds=seconds,
            events_per_second=n_produced / seconds,
            worker_cpu_seconds=after.worker_cpu - before.worker_cpu,
            broker_cpu_seconds=after.broker_cpu - before.broker_cpu,
            worker_mib=after.worker_mib,
            kills=kills,
            live=_live(examples),
            arms=_rates(history[-1], {}) if history else {},
            arms_last=_rates(history[-1], history[-2] if len(history) > 1 else {}) if history else {},
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


def _with_kills(at: Rig, n_events: int, kills: int) -> float:
    """Kill the worker at even parts of the stream and start it again; return the seconds until all was answered."""
    started = time.monotonic()
    with TopicReader(at.settings, at.settings.training_examples_topic) as reader:
        for number in range(1, kills + 1):
            _until_logged(at, reader, n_events * number // (kills + 1))
            at.kill_worker()
            at.start_worker()
        _until_logged(at, reader, n_events)
    # A kill leaves some examples twice, so the log's length alone does not say that all are there.
    while len(_examples(at)) < n_events:
        assert at.worker is not None
        at.worker.check()
        time.sleep(POLL_SECONDS)
    return time.monotonic() - started


def _until_logged(at: Rig, reader: TopicReader, n_records: int) -> None:
    while sum(end - first for first, end in reader.bounds().values()) < n_records:
        assert at.worker is not None
        at.worker.check()
        time.sleep(POLL_SECONDS)


def _examples(at: Rig) -> list[TrainingExample]:
    """Read the examples, each event's first."""
    found: dict[tuple[str, int, int], TrainingExample] = {}
    for message in at.read(at.settings.training_examples_topic):
        example = decode_example(as_bytes(message.value()) or b"")
        found.setdefault((example.topic, example.partition, example.offset), example)
    return list(found.values())


def _live(examples: list[TrainingExample]) -> float:
    ranks = [example.rank for example in examples if example.scored]
    return sum(0 < rank <= DEPTH for rank in ranks) / max(1, len(ranks))


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
    """Count the distinct events that the lists on the recommendations topic answer."""
    answers = (
        decode_recommendation(as_bytes(message.value()) or b"")
        for message in at.read(at.settings.topics.recommendations)
    )
    return len({(event.topic, event.partition, event.offset) for answer in answers for event in answered(answer)})


def _in_process(file: Path, n_events: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "stream.cli", "replay", str(file), "--limit", str(n_events), "--json", "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    result["events_per_second"] = result["events"] / result["seconds"]
    return result
