"""How long a worker that was killed is away: from SIGKILL to the first answer of its successor.

The users' states and the checkpoint have the size that they have in use; events come all the while. It is killed under
`--supervise`, whose supervisor starts it again, and alone, started again at once by somebody else. The timeline is what
the new worker logs, and what can be seen of it from outside.
"""

import json
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from confluent_kafka import OFFSET_END, Consumer, TopicPartition

from stream.benchmarks.population import fill_changelog, median_bytes, shop_states
from stream.benchmarks.record import Measured
from stream.benchmarks.rig import Rig, rig
from stream.errors import StartupError
from stream.records import decode_recommendation
from stream.settings import Settings

ANSWER_SECONDS = 120.0
RATE = 50.0
"""Events a second while the worker is away and comes back: enough that one always waits, few enough to be no load."""
SETTLE_SECONDS = 3.0
_LOGGED = re.compile(r"^(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) \w+ (?P<what>.*)$")
_WAYS: dict[str, tuple[str, ...]] = {"supervised": ("--supervise",), "alone": ()}
_FIRST_ANSWER = "first answer"
_MAX_WORDS = 100


@dataclass(slots=True)
class _Return:
    """One kill and what came after it."""

    killed_at: float
    seconds: float = 0.0
    marks: list[tuple[float, str]] = field(default_factory=list)

    def mark(self, what: str) -> None:
        self.marks.append((time.time() - self.killed_at, what))


