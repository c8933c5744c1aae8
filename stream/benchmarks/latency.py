"""How long an event waits for its answer: from Kafka's timestamp of the event to the answer in a consumer's hands.

Learning is on. One worker first works off a backlog, which tells its capacity and warms everything up; then the
synthetic shop sends at one steady rate after the other, and what comes in the first seconds of each is left out.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass

from confluent_kafka import OFFSET_END, Consumer, TopicPartition

from stream.benchmarks.histograms import between, stages
from stream.benchmarks.record import Measured, Rows, repeated
from stream.benchmarks.rig import Rig, rig
from stream.errors import StartupError
from stream.records import answered, decode_recommendation
from stream.settings import Settings

RATES = (200.0, 500.0, 1000.0, 2000.0)
SHARE_OF_CAPACITY = 0.8
WARM_UP_SECONDS = 5.0
DRAIN_SECONDS = 5.0
BACKLOG = 30_000
DEADLINE_SECONDS = 120.0
FIRST_SECONDS = 60.0
STAGES = ("decode", "score", "encode", "publish", "transaction", "snapshot", "learn")
_LEARNED = "millstream_learned_examples_total"


def measure(settings: Settings, rates: list[float], capacity: bool, seconds: float, repetitions: int) -> Measured:
    """Measure each rate, and the share of the capacity, so many times."""
    parameters = {"rates": rates, "capacity": capacity, "seconds": seconds}
    runs = repeated("latency", repetitions, lambda: once(settings, rates, capacity, seconds))
    notes = [
        "From the event's Kafka timestamp to the answer in a consumer's hands; `worked on` and `handed out` are its "
        "parts before and after the worker's producer takes the answer.",
        "Below them each stage by batch: `wait` is the oldest event's, from Kafka to the start of the work; "
        "transaction, snapshot and learn run beside the answers.",
    ]
    return Measured("latency", runs, parameters, notes=notes)


def once(settings: Settings, rates: list[float], capacity: bool, seconds: float, backlog: int = BACKLOG) -> Rows:
    """Measure one worker's life."""
    rows: dict[str, dict[str, float]] = {}
    with rig(settings) as at:
        at.produce("synthetic", "--rate", "max", "--events", str(backlog))
        at.start_worker()
        able = _capacity(at, backlog)
        rows["capacity"] = {"per_second": able}
        asked = {f"{rate:g}/s": rate for rate in rates}
        if capacity:
            asked[f"{SHARE_OF_CAPACITY:.0%} of capacity"] = round(able * SHARE_OF_CAPACITY)
        for label, rate in sorted(asked.items(), key=lambda each: each[1]):
            rows |= _at_rate(at, label, rate, seconds)
    return rows


def _capacity(at: Rig, n_events: int) -> float:
    """Return the events a second that are answered and learned, over the last four fifths of a backlog."""
    begin = n_events // 5
    at.until(_LEARNED, begin, DEADLINE_SECONDS)
    started, n_learned = time.monotonic(), at.metrics()[_LEARNED, ""]
    at.until(_LEARNED, n_events, DEADLINE_SECONDS)
    return (n_events - n_learned) / (time.monotonic() - started)


def _at_rate(at: Rig, label: str, rate: float, seconds: float) -> dict[str, dict[str, float]]:
    """Return the row of one rate and those of its stages."""
    watch = _Watch(at)
    with at.load(rate):
        watch.first_event()
        begin = watch.until(time.monotonic() + WARM_UP_SECONDS)
        usage, metrics, started = at.usage(), at.metrics(), time.monotonic()
        end = watch.until(started + seconds)
        elapsed = time.monotonic() - started
        used, read = at.usage().since(usage, elapsed), at.metrics()
    watch.until(time.monotonic() + DRAIN_SECONDS)
    answers, n_events = watch.answers(begin, end), watch.n_events(begin, end)
    watch.close()
    at.until(
        _LEARNED, at.n_records(at.settings.topics.events[0]), DEADLINE_SECONDS
    )  # what a flood left is not the next's
    per_second = n_events / elapsed
    rows = {
        label: {
            "per_second": per_second,
            **quantiles([each.answered - each.logged for each in answers]),
            "answered": len(answers) / max(1, n_events),
            **used,
        },
        f"{label} worked on": quantiles([each.produced - each.logged for each in answers]),
        f"{label} handed out": quantiles([each.answered - each.produced for each in answers]),
        f"{label} wait": between(metrics, read, "millstream_batch_wait_seconds").figures(elapsed),
    }
    del rows[f"{label} wait"]["busy_cores"]  # nobody is busy with waiting
    return rows | {f"{label} {name}": dict(found) for name, found in stages(metrics, read, elapsed, STAGES).items()}


@dataclass(frozen=True, slots=True)
class Answer:
    """One answered event; milliseconds since the epoch.

    Attributes:
        logged: Kafka's timestamp of the event.
        produced: When the worker handed the answer to its producer.
        answered: When a consumer had it.
    """

    logged: int
    produced: int
    answered: float


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
        self._answered: dict[tuple[int, int], tuple[int, float]] = {}

    def first_event(self) -> None:
        """Read until the first event is there.

        Raises:
            StartupError: None came.
        """
        deadline = time.monotonic() + FIRST_SECONDS
        while not self._logged:
            self.until(time.monotonic() + 0.1)
            if time.monotonic() > deadline:
                raise StartupError(f"no event arrived within {FIRST_SECONDS:.0f} s")

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
                    seen = message.timestamp()[1], now
                    for event in answered(decode_recommendation(message.value() or b"")):
                        self._answered.setdefault((event.partition, event.offset), seen)
        return time.time() * 1000

    def n_events(self, since: float, until: float) -> int:
        """Return how many events came between two moments, ms."""
        return sum(since <= logged < until for logged in self._logged.values())

    def answers(self, since: float, until: float) -> list[Answer]:
        """Return the answers to the events that came between two moments, ms."""
        return [
            Answer(logged, *answered)
            for place, logged in self._logged.items()
            if since <= logged < until and (answered := self._answered.get(place)) is not None
        ]

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()


def quantiles(milliseconds: Iterable[float]) -> dict[str, float]:
    """Return median, tails and the worst; nothing for nothing.

    >>> quantiles(range(101))
    {'p50_ms': 50, 'p95_ms': 95, 'p99_ms': 99, 'max_ms': 100}
    """
    ordered = sorted(milliseconds)
    if not ordered:
        return {}
    shares = {f"p{share}_ms": ordered[min(len(ordered) - 1, len(ordered) * share // 100)] for share in (50, 95, 99)}
    return shares | {"max_ms": ordered[-1]}
