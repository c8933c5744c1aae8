"""A broker and a worker of the benchmark's own, and readings of both."""

import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import Message

from stream.brokers.apache import ApacheKafka
from stream.brokers.ports import free_ports
from stream.errors import StartupError
from stream.live.children import Child, ChildDied
from stream.live.plan import environment
from stream.settings import Settings
from stream.topics.preflight import create_missing
from stream.topics.reading import TopicReader, as_bytes

READY_SECONDS = 120.0
_SAMPLE = re.compile(r"^(?P<name>\w+)(?:\{(?P<labels>[^}]*)\})? (?P<value>\S+)$", re.MULTILINE)

Metrics = Mapping[tuple[str, str], float]
"""Samples of `/metrics` by name and label text."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What processes have used since they were started: CPU seconds, and resident memory in MiB."""

    worker_cpu: float
    broker_cpu: float
    worker_mib: float

    def since(self, earlier: "Usage", seconds: float, n_events: float | None = None) -> dict[str, float]:
        """Return figures of the time between two readings: cores in use and, of so many events, CPU seconds too."""
        worker, broker = self.worker_cpu - earlier.worker_cpu, self.broker_cpu - earlier.broker_cpu
        figures = {"worker_cores": worker / seconds, "broker_cores": broker / seconds}
        if n_events is not None:
            figures |= {"worker_cpu_seconds": worker, "broker_cpu_seconds": broker}
            figures["events_per_worker_cpu_second"] = n_events / worker if worker else 0.0
        return figures


