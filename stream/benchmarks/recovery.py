"""How long it takes to have all users' states in memory, against a bare read of the same log; and that log's size.

Each reads in a process of its own, whose memory then tells what a user takes.

    python -m stream.benchmarks.recovery WAY
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from stream.benchmarks.population import fill_changelog, median_bytes, shop_states
from stream.benchmarks.record import Measured, repeated
from stream.benchmarks.rig import Rig, rig
from stream.brokers.folder import LOG_FOLDER
from stream.delivery import producer_config
from stream.settings import Settings, load_settings
from stream.topics.expected import expected_topics
from stream.topics.preflight import preflight

CHUNK = 10_000
SEGMENTS = 6
"""Written of one partition to see it compacted; the one that is written to is left alone."""
HOT_USERS = 100
COMPACTED_SECONDS = 90.0
POLL_SECONDS = 0.5

Figures = dict[str, float]


def measure(settings: Settings, n_users: int, repetitions: int, *, updates: bool) -> Measured:
    """Fill the changelog with so many users, then read it so many times each way.

    Args:
        settings: Of a worker.
        n_users: In state.
        repetitions: How many.
        updates: Also write many updates of few users, and see what the broker keeps of them.
    """
    with rig(settings) as at:
        states = shop_states(at)
        n_bytes = fill_changelog(at.settings, states, n_users)
        runs = repeated("recovery", repetitions, lambda: {name: _read(at, way) for name, way in WAYS.items()})
        compacted = _compaction(at, states) if updates else None
    return Measured(
        "recovery",
        runs,
        {"users": n_users},
        {"state_bytes": median_bytes(states), "states_mib": n_bytes / 2**20, "compaction": compacted},
        [f"a state has {median_bytes(states):.0f} bytes in the median, all of them {n_bytes / 2**20:,.0f} MiB"]
        + ([] if compacted is None else [_told(compacted)]),
    )


def _told(compacted: Figures) -> str:
    return (
        f"{compacted['written_mib']:.0f} MiB of updates of {HOT_USERS} users in one partition: "
        f"{compacted['left_mib']:.0f} MiB left after {compacted['seconds']:.0f} s"
    )


def _read(at: Rig, way: Callable[[Settings], Mapping[str, float]]) -> Figures:
    command = [sys.executable, "-P", "-m", "stream.benchmarks.recovery", way.__name__]
    done = subprocess.run(
        command, env={**os.environ, **at.variables}, stdout=subprocess.PIPE, check=True, timeout=COMPACTED_SECONDS
    )
    found: Figures = json.loads(done.stdout)
    return found


def bare(settings: Settings) -> Mapping[str, float]:
    """Read the changelog with confluent-kafka into a dictionary, whatever it holds."""
    topic = settings.user_state_topic
    consumer = Consumer({**settings.librdkafka(), "group.id": "bare", "enable.auto.commit": False})
    found: dict[bytes | None, bytes | None] = {}
    partitions = [TopicPartition(topic, number, 0) for number in consumer.list_topics(topic).topics[topic].partitions]
    n_records = sum(consumer.get_watermark_offsets(partition)[1] for partition in partitions)
    consumer.assign(partitions)
    n_read = 0
    while n_read < n_records:
        messages = consumer.consume(CHUNK, 0.2)
        for message in messages:
            found[message.key()] = message.value()
        n_read += len(messages)
    return {"records": n_read}


def ours(settings: Settings) -> Mapping[str, float]:
    """Do what a worker does after a rebalance."""
    from prometheus_client import CollectorRegistry

    from monitoring.metrics import Metrics
    from stream.delivery import Committer
    from stream.intake import Assignment, Partition
    from stream.loading import Loader

    checked = preflight(settings)
    committer = Committer(settings, "bench")
    loader = Loader(settings, checked.identity, checked.event_partitions, committer, Metrics(CollectorRegistry()))
    partitions = frozenset(Partition(settings.topics.events[0], number) for number in range(checked.event_partitions))
    users = loader.load(Assignment(1, "bench", partitions))
    mib = _resident_mib()
    return {"records": len(users), "mib": mib}


WAYS: dict[str, Callable[[Settings], Mapping[str, float]]] = {"bare read": bare, "millstream": ours}


def _compaction(at: Rig, states: Sequence[bytes]) -> Figures:
    """Write some segments of updates of a few users to one partition, and see how much of it the broker keeps."""
    settings = at.settings
    topic = next(topic for topic in expected_topics(settings) if topic.duty == "state")
    folder = at.folder / "kafka" / LOG_FOLDER / f"{topic.name}-0"
    n_bytes = SEGMENTS * int(topic.config["segment.bytes"])
    before = _log_bytes(folder)
    _update(settings, states, n_bytes)
    written, started = _log_bytes(folder), time.monotonic()
    bound = before + int(topic.config["segment.bytes"]) * 3 // 2
    while _log_bytes(folder) > bound and time.monotonic() - started < COMPACTED_SECONDS:
        time.sleep(POLL_SECONDS)
    return {
        "written_mib": (written - before) / 2**20,
        "left_mib": (_log_bytes(folder) - before) / 2**20,
        "seconds": time.monotonic() - started,
    }


def _update(settings: Settings, states: Sequence[bytes], n_bytes: int) -> None:
    producer = Producer({**producer_config(settings), "linger.ms": 50})
    written = number = 0
    while written < n_bytes:
        state = states[number % len(states)]
        try:
            producer.produce(settings.user_state_topic, state, b"hot-%d" % (number % HOT_USERS), partition=0)
        except BufferError:
            producer.poll(0.1)
            continue
        written, number = written + len(state), number + 1
    producer.flush(COMPACTED_SECONDS)


def _log_bytes(folder: Path) -> int:
    """Return the size of a partition's segments on disk, without those that are about to be deleted."""
    total = 0
    for path in folder.glob("*.log"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # replaced in this moment
            continue
    return total


def _resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    """Read the changelog the way that the command line names, and say what it took."""
    way: Any = {call.__name__: call for call in WAYS.values()}[sys.argv[1]]
    settings = load_settings()
    before = _resident_mib()
    started, cpu = time.monotonic(), time.process_time()
    found = dict(way(settings))
    figures = {"seconds": time.monotonic() - started, "cpu_seconds": time.process_time() - cpu}
    if (mib := found.pop("mib", None)) is not None:
        figures["bytes_per_user"] = (mib - before) * 2**20 / found["records"]
    print(json.dumps(figures | {"records_per_second": found["records"] / figures["seconds"]}))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
