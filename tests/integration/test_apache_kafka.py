"""A local Apache Kafka as tests, benchmarks and people use it: start, stop, kill, freeze, and start again."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from stream.brokers.apache import ApacheKafka
from stream.brokers.choose import BrokerChoice, choose_broker
from stream.brokers.errors import BrokerError

FreshKafka = Callable[..., ApacheKafka]

START_BROKER = """
import sys, time
from pathlib import Path
from stream.brokers.apache import ApacheKafka
kafka = ApacheKafka(Path(sys.argv[1]) if len(sys.argv) > 1 else None).start()
print(kafka.pid, kafka.data_dir, flush=True)
time.sleep(600)
"""
RUN_COMMAND = "import typer; from stream.commands.broker import broker; typer.run(broker)"


def eventually(condition: Callable[[], bool], seconds: float = 90.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def produce(broker: ApacheKafka, value: bytes) -> None:
    failures: list[object] = []
    producer = Producer({"bootstrap.servers": broker.bootstrap, "log_level": 0})
    producer.produce("kept", value, on_delivery=lambda error, _: failures.append(error))
    assert producer.flush(90) == 0
    assert failures == [None]


def read_all(broker: ApacheKafka) -> list[bytes | None]:
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "reader", "log_level": 0})
    partition = TopicPartition("kept", 0, 0)
    end = consumer.get_watermark_offsets(partition, timeout=60)[1]
    consumer.assign([partition])
    values: list[bytes | None] = []
    assert eventually(lambda: values.extend(m.value() for m in consumer.consume(10, 0.2)) or len(values) >= end)
    consumer.close()
    return values


def test_records_port_and_cluster_survive_stop_and_kill(fresh_kafka: FreshKafka, tmp_path: Path) -> None:
    broker = fresh_kafka(tmp_path / "data")
    address, cluster = broker.bootstrap, broker.cluster_id
    admin = AdminClient({"bootstrap.servers": address})
    admin.create_topics([NewTopic("kept", 1, 1)])["kept"].result(30)
    produce(broker, b"before the stop")
    broker.stop()
    assert not broker.is_running
    broker.start()
    produce(broker, b"before the kill")
    pid = broker.pid
    broker.kill()
    assert not psutil.pid_exists(pid)
    broker.start()
    produce(broker, b"after it")
    assert (broker.bootstrap, broker.cluster_id) == (address, cluster)
    assert read_all(broker) == [b"before the stop", b"before the kill", b"after it"]
    broker.stop()
    # The folder alone is enough for another process later.
    again = fresh_kafka(tmp_path / "data")
    assert again.cluster_id == cluster
    assert read_all(again) == [b"before the stop", b"before the kill", b"after it"]


def test_a_frozen_broker_answers_nobody_and_goes_on(fresh_kafka: FreshKafka) -> None:
    broker = fresh_kafka()
    broker.pause()
    with pytest.raises(Exception, match=r"_TRANSPORT|_TIMED_OUT"):
        AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0}).list_topics(timeout=1)
    broker.resume()
    assert AdminClient({"bootstrap.servers": broker.bootstrap}).list_topics(timeout=60).brokers
    broker.pause()
    broker.stop()  # also ends a frozen one
    assert not broker.is_running


def test_a_temporary_folder_goes_with_the_broker(fresh_kafka: FreshKafka) -> None:
    broker = fresh_kafka()
    assert (broker.data_dir / "log" / "meta.properties").exists()
    broker.close()
    assert not broker.data_dir.exists()


def test_a_taken_port_is_one_line(fresh_kafka: FreshKafka) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(BrokerError, match=f"port {port} on 127.0.0.1 is taken"):
            fresh_kafka(port=port)


def test_a_port_that_is_lost_between_choice_and_start_is_chosen_anew(
    fresh_kafka: FreshKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stream.brokers import apache

    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        real, rounds = apache.free_ports, []

        def first_a_taken_one(count: int) -> list[int]:
            rounds.append(count)
            return [taken, *real(count - 1)] if len(rounds) == 1 else real(count)

        monkeypatch.setattr(apache, "free_ports", first_a_taken_one)
        broker = fresh_kafka()
        assert len(rounds) == 2
        assert not broker.bootstrap.endswith(f":{taken}")


def test_two_brokers_cannot_share_a_folder(fresh_kafka: FreshKafka, tmp_path: Path) -> None:
    broker = fresh_kafka(tmp_path / "data")
    properties = (tmp_path / "data" / "server.properties").read_text()
    with pytest.raises(BrokerError, match="in use by another running broker"):
        fresh_kafka(tmp_path / "data")
    assert (tmp_path / "data" / "server.properties").read_text() == properties
    assert broker.is_running


def test_the_folder_of_another_cluster(fresh_kafka: FreshKafka, tmp_path: Path) -> None:
    broker = fresh_kafka(tmp_path / "data")
    broker.stop()
    shutil.copytree(tmp_path / "data" / "log", tmp_path / "bare")
    with pytest.raises(BrokerError, match=f"another Kafka \\(cluster {broker.cluster_id}\\)"):
        fresh_kafka(tmp_path / "bare")
    meta = tmp_path / "data" / "log" / "meta.properties"
    meta.write_text(meta.read_text().replace("node.id=1", "node.id=7"))
    with pytest.raises(BrokerError, match="of another cluster or format"):
        fresh_kafka(tmp_path / "data")


@pytest.mark.usefixtures("needs_kafka")
def test_a_broker_that_does_not_come_up_says_why(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match=r"did not come up: .*(maximum heap|memory)"):
        ApacheKafka(tmp_path / "data", heap="1k").start()
    # The folder is as good as new.
    with ApacheKafka(tmp_path / "data") as broker:
        assert broker.is_running


@pytest.mark.usefixtures("needs_kafka")
@pytest.mark.parametrize("is_kept", [False, True])
def test_a_broker_ends_with_its_killed_parent(tmp_path: Path, is_kept: bool) -> None:
    arguments = [str(tmp_path / "data")] if is_kept else []
    parent = subprocess.Popen(
        [sys.executable, "-c", START_BROKER, *arguments], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert parent.stdout is not None
    pid, _, folder = parent.stdout.readline().strip().partition(" ")
    parent.kill()
    parent.wait()
    assert eventually(lambda: not _lives(int(pid)))
    assert eventually(lambda: Path(folder).exists() == is_kept)
    if is_kept:
        with ApacheKafka(Path(folder)) as broker:
            assert broker.is_running


def _lives(pid: int) -> bool:
    """Nobody may wait for an orphan here, so a zombie counts as gone."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.usefixtures("needs_kafka")
def test_auto_without_an_address_is_an_apache_kafka() -> None:
    said: list[str] = []
    broker = choose_broker(BrokerChoice.AUTO, None, {}, said.append)
    try:
        assert isinstance(broker, ApacheKafka)
        assert said == [f"Apache Kafka at {broker.bootstrap}, data temporary"]
    finally:
        broker.close()
    assert not broker.data_dir.exists()


@pytest.mark.usefixtures("needs_kafka")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_prints_its_address_and_stops_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    command = subprocess.Popen(
        [sys.executable, "-c", RUN_COMMAND, "--data-dir", str(tmp_path / "data")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert command.stdout is not None
    address = command.stdout.readline().strip()
    assert AdminClient({"bootstrap.servers": address}).list_topics(timeout=60).brokers
    os.kill(command.pid, number)
    _, errors = command.communicate(timeout=90)
    assert command.returncode == 0, errors
    assert "stopping" in errors
    assert "shut down completed" in (tmp_path / "data" / "broker.log").read_text()