def measure(settings: Settings, n_users: int, n_items: int, n_events: int, kills: int) -> Measured:
    """Fill in users, train on a shop of so many items, then kill the worker so many times."""
    with rig(settings) as at:
        states = shop_states(at)
        fill_changelog(at.settings, states, n_users)
        at.produce("synthetic", "--rate", "max", "--items", str(n_items), "--events", str(n_events), "--seed", "1")
        sizes = {"state_bytes": median_bytes(states), "items": _train(at, len(at.read(at.settings.topics.events[0])))}
        sizes["checkpoint_mib"] = _newest_checkpoint_mib(at.settings.checkpoint_dir)
        with at.load(RATE, "--items", str(n_items), "--seed", "2"):
            answers = _Answers(at)
            found = {label: _returns(at, answers, options, kills) for label, options in _WAYS.items()}
            answers.close()
    notes = [
        f"From SIGKILL to the first answer. A state has {sizes['state_bytes']:.0f} bytes in the median; "
        f"{sizes['items']:,.0f} items, a checkpoint of {sizes['checkpoint_mib']:.1f} MiB."
    ]
    for label, returns in found.items():
        middle = sorted(returns, key=lambda one: one.seconds)[len(returns) // 2]
        notes += [f"{label}:", *(f"{seconds:8.2f} s  {what}" for seconds, what in middle.marks)]
    return Measured(
        "restart",
        [{label: {"seconds": returns[number].seconds} for label, returns in found.items()} for number in range(kills)],
        {"users": n_users, "items": n_items, "events": n_events},
        {**sizes, "timelines": {label: [one.marks for one in returns] for label, returns in found.items()}},
        notes,
    )


def _returns(at: Rig, answers: "_Answers", options: tuple[str, ...], kills: int) -> list[_Return]:
    """Kill a worker that was started with these options so many times."""
    at.start_worker(*options)
    answers.wait_for(since=time.time() * 1000)
    returns = [_restart(at, answers, supervised=bool(options)) for _ in range(kills)]
    at.end_worker()
    return returns


def _train(at: Rig, n_events: int) -> int:
    """Let a worker learn what stands in the topic, and leave a checkpoint; return how many items it then knows."""
    at.start_worker()
    assert at.worker is not None
    while at.metrics().get(("millstream_learned_examples_total", ""), 0.0) < n_events:
        at.worker.check()
        time.sleep(0.2)
    n_items = int(at.metrics()["millstream_vocabulary_items", ""])
    at.end_worker()
    return n_items


def _newest_checkpoint_mib(folder: Path) -> float:
    """Return the size of the checkpoint that was written last."""
    newest = max((path for path in folder.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    return sum(file.stat().st_size for file in newest.rglob("*") if file.is_file()) / 2**20


def _restart(at: Rig, answers: "_Answers", *, supervised: bool) -> _Return:
    """Kill the worker, start it again where nobody else does, and watch until it answers."""
    import psutil

    time.sleep(SETTLE_SECONDS)
    assert at.worker is not None
    log_path, log_start = at.worker.log_path, at.worker.log_path.stat().st_size
    one = _Return(time.time())
    if supervised:
        (worker,) = psutil.Process(at.worker.pid).children()
        worker.kill()
    else:
        at.kill_worker()
        at.spawn_worker()
        one.mark("process started")
    stop = threading.Event()
    watcher = threading.Thread(target=_watch, args=(at.web, at.worker.pid, one, stop), daemon=True)
    watcher.start()
    answers.wait_for(since=one.killed_at * 1000)
    one.mark(_FIRST_ANSWER)
    one.seconds = one.marks[-1][0]
    stop.set()
    watcher.join()
    one.marks = sorted(one.marks + logged(log_path.read_text()[log_start:], one.killed_at))
    return one


def logged(text: str, since: float) -> list[tuple[float, str]]:
    """Return the lines of a log as seconds after `since` (seconds since the epoch) and what was said.

    >>> logged("2026-01-02 03:04:05,500 INFO stream.worker started", datetime(2026, 1, 2, 3, 4, 5).timestamp())
    [(0.5, 'log: stream.worker started')]
    """
    found = [line for line in map(_LOGGED.match, text.splitlines()) if line is not None]
    return [
        (datetime.fromisoformat(line["time"]).timestamp() - since, f"log: {line['what'][:_MAX_WORDS]}")
        for line in found
    ]


def _watch(web: str, pid: int, one: _Return, stop: threading.Event) -> None:
    """Note what can be seen from outside, each thing once, every hundredth of a second."""
    import psutil

    seen: set[str] = set()

    def note(what: str) -> None:
        if what not in seen:
            seen.add(what)
            one.mark(what)

    while not stop.wait(0.01):
        with suppress(psutil.Error, OSError):
            _note_libraries(pid, note)
        for condition, holds in _conditions(web).items():
            if holds:
                note(f"/ready: {condition}")


def _note_libraries(pid: int, note: Callable[[str], None]) -> None:
    """Tell which of the large libraries a process has loaded: importing them is most of a start from nothing."""
    maps = Path(f"/proc/{pid}/maps").read_text()
    for library, name in (("librdkafka", "confluent-kafka"), ("libtorch_cpu", "torch"), ("llvmlite", "numba")):
        if library in maps:
            note(f"has loaded {name}")


def _conditions(web: str) -> dict[str, bool]:
    """Ask the worker whether it is ready; nothing while nobody listens."""
    try:
        with urllib.request.urlopen(f"http://{web}/ready", timeout=1) as response:
            body = response.read()
    except urllib.error.HTTPError as error:
        body = error.read()
    except OSError:
        return {}
    return {"web answers": True, **json.loads(body)["conditions"]}


class _Answers:
    """The answers as an application sees them come."""

    def __init__(self, at: Rig) -> None:
        self._consumer = Consumer(
            {**at.settings.librdkafka(), "group.id": "bench", "fetch.wait.max.ms": 20, "enable.auto.commit": False}
        )
        topic = at.settings.topics.recommendations
        partitions = self._consumer.list_topics(topic, timeout=10).topics[topic].partitions
        self._consumer.assign([TopicPartition(topic, number, OFFSET_END) for number in partitions])

    def wait_for(self, since: float) -> None:
        """Return when an answer came that was made after `since`, ms.

        Raises:
            StartupError: None came.
        """
        deadline = time.monotonic() + ANSWER_SECONDS
        while time.monotonic() < deadline:
            message = self._consumer.poll(0.05)
            if message is None or message.error() is not None:
                continue
            if decode_recommendation(message.value() or b"").generated_at > since:
                return
        raise StartupError(f"no answer came within {ANSWER_SECONDS:.0f} s")

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()