class Rig:
    """An Apache Kafka and one worker, thrown away at the end.

    Args:
        settings: What the environment says; the model and the trainer are taken as they are there.
        overrides: Settings of this benchmark, nested by group.
        stack: Ends what was started.

    Raises:
        StartupError: The settings demand a token of whoever asks the worker.
    """

    def __init__(self, settings: Settings, overrides: Mapping[str, Any], stack: ExitStack) -> None:
        if settings.web.bearer is not None:  # inherited by the worker; the clients of a benchmark bring none
            raise StartupError(
                "benchmarks start a worker of their own and bring it no token: unset MILLSTREAM_WEB__TOKEN"
            )
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="millstream-bench-")))
        self.broker = stack.enter_context(ApacheKafka(self.folder / "kafka"))
        self._stack = stack
        self._hurry = threading.Event()
        self._web_port = free_ports(1)[0]
        values: dict[str, Any] = {
            "app_id": f"bench-{secrets.token_hex(3)}",
            "data_dir": str(self.folder / "data"),
            "kafka": {"bootstrap_servers": self.broker.bootstrap},
            "web": {"port": self._web_port},
            **overrides,
        }
        self.variables = environment(values)
        self.settings = Settings(**{**values, "model": settings.model, "trainer": settings.trainer})
        create_missing(self.settings)
        self.worker: Child | None = None
        self._cpu_of_the_dead = 0.0

    def start_worker(self, *options: str) -> float:
        """Start the worker; return the seconds until it was ready."""
        started = time.monotonic()
        worker = self.spawn_worker(*options)
        while time.monotonic() - started < READY_SECONDS:
            worker.check()
            try:
                with urllib.request.urlopen(f"http://{self.web}/ready", timeout=5):
                    return time.monotonic() - started
            except OSError:
                time.sleep(0.05)
        raise StartupError(f"the worker was not ready within {READY_SECONDS:.0f} s; its log is {worker.log_path}")

    def spawn_worker(self, *options: str) -> Child:
        """Start the worker, with options of its command, and do not wait for it."""
        self.worker = Child("worker", ["worker", *options], self.variables, self.folder / "worker.log")
        self._stack.callback(self.worker.end, 30.0, self._hurry)
        return self.worker

    def kill_worker(self) -> None:
        """Kill the worker; its trainer ends by itself."""
        self.end_worker(signal.SIGKILL)

    def end_worker(self, number: int = signal.SIGTERM) -> None:
        """Send the worker a signal and wait until it has ended."""
        assert self.worker is not None
        self._cpu_of_the_dead = self.usage().worker_cpu
        os.kill(self.worker.pid, number)
        with suppress(ChildDied):
            while True:
                self.worker.check()
                time.sleep(0.01)

    def produce(self, *arguments: str) -> str:
        """Run `millstream produce ...` to its end; return what it printed.

        Raises:
            StartupError: It failed.
        """
        done = subprocess.run(
            [sys.executable, "-m", "stream.cli", "produce", *arguments],
            env={**os.environ, **self.variables},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise StartupError(f"produce {' '.join(arguments)}: {done.stderr.strip().splitlines()[-1:]}")
        return done.stdout

    @contextmanager
    def load(self, rate: float, *arguments: str) -> Iterator[Child]:
        """Let the synthetic shop produce so many events a second, until the block ends at the latest."""
        command = ["produce", "synthetic", "--rate", f"{rate:g}", *arguments]
        producer = Child("producer", command, self.variables, self.folder / "producer.log")
        try:
            yield producer
        finally:
            producer.end(10.0, self._hurry)

    def read(self, topic: str) -> list[Message]:
        """Read a topic to its end."""
        with TopicReader(self.settings, topic) as reader:
            bounds = reader.bounds()
            starts = {partition: first for partition, (first, _) in bounds.items()}
            return list(reader.read_to_end(starts, {partition: end for partition, (_, end) in bounds.items()}))

    def n_records(self, topic: str) -> int:
        """Count the records of a topic."""
        with TopicReader(self.settings, topic) as reader:
            return sum(end - first for first, end in reader.bounds().values())

    @property
    def web(self) -> str:
        """The worker's web address, `host:port`."""
        return f"127.0.0.1:{self._web_port}"

    def metrics(self) -> Metrics:
        """Read the worker's metrics."""
        with urllib.request.urlopen(f"http://{self.web}/metrics", timeout=10) as response:
            text = response.read().decode()
        return parse(text)

    def until(self, metric: str, at_least: float, deadline_seconds: float) -> bool:
        """Wait until a counter of the worker has grown so far; return whether it has."""
        deadline = time.monotonic() + deadline_seconds
        while self.metrics().get((metric, ""), 0.0) < at_least:
            assert self.worker is not None
            self.worker.check()
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def broker_cpu(self) -> float:
        """Read how many CPU seconds the broker has used."""
        import psutil

        assert self.broker.pid is not None
        times = psutil.Process(self.broker.pid).cpu_times()
        return float(times.user + times.system)

    def usage(self) -> Usage:
        """Read what worker (its trainer and those that were killed included) and broker have used."""
        import psutil

        assert self.worker is not None
        assert self.broker.pid is not None
        worker = psutil.Process(self.worker.pid)
        family = [worker, *worker.children(recursive=True)]
        broker = psutil.Process(self.broker.pid).cpu_times()
        times = [process.cpu_times() for process in family]
        return Usage(
            worker_cpu=self._cpu_of_the_dead + sum(each.user + each.system for each in times),
            broker_cpu=broker.user + broker.system,
            worker_mib=sum(process.memory_info().rss for process in family) / 2**20,
        )


def parse(exposition: str) -> Metrics:
    r"""Read the text format of `/metrics`.

    >>> parse('# HELP a b\na_total{c="d"} 2.0')
    {('a_total', 'c="d"'): 2.0}
    """
    return {(m["name"], m["labels"] or ""): float(m["value"]) for m in _SAMPLE.finditer(exposition)}


@contextmanager
def rig(settings: Settings, **overrides: Any) -> Iterator[Rig]:
    """Give a rig and take it down at the end."""
    with ExitStack() as stack:
        yield Rig(settings, overrides, stack)


@contextmanager
def synthetic_file(file: Path | None, n_events: int) -> Iterator[Path]:
    """Give the file, or where none is named one of events that the synthetic shop made."""
    if file is not None:
        yield file
        return
    with rig(Settings()) as at:
        at.produce("synthetic", "--rate", "max", "--events", str(n_events), "--time-factor", "600")
        records = sorted(at.read(at.settings.topics.events[0]), key=lambda message: message.timestamp()[1])
        path = at.folder / "synthetic.jsonl"
        path.write_bytes(b"".join((as_bytes(message.value()) or b"") + b"\n" for message in records))
        yield path
