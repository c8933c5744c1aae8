"""What runs behind the view, put up in order and taken down in the reverse: Kafka, topics, worker, shop."""

import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from stream.brokers.apache import ApacheKafka
from stream.brokers.choose import Broker, GivenKafka, choose_broker
from stream.brokers.mock import MockKafka
from stream.brokers.ports import LOOPBACK, free_ports
from stream.errors import StartupError
from stream.live.children import Child, ChildDied, tail
from stream.live.facts import Fact
from stream.live.follow import Follower
from stream.live.model import Surroundings
from stream.live.plan import MOCK_LIMITS, MOCK_RATE, BrokerWish, DemoOptions, environment, overrides, prefix
from stream.live.sources import MetricsReader, WorkerAddress, listen
from stream.settings import Settings, load_settings
from stream.topics.expected import partition_counts
from stream.topics.preflight import create_missing

log = logging.getLogger(__name__)

READY_SECONDS = 120.0
"""A worker that is not ready by then will not be: importing torch takes seconds, on a cold disk tens of them."""
_LOOK_SECONDS = 0.1
_SHOP_SECONDS = 5.0
_GRACE_SECONDS = 2.0
_DELETE_SECONDS = 5.0


class Stage:
    """Everything that the demo starts, and ends.

    Args:
        options: What the command line said.
        wanted: Which Kafka.
        hand_over: Takes each fact; called on several threads.
        clock: Of the view, in seconds.

    Attributes:
        folder: Where everything is kept.
        keep_folder: Set when somebody will want to read the logs; a folder that was asked for is kept anyway.
        follower: Reads along once the worker is up.
    """

    follower: Follower
    _settings: Settings
    _broker: Broker | None = None
    _worker: Child | None = None
    _shop: Child | None = None

    def __init__(
        self,
        options: DemoOptions,
        wanted: BrokerWish,
        hand_over: Callable[[Fact], None],
        clock: Callable[[], float],
    ) -> None:
        self._options = options
        self._wanted = wanted
        self._hand_over = hand_over
        self._clock = clock
        self._names = prefix(wanted.is_given, options.data_dir is not None)
        self._web_port = free_ports(1)[0]
        self._created: list[str] = []
        self._readers: list[Follower | MetricsReader] = []
        self.keep_folder = options.data_dir is not None
        self.folder = (options.data_dir or Path(tempfile.mkdtemp(prefix="millstream-demo-"))).resolve()
        self.logs = self.folder / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)

    @property
    def rate(self) -> float:
        """Events a second that the shop makes."""
        return min(self._options.rate, MOCK_RATE) if isinstance(self._broker, MockKafka) else self._options.rate

    def start_broker(self, say: Callable[[str], None]) -> None:
        """Start, or find, the Kafka; make the topics.

        Raises:
            BrokerError: It cannot be had.
            StartupError: The topics cannot be made, or what was asked for keeps nothing.
            SettingsError: A setting of the user's cannot be used.
        """
        counts = partition_counts(self._settings_for("127.0.0.1:1"))
        kept = self.folder / "kafka" if self._options.data_dir is not None else None
        self._broker = choose_broker(self._wanted.choice, self._wanted.address, counts, say, kept)
        if kept is not None and isinstance(self._broker, MockKafka):
            raise StartupError("--data-dir needs a Kafka that keeps its data, and there is only the embedded mock here")
        self._settings = self._settings_for(self._broker.bootstrap)
        if not isinstance(self._broker, MockKafka):
            created, _ = create_missing(self._settings)
            self._created = [topic.name for topic in created]

    def start_worker(self) -> None:
        """Start the worker, and wait until it serves.

        Raises:
            ChildDied: It ended.
            StartupError: It is not ready in time.
        """
        address = WorkerAddress(LOOPBACK, self._web_port, self._settings.web.bearer)
        scratch = None if self.keep_folder else self.folder
        self._worker = Child("worker", ["worker"], self._variables, self.logs / "worker.log", scratch=scratch)
        deadline = time.monotonic() + READY_SECONDS
        while (answer := address.get("/ready")) is None or answer[0] != 200:
            self._worker.check()
            if time.monotonic() > deadline:
                self.keep_folder = True
                log_path = self._worker.log_path
                raise StartupError(f"the worker was not ready within {READY_SECONDS:g} s; its log: {log_path}")
            time.sleep(_LOOK_SECONDS)
        self.follower = Follower(self._settings, self._hand_over)
        self._readers = [self.follower, MetricsReader(address, self._hand_over, self._clock)]
        for reader in self._readers:
            reader.start()

    def start_shop(self) -> None:
        """Open the shop."""
        catalogue = ["--catalog", str(self.folder / "catalog.jsonl")] if self._options.data_dir is not None else []
        arguments = ["produce", "synthetic", "--control", "--rate", f"{self.rate:g}", *catalogue]
        self._shop = Child("shop", arguments, self._variables, self.logs / "shop.log", talks=True)
        listen(self._shop.lines, self._hand_over)

    def surroundings(self) -> Surroundings:
        """Say what does not change from here on."""
        settings, broker = self._settings, self._broker
        kinds = {ApacheKafka: "Apache Kafka", MockKafka: "embedded mock Kafka", GivenKafka: "Kafka"}
        return Surroundings(
            broker=f"{kinds[type(broker)]} {settings.kafka.bootstrap_servers}",
            limits=MOCK_LIMITS if isinstance(broker, MockKafka) else "",
            bootstrap=settings.kafka.bootstrap_servers or "",
            metrics_url=f"http://{LOOPBACK}:{self._web_port}/metrics",
            events_topic=settings.topics.events[0],
            recommendations_topic=settings.topics.recommendations,
            rejected_topic=settings.topics.rejected_events,
            folder=str(self.folder),
            is_kept=self._options.data_dir is not None,
            frozen_after=settings.measure.frozen_after,
            nightly_seconds=settings.measure.nightly_hours * 3600,
        )

    def command(self, word: str) -> None:
        """Tell the shop to do something: `launch` or `drift`."""
        if self._shop is not None:
            self._shop.tell(word)

    def check(self) -> None:
        """Do nothing while everything runs.

        Raises:
            ChildDied: Worker or shop ended, or the Kafka that was started here.
        """
        for child in (self._worker, self._shop):
            if child is not None:
                child.check()
        if isinstance(self._broker, ApacheKafka) and not self._broker.is_running:
            log_path = Path(shutil.copy(self._broker.log_path, self.logs / "kafka.log"))
            raise ChildDied("Apache Kafka", "", log_path, tail(log_path))

    def end(self, hurry: threading.Event) -> None:
        """End everything; by force, and at once, when somebody is in a hurry."""
        for child, seconds in ((self._shop, _SHOP_SECONDS), (self._worker, self._stop_seconds())):
            if child is not None:
                child.end(seconds, hurry)
        # After the worker: what it says at its end is still to be seen.
        for reader in self._readers:
            reader.stop()
        self._leave_broker(hurry)
        if not self.keep_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _leave_broker(self, hurry: threading.Event) -> None:
        if isinstance(self._broker, GivenKafka) and self._options.data_dir is None and self._created:
            _delete_topics(self._settings, self._created)
        if isinstance(self._broker, ApacheKafka) and hurry.is_set():
            self._broker.kill()
        if self._broker is not None:
            self._broker.close()

    def _stop_seconds(self) -> float:
        return self._settings.stop_timeout_seconds + _GRACE_SECONDS if self._worker is not None else 0.0

    def _settings_for(self, bootstrap: str) -> Settings:
        values = overrides(bootstrap, self._names, self.folder / "worker", self._web_port, self._wanted.is_given)
        self._variables = environment(values)
        return load_settings(values)


def _delete_topics(settings: Settings, names: list[str]) -> None:
    """Take a temporary demo's topics off somebody's own Kafka; they carry its random name, so nobody else uses them."""
    admin = AdminClient({**settings.librdkafka(), "log_level": 0})
    for name, future in admin.delete_topics(names, operation_timeout=_DELETE_SECONDS).items():
        try:
            future.result(_DELETE_SECONDS)
        except (KafkaException, TimeoutError) as error:
            log.warning("topic %s was not deleted: %s", name, error)
