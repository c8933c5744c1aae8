"""What an event costs around the model: ours, the bare client, and Faust as it comes, over the same topic.

Each takes the events in a process of its own and says itself what time and CPU they took, from the first batch that it
finished to the last: imports and joining the group are left out. Rivals that are slow take fewer events.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from stream.benchmarks.record import Measured, repeated
from stream.benchmarks.rig import Rig, rig
from stream.errors import StartupError
from stream.live.plan import environment
from stream.settings import Settings
from stream.topics.preflight import create_missing

SECONDS = 240.0
BARE = "bare client"
OURS = "millstream"


@dataclass(frozen=True, slots=True)
class Rival:
    """One who takes events.

    Attributes:
        name: In the table.
        way: Which way of taking them, of `stream.benchmarks.takers`.
        share: Of the events that it takes: a slow one would take minutes.
        list_length: Items in each answer, where answers are lists.
    """

    name: str
    way: str
    share: float = 1.0
    list_length: int = 20


RIVALS = (
    Rival(BARE, "bare"),
    Rival(OURS, "ours"),
    Rival("millstream, empty lists", "ours", list_length=0),
    Rival("Faust, noack_take", "take", 0.25),
    Rival("Faust, naive", "naive", 0.1),
)


def measure(settings: Settings, n_events: int, n_users: int, batch: int, repetitions: int) -> Measured:
    """Let all of them take the same events, in turn, so many times."""
    with rig(settings, intake={"max_batch": batch}) as at:
        at.produce("synthetic", "--rate", "max", "--events", str(n_events), "--users", str(n_users))
        numbers = iter(range(repetitions))
        runs = repeated("intake", repetitions, lambda: _repetition(at, next(numbers), n_events, batch))
    return Measured("intake", runs, {"events": n_events, "users": n_users, "batch": batch})


def _repetition(at: Rig, number: int, n_events: int, batch: int) -> dict[str, dict[str, float]]:
    found = {}
    for place, rival in enumerate(RIVALS):
        app_id = f"{at.settings.app_id}-{number}-{place}"
        found[rival.name] = _take(at, rival, app_id, int(n_events * rival.share), batch)
    bare = found[BARE]["events_per_worker_cpu_second"]
    for figures in found.values():
        figures["over_bare"] = figures["events_per_worker_cpu_second"] / bare
    return found


def _take(at: Rig, rival: Rival, app_id: str, n_events: int, batch: int) -> dict[str, float]:
    """Let one of them take so many events; return its figures."""
    data_dir = at.folder / app_id
    create_missing(at.settings.model_copy(update={"app_id": app_id}))
    variables = at.variables | environment({"app_id": app_id, "data_dir": str(data_dir)})
    command = [sys.executable, "-P", "-m", "stream.benchmarks.takers"]
    command += [rival.way, str(n_events), str(batch), str(rival.list_length)]
    log_path = at.folder / f"{app_id}.log"
    with log_path.open("wb") as log:
        child = subprocess.Popen(command, env={**os.environ, **variables}, stdout=subprocess.PIPE, stderr=log)
    try:
        assert child.stdout is not None
        readings = []
        for line in child.stdout:  # one when it has begun, one when it is done
            readings.append((json.loads(line), at.broker_cpu()))
        child.wait(SECONDS)
    finally:
        child.kill()
        child.wait()
    if len(readings) != 2:
        raise StartupError(f"{rival.name} ended early: {log_path.read_text()[-2000:]}")
    return _figures(*readings[0], *readings[1])


def _figures(
    begin: Mapping[str, float], broker_begin: float, end: Mapping[str, float], broker_end: float
) -> dict[str, float]:
    """Return what lies between two readings.

    >>> begin, end = {"events": 10, "seconds": 1.0, "cpu": 2.0}, {"events": 30, "seconds": 2.0, "cpu": 4.0, "mib": 9.5}
    >>> figures = _figures(begin, 1.0, end, 1.5)
    >>> figures["events_per_second"], figures["events_per_worker_cpu_second"], figures["broker_cores"]
    (20.0, 10.0, 0.5)
    """
    n_events, seconds = end["events"] - begin["events"], end["seconds"] - begin["seconds"]
    cpu = end["cpu"] - begin["cpu"]
    return {
        "events_per_second": n_events / seconds,
        "events_per_worker_cpu_second": n_events / cpu,
        "worker_cores": cpu / seconds,
        "broker_cores": (broker_end - broker_begin) / seconds,
        "mib": end["mib"],
    }
