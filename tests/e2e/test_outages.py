"""A broker that is away for longer than a transaction may take, and a worker that lives through it."""

import re
import subprocess
import time
from contextlib import suppress

import pytest

from stream.brokers.ports import free_ports
from stream.delivery import Committer, StateChange
from stream.intake import Assignment, Partition
from stream.recovery import BrokerSilent, StartOffsets, read_changelog, undecided
from tests.e2e.checker import check
from tests.e2e.test_broker_faults import Supervised, until_committed
from tests.e2e.test_watchdog import IMPATIENT
from tests.e2e.visits import events
from tests.e2e.workers import COMMAND, OffsetWatch, Worker, eventually

# An outage longer than both ends what is under way; the watchdog has less patience than that.
SHORT = {"KAFKA__TRANSACTION_TIMEOUT_SECONDS": "3", "KAFKA__DELIVERY_TIMEOUT_SECONDS": "4"}
LINES_PER_SECOND = 5


def went_through(worker):
    """The worker noticed that what it had begun is undecided."""
    return "outage generation=" in worker.output and "broker does not answer" in worker.output


@pytest.mark.long
def test_the_worker_outlives_a_broker_that_hangs(applications, fresh_kafka):
    """Nothing is lost or done twice, no alarm is raised, and the clients' complaints are bounded."""
    broker = fresh_kafka()
    application = applications(broker.bootstrap)
    worker = application.start(**IMPATIENT, **SHORT).until_ready()
    with OffsetWatch(application) as offsets:
        with application.producing(events(800), per_second=100):
            until_committed(application, 50)
            broker.pause()
            eventually(lambda: went_through(worker), lambda: f"an outage:\n{worker.output}")
            broker.resume()
        application.until_done()
        application.until_learned()
    assert worker.poll() is None, worker.output
    assert not offsets.went_back
    eventually(lambda: "broker answers again" in worker.output, lambda: f"a line that it is back:\n{worker.output}")
    seconds = re.findall(r"^\S+ (\d+:\d+:\d+)", worker.output, re.MULTILINE)
    assert len(seconds) < LINES_PER_SECOND * max(10, len(set(seconds))), worker.output
    assert worker.stop() == 0
    check(application)


@pytest.mark.long
def test_nothing_is_lost_where_the_broker_dies_for_longer_than_a_transaction_lasts(applications, fresh_kafka):
    """A broker that comes back without a transaction of the trainer's ends the worker; a supervisor starts it again."""
    broker = fresh_kafka()
    application = applications(broker.bootstrap, **SHORT)
    supervised = Supervised(application)
    supervised.worker.until_ready()
    first = supervised.worker
    with OffsetWatch(application) as offsets:
        with application.producing(events(800), per_second=100):
            until_committed(application, 50)
            broker.kill()
            eventually(lambda: went_through(first) or first.poll() is not None, lambda: f"an outage:\n{first.output}")
            broker.start()  # same port, same data
        supervised.until_done()
        supervised.until_learned()
    assert not offsets.went_back
    assert supervised.worker.stop() == 0
    check(application)


def starts(settings):
    """Where the first partition would be read from; None while the group's coordinator does not say."""
    with suppress(BrokerSilent):
        return StartOffsets(settings)([Partition(settings.topics.events[0], 0)]).positions


@pytest.mark.long
@pytest.mark.parametrize("what", ["states and offsets", "offsets"])
def test_a_transaction_that_the_broker_left_hanging_is_ended(applications, fresh_kafka, what):
    """A broker that comes back notes a transaction of before as aborted, and tells its partitions nothing of that.

    Kafka 4.3.0 does (KAFKA-20734), about every second time. Then, without `end_hanging`, the read of the changelog and
    that of the offsets were seen to wait for ever; the latter also where the states had been told.
    """
    broker = fresh_kafka()
    settings = applications(broker.bootstrap, **SHORT).settings_of("w0")
    partitions = range(settings.topics.partitions)
    eventually(lambda: starts(settings), "a coordinator of the group")  # without one, sending offsets hangs
    killed = Committer(settings, "w0")
    killed.start()
    killed.begin()
    if what != "offsets":
        killed.write_changelog([StateChange(number, b"u1", b"never committed") for number in partitions])
    killed.send_offsets({Partition(settings.topics.events[0], 0): 7}, Assignment(-1, "", frozenset()))
    broker.kill()
    gone = time.monotonic()
    eventually(lambda: time.monotonic() - gone > 4, "a time longer than a transaction may last")
    broker.start()
    successor = Committer(settings, "w0")
    successor.start()
    successor.end_hanging(partitions)
    eventually(lambda: not undecided(settings, partitions), "an end of the transaction")
    found = []
    read_changelog(settings, partitions, found.append)
    assert found == []
    assert set(starts(settings).values()) == {0}


@pytest.mark.long
def test_a_supervised_worker_waits_for_a_broker_that_comes_later(applications, fresh_kafka, tmp_path):
    """One clear line while there is none; with the broker there, the worker is soon at work."""
    (port,) = free_ports(1)
    broker = fresh_kafka(tmp_path / "kafka", port)
    application = applications(broker.bootstrap)
    broker.stop()
    log = tmp_path / "supervised.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*COMMAND, "worker", "--supervise"],
            env=application.environment(),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    worker = Worker(process.pid, log, process.poll)
    application.workers.append(worker)
    eventually(lambda: "worker ended code=69" in worker.output, lambda: f"the first attempt:\n{worker.output}")
    assert len(worker.output.splitlines()) == 2, worker.output
    assert f"no Kafka answers at 127.0.0.1:{port}" in worker.output
    broker.start()
    worker.until_ready()
    assert worker.stop() == 0
