"""Applications and workers as tests run them: settings, topics, events, starts, kills, waits."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from stream.settings import Settings
from stream.topics.preflight import create_missing

SESSION_SECONDS = 6
DEADLINE = 90.0
COMMAND = [sys.executable, "-m", "stream.cli"]
NURSERY = Path(__file__).with_name("nursery.py")


def eventually(condition, what, seconds=DEADLINE):
    """Wait until `condition` gives something true, and give it back."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what() if callable(what) else what}"
        time.sleep(0.02)
    return result


def clean_environment():
    """Ours without settings: what stands in a developer's shell must not reach the workers."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MILLSTREAM_")}
    return kept | {"OMP_NUM_THREADS": "1"}


class Worker:
    """A worker that was started; ends with its test."""

    def __init__(self, pid, log, poll):
        self.pid = pid
        self.log = log
        self.poll = poll

    @property
    def output(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    @property
    def address(self):
        """Of its web server, once it listens."""
        found = re.findall(r"web address=(\S+)", self.output)
        return found[-1] if found else None

    def get(self, path, redirects=True):
        """Ask its web server; status and JSON, or None while it does not answer."""
        if self.address is None:
            return None
        opener = urllib.request.build_opener() if redirects else urllib.request.build_opener(_NoRedirects)
        try:
            with opener.open(f"http://{self.address}{path}", timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")
        except OSError:
            return None

    def metrics(self):
        """Values of the metrics that have no labels."""
        with urllib.request.urlopen(f"http://{self.address}/metrics", timeout=10) as answer:
            lines = [
                line.split(" ") for line in answer.read().decode().splitlines() if "{" not in line and line[0] != "#"
            ]
        return {name: float(value) for name, value in lines}

    def is_ready(self):
        assert self.poll() is None, f"ended with {self.poll()} before it was ready:\n{self.output}"
        answer = self.get("/ready")
        return answer is not None and answer[0] == 200

    def until_ready(self):
        eventually(self.is_ready, lambda: f"ready:\n{self.output}")
        return self

    def wait(self, seconds=DEADLINE):
        """Wait for its end and give the exit code."""
        eventually(lambda: self.poll() is not None, lambda: f"the end of the worker:\n{self.output}", seconds)
        return self.poll()

    def send(self, number):
        os.kill(self.pid, number)

    def kill(self):
        """SIGKILL, and wait: the next one may have its data folder."""
        with suppress(ProcessLookupError):
            self.send(signal.SIGKILL)
        return self.wait()

    def stop(self):
        """SIGTERM, and wait."""
        self.send(signal.SIGTERM)
        return self.wait()

    def until_stopped_by_itself(self):
        """Wait until it has stopped (SIGSTOP) at a fault that was planted."""
        process = psutil.Process(self.pid)
        eventually(
            lambda: self.poll() is not None or process.status() == psutil.STATUS_STOPPED,
            lambda: f"a pause at the planted step:\n{self.output}",
        )
        assert self.poll() is None, self.output


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


class Nursery:
    """The process that forks workers, see `nursery.py`; started when it is first needed."""

    def __init__(self):
        self._process = None
        self._lock = threading.Lock()

    def start(self, env, log, faults, trainer):
        with self._lock:
            if self._process is None:
                self._process = subprocess.Popen(
                    [sys.executable, str(NURSERY)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    env=clean_environment(),
                )
                assert self._process.stdout.readline() == "ready\n"
            exit_file = log.with_suffix(f".exit{time.monotonic_ns()}")
            order = {"env": env, "faults": faults, "trainer": trainer, "log": str(log), "exit_file": str(exit_file)}
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            pid = int(self._process.stdout.readline())
        return Worker(pid, log, lambda: int(exit_file.read_text()) if exit_file.exists() else None)

    def close(self):
        if self._process is not None:
            self._process.stdin.close()
            self._process.wait(30)


@dataclass
class Application:
    """One application on some Kafka: its topics, its workers, and what it is told."""

    bootstrap: str
    prefix: str
    folder: Path
    nursery: Nursery
    partitions: int = 4
    more: dict[str, str] = field(default_factory=dict)
    workers: list[Worker] = field(default_factory=list)

    def environment(self, name="w0", **more):
        """Settings of worker `name` as environment variables; `more` without their prefix."""
        values = {
            "APP_ID": self.prefix,
            "DATA_DIR": str(self.data_dir(name)),
            "KAFKA__BOOTSTRAP_SERVERS": self.bootstrap,
            "KAFKA__SESSION_TIMEOUT_SECONDS": str(SESSION_SECONDS),
            "TOPICS__EVENTS": f"{self.prefix}-events",
            "TOPICS__RECOMMENDATIONS": f"{self.prefix}-recommendations",
            "TOPICS__REJECTED_EVENTS": f"{self.prefix}-rejected",
            "TOPICS__PARTITIONS": str(self.partitions),
            "WEB__PORT": "0",
            "MODEL__HIDDEN": "16",
            "MODEL__NEGATIVES": "64",
            "MODEL__DEVICE": "cpu",
            "TRAINER__ISOLATION": "thread",
            "TRAINER__CHECKPOINT_INTERVAL_SECONDS": "0.25",
        }
        values |= self.more | more
        return clean_environment() | {f"MILLSTREAM_{key}": value for key, value in values.items()}

    def data_dir(self, name="w0"):
        return self.folder / name

    def instance(self, name="w0"):
        """The id that worker `name` was given at its first start."""
        return (self.data_dir(name) / "instance").read_text().split()[0]

    def holders(self):
        """Members of the group that hold partitions: instance id to the partitions."""
        # A client for one question: one that lives through an outage may abort the process (librdkafka issue 4605).
        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        group = admin.describe_consumer_groups([self.prefix], request_timeout=10)[self.prefix].result(20)
        held = {
            member.group_instance_id: {tp.partition for tp in member.assignment.topic_partitions}
            for member in group.members
            if member.assignment is not None
        }
        return {instance: partitions for instance, partitions in held.items() if partitions}

    def until_held_by(self, *names):
        """Wait until just these workers share all partitions, and are ready."""

        def shared():
            held = self.holders()
            return (
                set(held) == {self.instance(name) for name in names}
                and sum(len(partitions) for partitions in held.values()) == self.partitions
            )

        eventually(shared, lambda: f"partitions held by {names}, not {self.holders()}:\n{self.logs()}")

    @property
    def settings(self):
        """What its workers are told, without reading this process's environment."""
        return Settings(
            app_id=self.prefix,
            data_dir=self.data_dir(),
            kafka={"bootstrap_servers": self.bootstrap, "session_timeout_seconds": SESSION_SECONDS},
            topics={
                "events": [self.more.get("TOPICS__EVENTS", f"{self.prefix}-events")],
                "recommendations": f"{self.prefix}-recommendations",
                "rejected_events": f"{self.prefix}-rejected",
                "partitions": self.partitions,
            },
        )

    def settings_of(self, name):
        """What worker `name` reads from its environment, for a part of it that runs in this process."""
        found = {key: value for key, value in self.environment(name).items() if key.startswith("MILLSTREAM_")}
        with pytest.MonkeyPatch.context() as patch:
            for key, value in found.items():
                patch.setenv(key, value)
            return Settings()

    @property
    def examples_log(self):
        """The one partition of the examples."""
        return TopicPartition(self.settings.training_examples_topic, 0)

    def create_topics(self):
        create_missing(self.settings)
        return self

    def start(self, name="w0", faults=(), trainer=True, **more):
        """Start worker `name` from the nursery, with `faults` planted; without a trainer it keeps its first weights."""
        if not trainer:  # nobody is there to learn, or to say how far learning is
            more.setdefault("WATCHDOG__LEARNING_SECONDS", "3600")
            more.setdefault("INTAKE__MAX_LEARNING_LAG", "1000000000")
        log = self.folder / f"{name}-{len(self.workers)}.log"
        worker = self.nursery.start(self.environment(name, **more), log, list(faults), trainer)
        self.workers.append(worker)
        return worker

    def run_command(self, *arguments, name="w0", seconds=DEADLINE, **more):
        """Run the installed command to its end: exit code and everything that it said."""
        done = subprocess.run(
            [*COMMAND, *arguments],
            env=self.environment(name, **more),
            capture_output=True,
            text=True,
            timeout=seconds,
        )
        return done.returncode, done.stdout + done.stderr

    def start_command(self, name="w0", *options, **more):
        """Start a worker as people do, with the installed command and its options."""
        log = self.folder / f"{name}-{len(self.workers)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*COMMAND, "worker", *options],
                env=self.environment(name, **more),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        worker = Worker(process.pid, log, process.poll)
        self.workers.append(worker)
        return worker

    def producer(self, **config):
        return Producer(
            {
                "bootstrap.servers": self.bootstrap,
                "partitioner": "murmur2_random",
                "enable.idempotence": True,
                "linger.ms": 2,
                "log_level": 0,
                **config,
            }
        )

    def produce(self, events, **config):
        """Send events keyed by their user, in order, and wait until all are there."""
        producer = self.producer(**config) if config else self._producer()
        failed = []
        for event in events:
            producer.produce(
                self.settings.topics.events[0],
                json.dumps(event).encode(),
                str(event["user_id"]).encode(),
                on_delivery=lambda error, _: error and failed.append(error),
            )
            producer.poll(0)
        assert producer.flush(120) == 0
        assert not failed, failed[0]

    def _producer(self):
        if not hasattr(self, "_sender"):
            self._sender = self.producer()
        return self._sender

    @contextmanager
    def producing(self, events, per_second):
        """Send events at a pace in a thread of its own; all are there at the end of the block."""
        error = []

        def run():
            started = time.monotonic()
            try:
                for number, chunk in enumerate(_chunks(events, 10)):
                    time.sleep(max(0.0, started + number * 10 / per_second - time.monotonic()))
                    self.produce(chunk)
            except Exception as failure:
                error.append(failure)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield thread
        finally:
            thread.join()
        assert not error, error

    def lag(self):
        """Events that are not committed yet."""
        positions = self.committed()
        return sum(self._end(p) - max(0, positions[p]) for p in range(self.partitions))

    def until_done(self, seconds=DEADLINE):
        """Wait until every event is committed, while the workers that should live do."""

        def done():
            try:
                return self.lag() == 0
            except KafkaException:  # the broker is away, or only just back
                return False

        eventually(done, lambda: f"every event committed:\n{self.logs()}", seconds)

    def until_learned(self, meanwhile=lambda: None):
        """Wait until a checkpoint holds every example that is in the log now; `meanwhile` is called at each look."""

        def learned():
            meanwhile()
            return self._learned_to() >= end

        end = eventually(lambda: self._watermarks(self.examples_log), "the end of the examples")[1]
        eventually(learned, lambda: f"examples to {end} in a checkpoint:\n{self.logs()}")

    def _watermarks(self, partition):
        try:
            return self._consumer().get_watermark_offsets(partition, timeout=20)
        except KafkaException:  # a client that lived through the end of its broker may stay without this topic
            self.disconnect()
            return None

    def _learned_to(self):
        positions = [-1]
        for path in self.folder.glob("*/checkpoints/checkpoint-*/manifest.json"):
            with suppress(FileNotFoundError):  # older ones go at any time
                positions.append(json.loads(path.read_text())["metadata"]["position"])
        return max(positions)

    def logs(self):
        """What the last workers said, and where those that live are just now."""
        for worker in self.workers[-4:]:
            if worker.poll() is None:
                worker.send(signal.SIGUSR1)
        time.sleep(0.5)
        return "\n".join(f"--- {worker.log.name}\n{worker.output[-6000:]}" for worker in self.workers[-4:])

    def _consumer(self):
        if not hasattr(self, "_reader"):
            self._reader = Consumer({"bootstrap.servers": self.bootstrap, "group.id": self.prefix, "log_level": 0})
        return self._reader

    def committed(self):
        """Partition to committed offset, below 0 where there is none."""
        topic = self.settings.topics.events[0]
        wanted = [TopicPartition(topic, p) for p in range(self.partitions)]
        return {tp.partition: tp.offset for tp in self._consumer().committed(wanted, timeout=20)}

    def _end(self, partition):
        topic = self.settings.topics.events[0]
        return self._consumer().get_watermark_offsets(TopicPartition(topic, partition), timeout=20)[1]

    def close(self):
        for worker in self.workers:
            if worker.poll() is None:
                with suppress(ProcessLookupError):
                    os.kill(worker.pid, signal.SIGKILL)
        for worker in self.workers:
            worker.wait()
        self.disconnect()

    def disconnect(self):
        """Close the test's own connection; with the broker gone, that may take minutes."""
        if hasattr(self, "_reader"):
            self._reader.close()
            del self._reader


