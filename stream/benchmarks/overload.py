"""Ten times what a worker can answer, for a minute: what gives way, how late answers get, how long until it is over.

The capacity is measured first, on the same worker: a stream that stands in the topic, worked off while nothing gives
way. Then the synthetic shop sends that rate times ten; its events are live ones.
"""

import threading
import time
from dataclasses import dataclass

from stream.benchmarks.rig import Metrics, Rig, rig
from stream.errors import StartupError
from stream.records import answered, decode_example, decode_recommendation
from stream.settings import Settings
from stream.topics.reading import as_bytes

PROBE_EVENTS = 10_000
POLL_SECONDS = 0.5
CALM_SECONDS = 3_600.0
"""Longer than this the worker does not take to be itself again."""
CAUGHT_UP_SECONDS = 5.0
"""After the probe; the worker asks the broker every two seconds what still waits."""


@dataclass(frozen=True, slots=True)
class OverloadResult:
    """What a run came to.

    `lost` are accepted events of the answered roles without an answer; `undecided` are examples without exactly one
    outcome. Levels and lags are the highest that were seen.
    """

    capacity: float
    rate: float
    events: int
    seconds_until_calm: float
    answer_lag_seconds: float
    learning_lag_seconds: float
    answer_level: int
    learning_level: int
    coalesced: int
    learned: int
    sampled_out: int
    lost: int
    undecided: int


def run(settings: Settings, times: float, seconds: float) -> OverloadResult:
    """Find the capacity, send `times` as much for so many seconds, and wait until all is as before."""
    with rig(settings) as at:
        capacity = _capacity(at)
        rate, n_events = times * capacity, int(times * capacity * seconds)
        before = at.metrics()
        producing = threading.Thread(
            target=at.produce, args=("synthetic", "--rate", f"{rate:g}", "--events", str(n_events)), daemon=True
        )
        producing.start()
        seen = [before]
        while producing.is_alive():
            time.sleep(POLL_SECONDS)
            seen.append(at.metrics())
        ended = time.monotonic()
        while not _is_calm(at, seen[-1], PROBE_EVENTS + n_events):
            if time.monotonic() - ended > CALM_SECONDS:
                raise StartupError(f"not calm {CALM_SECONDS:.0f} s after the overload")
            time.sleep(POLL_SECONDS)
            seen.append(at.metrics())
        calm = time.monotonic() - ended
        after = seen[-1]
        outcomes = {
            outcome: _value(after, "examples_total", outcome=outcome)
            for outcome in ("learned", "sampled_out", "quarantined")
        }
        lost, n_examples = _lost(at)
        return OverloadResult(
            capacity=capacity,
            rate=rate,
            events=n_events,
            seconds_until_calm=calm,
            answer_lag_seconds=max(_value(each, "lag_seconds", topic="user-events") for each in seen),
            learning_lag_seconds=max(_value(each, "lag_seconds", topic="training-examples") for each in seen),
            answer_level=int(max(_value(each, "overload_level", part="answers") for each in seen)),
            learning_level=int(max(_value(each, "overload_level", part="learning") for each in seen)),
            coalesced=int(_value(after, "coalesced_total")),
            learned=int(outcomes["learned"]),
            sampled_out=int(outcomes["sampled_out"]),
            lost=lost,
            undecided=n_examples - int(sum(outcomes.values())),
        )


def _capacity(at: Rig) -> float:
    """Return the events a second that a worker takes which has them before it, one after the other."""
    at.produce("synthetic", "--rate", "max", "--events", str(PROBE_EVENTS))
    at.start_worker()
    started, first = time.monotonic(), _taken(at.metrics())
    while not _is_calm(at, metrics := at.metrics(), PROBE_EVENTS):
        assert at.worker is not None
        at.worker.check()
        time.sleep(0.1)
    capacity = (_taken(metrics) - first) / (time.monotonic() - started)
    time.sleep(CAUGHT_UP_SECONDS)
    return capacity


def _is_calm(at: Rig, metrics: Metrics, n_events: int) -> bool:
    """Return whether so many events are taken, every example of them has its outcome, and nothing gives way."""
    lags = [_value(metrics, "lag_seconds", topic=topic) for topic in ("user-events", "training-examples")]
    levels = [_value(metrics, "overload_level", part=part) for part in ("answers", "learning")]
    return _taken(metrics) >= n_events and not any(lags) and not any(levels)


def _taken(metrics: Metrics) -> float:
    return sum(
        _value(metrics, "events_total", outcome=outcome)
        for outcome in ("accepted", "rejected", "duplicate", "replayed")
    )


def _value(metrics: Metrics, name: str, **labels: str) -> float:
    label = ",".join(f'{key}="{value}"' for key, value in labels.items())
    return metrics.get((f"millstream_{name}", label), 0.0)


def _lost(at: Rig) -> tuple[int, int]:
    """Return how many answered roles' events have no answer, and how many distinct examples there are."""
    found = {
        (event.partition, event.offset)
        for message in at.read(at.settings.topics.recommendations)
        for event in answered(decode_recommendation(as_bytes(message.value()) or b""))
    }
    examples = {}
    for message in at.read(at.settings.training_examples_topic):
        example = decode_example(as_bytes(message.value()) or b"")
        examples[example.partition, example.offset] = example.role in ("interest", "strong")
    return len({place for place, is_answered in examples.items() if is_answered} - found), len(examples)
