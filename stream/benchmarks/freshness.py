"""How long until what one person does changes what another is recommended, while events flow and the model learns.

A trial is about two items that nobody else has. Everybody in it has viewed the first; then a few people view the
second, right after each other, as their next item. What is timed is another person's list, who has viewed the first
item alone: from Kafka's timestamp of the first of those events to the moment when the answer to a look-up names the
second item. No list can name it by chance: before the event, the model does not know that it exists.

Asked for are as many items as a look-up gives. Where in the list three views put the item is a matter of how the ranker
weighs them, which it learns from the stream; when the list changes is what is timed. The place is told beside it.
"""

import json
import random
import statistics
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeAlias

from confluent_kafka import KafkaError, Message, Producer

from stream.benchmarks.asking import list_of
from stream.benchmarks.histograms import between
from stream.benchmarks.latency import quantiles
from stream.benchmarks.record import Measured, Rows, repeated
from stream.benchmarks.rig import Rig, rig
from stream.errors import StartupError
from stream.lookup import MAX_K
from stream.settings import Settings

BACKLOG = 10_000
WARM_UP_SECONDS = 5.0
DEADLINE_SECONDS = 120.0
GIVE_UP_SECONDS = 10.0
POLL_SECONDS = 0.005
PAUSE_SECONDS = 0.5
"""Before a trial, at most: drawn at random, so that trials do not keep step with mini-batches and updates."""
Publish: TypeAlias = Callable[[Iterable[tuple[str, str]]], int]


def measure(settings: Settings, trials: int, teachers: int, events: float, repetitions: int) -> Measured:
    """Measure so many trials so many times."""
    parameters = {"trials": trials, "teachers": teachers, "events": events}
    runs = repeated("freshness", repetitions, lambda: once(settings, trials, teachers, events))
    notes = [
        f"From Kafka's timestamp of the first of {teachers} views of a new item to another user's look-up that "
        f"lists it among {MAX_K}; asked about every {POLL_SECONDS * 1000:.0f} ms. "
        "`median_place`: where in that list it stood. `weights that serve`: what the worker says of its updates.",
    ]
    return Measured("freshness", runs, parameters, notes=notes)


def once(settings: Settings, trials: int, teachers: int, events: float) -> Rows:
    """Measure the trials of one worker."""
    with rig(settings) as at:
        publish = Views(at).publish
        at.produce("synthetic", "--rate", "max", "--events", str(BACKLOG))
        at.start_worker()
        at.until("millstream_learned_examples_total", BACKLOG, DEADLINE_SECONDS)
        with at.load(events):
            n_answered = at.metrics()["millstream_recommendations_total", ""]
            names = [str(number) for number in range(trials)]
            publish((person, f"first-{name}") for name in names for person in _people(name, teachers))
            at.until(
                "millstream_recommendations_total",
                n_answered + events * WARM_UP_SECONDS + trials * (teachers + 1),
                DEADLINE_SECONDS,
            )
            usage, metrics, started = at.usage(), at.metrics(), time.monotonic()
            seen = [trial for name in names if (trial := _trial(at, publish, name, teachers)) is not None]
            elapsed = time.monotonic() - started
            used, after = at.usage().since(usage, elapsed), at.metrics()
    served = between(metrics, after, "millstream_freshness_seconds")
    answered = between(metrics, after, "millstream_event_to_recommendation_seconds")
    return {
        "another user's list": {
            **quantiles([trial.milliseconds for trial in seen]),
            "trials": trials,
            "missed": trials - len(seen),
            "median_place": statistics.median(trial.place for trial in seen) if seen else float("nan"),
            "events_per_second": answered.n / elapsed,
            **used,
        },
        "weights that serve": {f"p{share}_ms": served.quantile(share / 100) * 1000 for share in (50, 95, 99)},
    }


def _people(name: str, teachers: int) -> list[str]:
    return [f"watcher-{name}", *(f"teacher-{name}-{number}" for number in range(teachers))]


class _Seen(NamedTuple):
    """A trial that ended well: after so many milliseconds the new item was listed, at this place, 1 for the first."""

    milliseconds: float
    place: int


def _trial(at: Rig, publish: Publish, name: str, teachers: int) -> _Seen | None:
    """Wait until the watcher's list names the new item; None where it did not in time."""
    watcher, *others = _people(name, teachers)
    ask = list_of(at.web, watcher, MAX_K)
    ask()
    time.sleep(random.uniform(0, PAUSE_SECONDS))
    item = f"second-{name}"
    logged = publish((person, item) for person in others)
    while time.time() * 1000 < logged + GIVE_UP_SECONDS * 1000:
        if item in (listed := ask()):
            return _Seen(time.time() * 1000 - logged, listed.index(item) + 1)
        time.sleep(POLL_SECONDS)
    return None


class Views:
    """Puts views of items on the events topic.

    Args:
        at: Knows the topic.
    """

    def __init__(self, at: Rig) -> None:
        self._topic = at.settings.topics.events[0]
        self._producer = Producer({**at.settings.librdkafka(), "partitioner": "murmur2_random", "linger.ms": 0})
        self._logged: list[int] = []

    def publish(self, views: Iterable[tuple[str, str]]) -> int:
        """Publish views of (user, item), now; return Kafka's timestamp of the first, ms.

        Raises:
            StartupError: Kafka did not take one.
        """
        self._logged.clear()
        for user, item in views:
            event = {"user_id": user, "item_id": item, "behavior": "view", "timestamp": time.time_ns() // 1_000_000}
            self._producer.produce(self._topic, json.dumps(event).encode(), user.encode(), on_delivery=self._delivered)
            self._producer.poll(0)
        if left := self._producer.flush(DEADLINE_SECONDS):
            raise StartupError(f"{left} events were not delivered")
        return min(self._logged)

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            raise StartupError(f"an event was not delivered: {error}")
        self._logged.append(message.timestamp()[1])