def _chunks(events, n):
    events = iter(events)
    while chunk := list(islice(events, n)):
        yield chunk


class OffsetWatch:
    """Looks at the committed offsets all the time, and remembers whether one went back."""

    def __init__(self, application):
        self.went_back = []
        self.n_seen = 0
        self._application = application
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        assert self.n_seen, "the watch saw no offset"

    def _watch(self):
        app = self._application
        topic = app.settings.topics.events[0]
        consumer = Consumer({"bootstrap.servers": app.bootstrap, "group.id": app.prefix, "log_level": 0})
        seen = {}
        while not self._stop.wait(0.05):
            try:
                found = consumer.committed([TopicPartition(topic, p) for p in range(app.partitions)], timeout=5)
            except KafkaException:  # a broker that is away: what it says when it is back counts
                continue
            for tp in found:  # an offset below 0 is none yet
                if tp.offset < seen.get(tp.partition, tp.offset):
                    self.went_back.append((tp.partition, seen[tp.partition], tp.offset))
                seen[tp.partition] = tp.offset
                self.n_seen += tp.offset >= 0
        consumer.close()


def only_line(output):
    """The one line that a refused start says, whatever it logged at lower levels."""
    lines = [line for line in output.splitlines() if " CRITICAL " in line or line.startswith("millstream: ")]
    if len(lines) != 1 or "Traceback" in output:
        pytest.fail(f"expected one line, got {len(lines)}:\n{output}")
    return lines[0]
