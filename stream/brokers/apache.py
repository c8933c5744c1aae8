"""Apache Kafka in KRaft mode on loopback: one Java process that is broker and controller."""

import fcntl
import logging
import os
import shutil
import signal
import tempfile
import time
import weakref
from pathlib import Path
from types import TracebackType
from typing import Self

from stream.brokers.errors import BrokerError
from stream.brokers.folder import (
    BROKER_LOG,
    LOCK_FILE,
    LOG_FOLDER,
    PORT_TAKEN,
    PROPERTIES_FILE,
    explain,
    format_folder,
    stored_cluster_id,
)
from stream.brokers.jars import ensure_jars
from stream.brokers.java import find_java
from stream.brokers.ports import LOOPBACK, free_ports, is_free
from stream.brokers.process import LeashedProcess
from stream.brokers.properties import render, server_properties
from stream.brokers.readiness import Readiness

log = logging.getLogger(__name__)

START_SECONDS = 60.0
STOP_SECONDS = 15.0
PORT_ATTEMPTS = 5
POLL_SECONDS = 0.05
LARGEST_LOG_BYTES = 16 * 1024 * 1024


class _PortRace(BrokerError):
    """Somebody was faster; other ports may do."""


class ApacheKafka:
    """A local Apache Kafka that ends with this process, however this process ends.

    After `stop` or `kill` it can be started again: same port, same data. A temporary data folder goes with `close`.
    Not for use from several threads at once.

    Attributes:
        data_dir: Where its data, its properties and its log are.
        cluster_id: Known after the first start.
    """

    def __init__(self, data_dir: Path | None = None, port: int | None = None, heap: str = "512m") -> None:
        """Prepare a broker; nothing is started or fetched yet.

        Args:
            data_dir: Folder to keep the data in; a temporary one by default.
            port: Port on 127.0.0.1; a free one by default.
            heap: Most memory for the Java heap, as Java's `-Xmx` takes it.
        """
        self.cluster_id: str | None = None
        self.data_dir = data_dir.resolve() if data_dir else Path(tempfile.mkdtemp(prefix="millstream-kafka-"))
        self._scratch = None if data_dir else self.data_dir
        self._drop = weakref.finalize(self, shutil.rmtree, self._scratch, True) if self._scratch else None
        self._asked_port = port
        self._ports: tuple[int, int] | None = None  # of clients, of the controller; kept over restarts
        self._heap = heap
        self._process: LeashedProcess | None = None
        self._lock: int | None = None

    @property
    def bootstrap(self) -> str:
        """Give the address for clients, `127.0.0.1:port`."""
        if self._ports is None:
            raise BrokerError("the broker was not started yet")
        return f"{LOOPBACK}:{self._ports[0]}"

    @property
    def pid(self) -> int:
        """Give the process id of the running broker."""
        return self._running().pid

    @property
    def log_path(self) -> Path:
        """Give the file that the broker logs to."""
        return self.data_dir / BROKER_LOG

    @property
    def is_running(self) -> bool:
        """Say whether the Java process lives (it may be paused)."""
        return self._process is not None and self._process.is_alive

    def start(self) -> Self:
        """Start and wait until it serves; fetches the jars and formats the folder where that is still to be done.

        Raises:
            BrokerError: In one line: no Java, no jars, a taken port, somebody else's folder, or it did not come up.
        """
        if self.is_running:
            return self
        self._end(0)  # what is left of one that ended by itself
        java, jars = find_java(), ensure_jars()
        self.cluster_id = stored_cluster_id(self.data_dir)
        try:
            self._lock_folder()
            self._start_on_some_port(java, jars)
        except OSError as error:
            self._end(0)
            raise BrokerError(f"the data folder {self.data_dir} cannot be used: {error}") from error
        except BaseException:
            self._end(STOP_SECONDS)
            raise
        log.info("kafka started bootstrap=%s cluster=%s data=%s", self.bootstrap, self.cluster_id, self.data_dir)
        return self

    def stop(self, deadline_seconds: float = STOP_SECONDS) -> None:
        """Stop cleanly (SIGTERM), by force after the deadline. Nothing happens where it does not run."""
        self._end(deadline_seconds)

    def kill(self) -> None:
        """End it as a power cut would (SIGKILL)."""
        self._end(0)

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections stay open and nobody answers."""
        self._running().signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen broker go on (SIGCONT)."""
        self._running().signal(signal.SIGCONT)

    def close(self) -> None:
        """Stop it and delete a temporary data folder."""
        self.stop()
        if self._drop is not None:
            self._drop()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def wait(self, seconds: float) -> bool:
        """Wait at most so long for the broker to end by itself; say whether it has."""
        deadline = time.monotonic() + seconds
        while self.is_running and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        return not self.is_running

    def _running(self) -> LeashedProcess:
        if self._process is None or not self._process.is_alive:
            raise BrokerError("the broker does not run")
        return self._process

    def _end(self, deadline_seconds: float) -> None:
        if self._process is not None:
            self._process.end(deadline_seconds)
            self._process = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _lock_folder(self) -> None:
        """Take the data folder; Java inherits the descriptor, so the lock lasts until both processes are gone."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.data_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BrokerError(f"the data folder {self.data_dir} is in use by another running broker") from error

    def _start_on_some_port(self, java: Path, jars: Path) -> None:
        for attempt in range(1, PORT_ATTEMPTS + 1):
            ports = self._choose_ports()
            try:
                self._launch(java, jars, ports)
            except _PortRace:
                # A port that was asked for, or that clients know, is not exchanged for another: the next round says so.
                if attempt == PORT_ATTEMPTS:
                    raise
            else:
                self._ports = ports
                return

    def _choose_ports(self) -> tuple[int, int]:
        known = self._ports[0] if self._ports is not None else self._asked_port
        if known is None:
            port, controller_port = free_ports(2)
            return port, controller_port
        if not is_free(known):
            raise BrokerError(
                f"port {known} on {LOOPBACK} is taken by another process; stop that, or choose another port"
            )
        return known, next(port for port in free_ports(2) if port != known)

    def _launch(self, java: Path, jars: Path, ports: tuple[int, int]) -> None:
        (self.data_dir / PROPERTIES_FILE).write_text(render(self._properties(*ports)))
        if self.cluster_id is None:
            self.cluster_id = format_folder(java, jars, self.data_dir)
        if self.log_path.exists() and self.log_path.stat().st_size > LARGEST_LOG_BYTES:
            self.log_path.replace(self.log_path.with_suffix(".log.1"))
        assert self._lock is not None
        process = LeashedProcess(self._command(java, jars), self.log_path, self._scratch, self._lock)
        try:
            self._wait_until_it_serves(process, Readiness(ports[0], self.cluster_id))
        except BaseException:
            process.end(STOP_SECONDS)
            raise
        self._process = process

    def _properties(self, port: int, controller_port: int) -> dict[str, str]:
        """Give what the broker is told; a subclass may have it serve otherwise."""
        return server_properties(port, controller_port, log_dir=self.data_dir / LOG_FOLDER)

    def _command(self, java: Path, jars: Path) -> list[str]:
        options = ["-Djava.net.preferIPv4Stack=true", "-Dorg.slf4j.simpleLogger.showDateTime=true"]
        options += ["-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS"]
        main = ["-cp", f"{jars}/*", "kafka.Kafka", str(self.data_dir / PROPERTIES_FILE)]
        return [str(java), f"-Xmx{self._heap}", *options, *main]

    def _wait_until_it_serves(self, process: LeashedProcess, readiness: Readiness) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not readiness.ask():
            if not process.is_alive:
                reason = explain(process.log_tail())
                message = f"Apache Kafka did not come up: {reason} (its log: {self.log_path})"
                raise _PortRace(message) if reason == PORT_TAKEN else BrokerError(message)
            if time.monotonic() > deadline:
                reason = explain(process.log_tail())
                raise BrokerError(f"Apache Kafka did not serve within {START_SECONDS:g} s: {reason}")
            time.sleep(POLL_SECONDS)
