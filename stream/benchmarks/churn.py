"""Whether memory is bounded: that of worker and trainer, while users and items turn over again and again.

Both have room for so many; each turnover brings as many new users, who look at as many new items. What is kept of the
earlier ones is then evicted, so memory after the first turnover is all that there should ever be.
"""

import json
import random
import time
from collections.abc import Iterator
from statistics import median

from confluent_kafka import Producer
from rich.console import Console

from stream.benchmarks.record import Measured
from stream.benchmarks.rig import Rig, rig
from stream.delivery import producer_config
from stream.errors import StartupError
from stream.settings import Settings

EVENTS_PER_USER = 5
TURNOVER_SECONDS = 120.0
SAMPLE_SECONDS = 0.25
QUIET_SAMPLES = 8
FLUSH_SECONDS = 60.0

Figures = dict[str, float]


def measure(settings: Settings, capacity: int, turnovers: int) -> Measured:
    """Let users and items turn over so many times."""
    overrides = {
        "sequence": {"max_users": capacity},
        "model": {"max_items": capacity, "neighbour_sittings": capacity},
        # Copies and checkpoints from the first turnover on: they belong to what memory should level off at.
        "measure": {"sample": 1.0, "frozen_after": capacity, "nightly_hours": 0.005},
        "trainer": {"checkpoint_interval_seconds": 5.0},
    }
    console = Console(stderr=True)
    with rig(settings, **overrides) as at:
        at.start_worker()
        found: dict[str, Figures] = {}
        for number in range(turnovers + 1):
            _produce(at, number, capacity)
            found[f"turnover {number}"] = _settled(at, (number + 1) * capacity * EVENTS_PER_USER)
            told = found[f"turnover {number}"]
            console.print(
                f"churn: turnover {number} of {turnovers}, worker {told['worker_mib']:.0f} MiB, "
                f"trainer {told['trainer_mib']:.0f} MiB",
                highlight=False,
            )
    grown = {name: growth(found, name) for name in ("worker_mib", "trainer_mib")}
    notes = [f"{name} after the last turnover over that after the first: {share:.3f}" for name, share in grown.items()]
    return Measured("churn", [found], {"capacity": capacity, "turnovers": turnovers}, {"growth": grown}, notes)


def growth(found: dict[str, Figures], name: str) -> float:
    """Return a figure of the last turnover over that of the first in which everybody is new.

    >>> growth({"turnover 0": {"mib": 1.0}, "turnover 1": {"mib": 2.0}, "turnover 2": {"mib": 2.1}}, "mib")
    1.05
    """
    ordered = list(found.values())
    return ordered[-1][name] / ordered[1][name]


def events(number: int, capacity: int, now_ms: int) -> Iterator[tuple[str, bytes]]:
    """Yield one turnover's events with their users: as many new people as there is room for, and as many new items.

    >>> len({user for user, _ in events(0, 10, 0)})
    10
    """
    rng = random.Random(number)
    for place in range(capacity * EVENTS_PER_USER):
        # Every item is seen, most of them more than once: none of them is a passing id.
        item = rng.randrange(capacity) if place % EVENTS_PER_USER else place // EVENTS_PER_USER
        event = {
            "user_id": f"user-{number}-{place % capacity}",
            "item_id": f"item-{number}-{item}",
            "behavior": "view",
            "timestamp": now_ms,
            "event_id": f"{number}-{place}",
        }
        yield str(event["user_id"]), json.dumps(event).encode()


def _produce(at: Rig, number: int, capacity: int) -> None:
    producer = Producer(producer_config(at.settings))
    topic = at.settings.topics.events[0]
    for user, value in events(number, capacity, time.time_ns() // 1_000_000):
        producer.produce(topic, value, user.encode())
        producer.poll(0)
    if producer.flush(FLUSH_SECONDS):
        raise StartupError("events could not be produced")


def _settled(at: Rig, n_events: int) -> Figures:
    """Wait until all events are learned, then read memory: the median of some seconds, a checkpoint among them."""
    started = time.monotonic()
    while at.metrics().get(("millstream_learned_examples_total", ""), 0.0) < n_events:
        assert at.worker is not None
        at.worker.check()
        if time.monotonic() - started > TURNOVER_SECONDS:
            raise StartupError(f"{n_events} events were not learned within {TURNOVER_SECONDS:.0f} s a turnover")
        time.sleep(SAMPLE_SECONDS)
    readings = []
    for _ in range(QUIET_SAMPLES):
        readings.append(_resident(at))
        time.sleep(SAMPLE_SECONDS)
    metrics = at.metrics()
    return {
        **{name: median(reading[name] for reading in readings) for name in readings[0]},
        "users": metrics.get(("millstream_users", ""), 0.0),
        "items": metrics.get(("millstream_vocabulary_items", ""), 0.0),
        "users_evicted": metrics.get(("millstream_evicted_total", 'kind="users"'), 0.0),
        "items_evicted": metrics.get(("millstream_evicted_total", 'kind="items"'), 0.0),
        "seconds": time.monotonic() - started,
    }


def _resident(at: Rig) -> Figures:
    import psutil

    assert at.worker is not None
    worker = psutil.Process(at.worker.pid)
    trainer = sum(child.memory_info().rss for child in worker.children(recursive=True))
    return {"worker_mib": worker.memory_info().rss / 2**20, "trainer_mib": trainer / 2**20}
