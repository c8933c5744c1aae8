"""How long an event waits for its answer: from Kafka's timestamp of the event to the answer in a consumer's hands.

Learning is on. The events come from the synthetic shop at a steady rate; what comes in the first seconds is warm-up.
"""

import threading
import time
from dataclasses import dataclass

from confluent_kafka import OFFSET_END, Consumer, TopicPartition

from stream.benchmarks.rig import Rig, rig
from stream.records import answered, decode_recommendation
from stream.settings import Settings

WARM_UP_SECONDS = 10.0
DRAIN_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class LatencyResult:
    """Milliseconds by quantile, at one rate."""

    rate: float
    answers: int
    p50: float
    p95: float
    p99: float
    max: float
    worker_cores: float
    broker_cores: float
    worker_mib: float


def run(settings: Settings, rate: float, seconds: float) -> LatencyResult:
    """Produce at `rate` events a second and time the answers."""
    with rig(settings) as at:
        at.start_worker()
        n_events = int(rate * (WARM_UP_SECONDS + seconds))
        watch = _Watch(at)
        producing = threading.Thread(
            target=at.produce, args=("synthetic", "--rate", f"{rate:g}", "--events", str(n_events)), daemon=True
        )
        producing.start()
        begin = watch.until(time.monotonic() + WARM_UP_SECONDS)
        before, started = at.usage(), time.monotonic()
        while producing.is_alive():
            watch.until(time.monotonic() + 0.5)
        after, ended = at.usage(), time.monotonic()
        watch.until(time.monotonic() + DRAIN_SECONDS)
        waits = sorted(watch.waits(since=begin))
        watch.close()
        return LatencyResult(
            rate=rate,
            answers=len(waits),
            p50=_quantile(waits, 0.50),
            p95=_quantile(waits, 0.95),
            p99=_quantile(waits, 0.99),
            max=waits[-1] if waits else 0.0,
            worker_cores=(after.worker_cpu - before.worker_cpu) / (ended - started),
            broker_cores=(after.broker_cpu - before.broker_cpu) / (ended - started),
            worker_mib=after.worker_mib,
        )


class _Watch:
    """Reads events and answers as they come, as an application would."""

    def __init__(self, at: Rig) -> None:
        self._events = at.settings.topics.events[0]
        self._consumer = Consumer(
            {**at.settings.librdkafka(), "group.id": "bench", "fetch.wait.max.ms": 100, "enable.auto.commit": False}
        )
        topics = (self._events, at.settings.topics.recommendations)
        known = self._consumer.list_topics(timeout=10).topics
        self._consumer.assign(
            [TopicPartition(topic, number, OFFSET_END) for topic in topics for number in known[topic].partitions]
        )
        self._logged: dict[tuple[int, int], int] = {}
        self._answered: dict[tuple[int, int], float] = {}

    def until(self, deadline: float) -> float:
        """Read until `deadline` on the monotonic clock; return the wall clock then, ms."""
        while time.monotonic() < deadline:
            for message in self._consumer.consume(500, 0.002):
                now = time.time() * 1000
                if message.error() is not None:
                    continue
                place = message.partition() or 0, message.offset() or 0
                if message.topic() == self._events:
                    self._logged[place] = message.timestamp()[1]
                else:
                    for event in answered(decode_recommendation(message.value() or b"")):
                        self._answered.setdefault((event.partition, event.offset), now)
        return time.time() * 1000

    def waits(self, since: float) -> list[float]:
        """Return for each answered event that came after `since` (ms) how long its answer took, ms."""
        return [
            answered - logged
            for place, answered in self._answered.items()
            if (logged := self._logged.get(place)) is not None and logged >= since
        ]

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0
