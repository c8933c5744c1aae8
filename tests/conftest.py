"""What all tests share: one real Apache Kafka a session, unique names, and the outside parts that a test may need."""

import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from hypothesis import HealthCheck, settings

from stream.brokers.apache import ApacheKafka
from stream.brokers.errors import BrokerError
from stream.brokers.jars import ensure_jars
from stream.brokers.java import find_java
from stream.brokers.ports import LOOPBACK, free_ports

Require = Callable[..., None]
CreateTopics = Callable[..., None]
FreshKafka = Callable[..., ApacheKafka]
StartPrometheus = Callable[[str], str]

REPOSITORY = Path(__file__).parents[1]

# That the machine is busy is no fault of a test. Under CI hypothesis takes such a profile of its own.
if "CI" not in os.environ:
    settings.register_profile("millstream", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("millstream")


def _missing(reason: str) -> None:
    """Skip with the reason; under CI, where `.ci/run` installs every part, fail instead."""
    if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
        pytest.fail(f"{reason} (under CI this is no reason to skip)", pytrace=False)
    pytest.skip(reason)


def _require(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            _missing(f"needs {program}, which is not installed")


def _require_kafka() -> None:
    try:
        find_java()
        ensure_jars()
    except BrokerError as error:
        _missing(f"needs a real Apache Kafka: {error}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a broker, so that `-m 'not kafka'` runs the rest."""
    for item in items:
        if isinstance(item, pytest.Function) and {"kafka", "fresh_kafka", "needs_kafka"} & set(item.fixturenames):
            item.add_marker("kafka")


@pytest.fixture(scope="session")
def require() -> Require:
    """Give `require("kcat", "promtool", ...)`: the test goes on only where these programs are installed."""
    return _require


@pytest.fixture(scope="session")
def needs_kafka() -> None:
    """For tests that start an Apache Kafka by themselves."""
    _require_kafka()


@dataclass(frozen=True)
class Kafka:
    """The broker of this test session."""

    broker: ApacheKafka
    admin: AdminClient = field(repr=False)

    @property
    def bootstrap(self) -> str:
        return self.broker.bootstrap


@pytest.fixture(scope="session")
def kafka() -> Iterator[Kafka]:
    """One Apache Kafka for the whole session: free ports, temporary folder. Never kill it: see `fresh_kafka`."""
    _require_kafka()
    with ApacheKafka() as broker:
        yield Kafka(broker, AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0}))


@pytest.fixture
def fresh_kafka() -> Iterator[FreshKafka]:
    """Give `fresh_kafka(data_dir=None, port=None)`: a started broker of the test's own, which it may kill."""
    _require_kafka()
    brokers: list[ApacheKafka] = []

    def start(data_dir: Path | None = None, port: int | None = None) -> ApacheKafka:
        broker = ApacheKafka(data_dir, port)
        brokers.append(broker)
        return broker.start()

    try:
        yield start
    finally:
        for broker in brokers:
            broker.close()


@pytest.fixture
def fresh_prefix() -> str:
    """A name that no other test uses: for an app id, and in front of topics and groups."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
def topics(kafka: Kafka) -> CreateTopics:
    """Give `topics({"name": partitions, ...}, config={...})`: creates them on the session's broker, and waits."""

    def create(partitions: Mapping[str, int], config: Mapping[str, str] | None = None) -> None:
        new = [NewTopic(name, count, 1, config=dict(config or {})) for name, count in partitions.items()]
        for created in kafka.admin.create_topics(new).values():
            created.result(90)
        # The controller acknowledges them a moment before the broker lists them.
        deadline = time.monotonic() + 90
        while not set(partitions) <= set(kafka.admin.list_topics(timeout=60).topics):
            assert time.monotonic() < deadline, f"created, and not listed: {sorted(partitions)}"
            time.sleep(0.02)

    return create


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory, require: Require) -> Iterator[StartPrometheus]:
    """Give `prometheus("127.0.0.1:8080")`: a real Prometheus that scrapes this worker, with our alerts; its address."""
    require("prometheus")
    processes: list[subprocess.Popen[bytes]] = []

    def start(target: str) -> str:
        # Not one that any client may get for a connection before Prometheus listens there.
        address = f"{LOOPBACK}:{free_ports(1)[0]}"
        folder = tmp_path_factory.mktemp("prometheus")
        config, log = folder / "prometheus.yml", folder / "prometheus.log"
        config.write_text(
            "global: {scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}\n"
            f"rule_files: ['{REPOSITORY / 'monitoring' / 'alerts' / 'millstream.rules.yml'}']\n"
            f"scrape_configs: [{{job_name: millstream, static_configs: [{{targets: ['{target}']}}]}}]\n"
        )
        options = [f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}"]
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["prometheus", *options, f"--web.listen-address={address}"], stdout=output, stderr=output
            )
        processes.append(process)
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"http://{address}/-/ready", timeout=5).close()
                return f"http://{address}"
            except urllib.error.URLError:
                time.sleep(0.05)
        pytest.fail(f"Prometheus did not start:\n{log.read_text()}")

    try:
        yield start
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
