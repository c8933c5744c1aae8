"""The trainer on a real Kafka: each example once, whatever is killed when; one trainer; clear words."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
import torch
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from online_model.checkpoint import newest, paths
from stream.identity import Identity
from stream.records import TrainingExample, encode_example
from stream.settings import Settings
from stream.trainer import Trainer
from stream.trainer_checkpoints import Cut, forget_position
from stream.trainer_messages import Ended, Facts, Started, Updated

START = 1_700_000_000_000
BATCH = 16
# Runs one trainer as a process of its own; a line of JSON for each message that matters.
PROGRAM = """
import json, sys, threading
from pathlib import Path
from stream.identity import Identity
from stream.settings import Settings
from stream.trainer import Trainer
from stream.trainer_messages import Ended, Facts, Started

options = json.loads(sys.argv[1])
exec(options.pop("patch"))
instance, identity = options.pop("instance"), Identity(*options.pop("identity"))
settings = Settings(**options)

def send(message):
    if isinstance(message, Started):
        print(json.dumps(["started", message.position, message.resumed_from]), flush=True)
    elif isinstance(message, Facts):
        print(json.dumps(["facts", message.position, message.version, message.checkpoint_failures]), flush=True)
    elif isinstance(message, Ended):
        print(json.dumps(["ended", message.exit_code, message.line]), flush=True)

stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), stop.set()), daemon=True).start()
sys.exit(Trainer(settings, identity, instance, send).run(stop))
"""


def example(n, **changes):
    """The n-th event: event n of a shop where each item leads to the next one."""
    item = (n * 7 + n // 11) % 23
    facts = {
        "topic": "tag",
        "partition": n % 3,
        "offset": n // 3,
        "time": START + n * 1000,
        "logged_at": START + n * 1000,
        "user": f"u{n % 13}",
        "behavior": "view",
        "role": "interest",
        "history": [(f"i{(item + step) % 23}", "view", START) for step in (21, 22)],
        "sitting": 0,
        "item": f"i{item}",
        "scored": n % 5 > 0,
        "unscored": None if n % 5 else "first",
        "rank": n % 4,
    }
    return encode_example(TrainingExample(**facts | changes))


class Shop:
    """One application on the session's broker: its log of examples, its trainers, its checkpoints."""

    def __init__(self, kafka, topics, prefix, folder):
        self.kafka = kafka
        self.app_id = prefix
        self.folder = folder
        self.topic = f"{prefix}-training-examples"
        topics({self.topic: 1})
        self.identity = Identity("cluster", {self.topic: "topic-1", "user-events": "events-1"})
        self.producer = Producer({"bootstrap.servers": kafka.bootstrap, "enable.idempotence": True})
        self.running = []

    def options(self, *, folder=None, instance="one", identity=None, patch="", session=1.0, **trainer):
        identity = identity or self.identity
        return {
            "patch": patch,
            "instance": instance,
            "identity": [identity.cluster_id, dict(identity.topic_ids)],
            "app_id": self.app_id,
            "data_dir": str(folder or self.folder),
            "kafka": {"bootstrap_servers": self.kafka.bootstrap, "session_timeout_seconds": session},
            "model": {"hidden": 8, "negatives": 32, "batch_size": BATCH, "device": "cpu"},
            "measure": {"sample": 0.5, "frozen_after": 100, "nightly_hours": 0.1},
            "trainer": {"batch_interval_ms": 20, "checkpoint_interval_seconds": 0.05, **trainer},
        }

    def settings(self, **options):
        values = self.options(**options)
        for name in ("patch", "instance", "identity"):
            del values[name]
        return Settings(**values)

    def produce(self, *values):
        for value in values:
            self.producer.produce(self.topic, value, partition=0)
        assert self.producer.flush(30) == 0

    def start(self, **options):
        """Start a trainer as a process."""
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, json.dumps(self.options(**options))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(self.folder / f"stderr-{len(self.running)}").open("w+"),
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        process.log = self.folder / f"stderr-{len(self.running)}"
        self.running.append(process)
        return process

    def run(self, until, **options):
        """Run a trainer in this process until its facts say so; returns its messages."""
        messages, stop = [], threading.Event()

        def send(message):
            messages.append(message)
            if isinstance(message, Facts) and until(message):
                stop.set()

        values = self.options(**options)
        identity, instance = Identity(*values["identity"]), values["instance"]
        timer = threading.Timer(60, stop.set)
        timer.start()
        Trainer(self.settings(**options), identity, instance, send).run(stop)
        timer.cancel()
        return messages

    def checkpoint(self, folder=None):
        found = newest((folder or self.folder) / "checkpoints").checkpoint
        return found and SimpleNamespace(states=found.states, cut=Cut.of(found.metadata))

    def wait_for_checkpoint(self, position):
        deadline = time.monotonic() + 90
        while (found := self.checkpoint()) is None or found.cut.position != position:
            assert time.monotonic() < deadline, f"no checkpoint at position {position}"
            time.sleep(0.05)

    def counts(self, folder=None):
        return self.checkpoint(folder).states["ledger"].metadata["counts"]

    def committed(self):
        consumer = Consumer({"bootstrap.servers": self.kafka.bootstrap, "group.id": f"{self.app_id}-trainer"})
        try:
            return consumer.committed([TopicPartition(self.topic, 0)], timeout=20)[0].offset
        finally:
            consumer.close()


@pytest.fixture
def shop(kafka, topics, fresh_prefix, tmp_path):
    shop = Shop(kafka, topics, fresh_prefix, tmp_path)
    yield shop
    for process in shop.running:
        process.kill()
        process.wait()


def lines(process, kind):
    for line in process.stdout:
        message = json.loads(line)
        if message[0] == kind:
            yield message[1:]


def wait_until(process, position):
    for at, *_ in lines(process, "facts"):
        if at >= position:
            return
    pytest.fail(f"the trainer ended before position {position}: {process.log.read_text()[-3000:]}")


def stop(process):
    out, _ = process.communicate("stop\n", timeout=120)
    return json.loads(out.splitlines()[-1]), process.log.read_text()


def tensors(checkpoint, name):
    return checkpoint.states[name].tensors


def assert_same_model(one, other):
    """Bit for bit: weights, optimizer, vocabulary, random state, copies, totals."""
    assert one.states.keys() == other.states.keys()
    for name in one.states:
        ours, theirs = tensors(one, name), tensors(other, name)
        assert ours.keys() == theirs.keys()
        for part in ours:
            assert torch.equal(ours[part], theirs[part]), f"{name}.{part}"
    assert one.states["measure"].metadata == other.states["measure"].metadata


def test_each_distinct_example_is_learned_once(shop):
    """Red where a checkpoint is renamed without its position committed.

    No trainer would learn there that it was replaced.
    """
    values = [example(n) for n in range(300)]
    malformed = example(300, sitting=7)
    shop.produce(*values[:100], *values[60:100], b"not msgpack", malformed, *values[90:], malformed)
    messages = shop.run(lambda facts: facts.position == 353, by="time")
    assert isinstance(messages[0], Started)
    assert messages[0].resumed_from is None
    assert isinstance(messages[1], Updated)
    assert messages[1].full
    assert messages[-1] == Ended(0)
    assert shop.counts() == {"learned": 300, "sampled_out": 0, "quarantined": 2, "duplicate": 51}
    facts = [message for message in messages if isinstance(message, Facts)]
    assert sum(step.report.n_examples for f in facts for step in f.steps) == 300
    assert {name: sum(f.new_examples[name] for f in facts) for name in facts[-1].examples} == facts[-1].examples
    assert facts[-1].lag == 0
    assert facts[-1].stream_time == START + 149_000
    assert shop.checkpoint().cut.position == 353
    assert shop.committed() == 353


def test_updates_make_a_copy_that_answers_as_the_learner_does(shop):
    from online_model.learner import OnlineLearner
    from online_model.protocol import Context, Request
    from online_model.serving import ServingModel, Update

    shop.produce(*(example(n) for n in range(400)))
    messages = shop.run(lambda facts: facts.position == 400, update_interval_ms=1)
    updates = [message for message in messages if isinstance(message, Updated)]
    assert [update.full for update in updates] == [True] + [False] * (len(updates) - 1)
    assert updates[0].oldest_logged_at is None
    assert updates[1].oldest_logged_at == START
    assert updates[-1].newest_logged_at == START + 399_000
    copy = ServingModel.from_update(Update.decode(updates[0].payload))
    for update in updates[1:]:
        copy.apply(Update.decode(update.payload))
    learner = OnlineLearner(shop.settings().model)
    learner.load_state(shop.checkpoint().states["learner"])
    requests = [Request(Context([(f"i{n}", "view", 0)], 0, 1)) for n in range(23)]
    assert copy.recommend(requests, 10) == learner.recommend(requests, 10)


def test_sigkill_at_random_moments_learns_each_example_once(shop):
    """The killed trainer's copies of a batch that was not committed, as a scorer republishes them, included."""
    chance = random.Random(5)
    values = [example(n) for n in range(1500)]
    log = []
    for first in range(0, 1500, 50):
        log += values[max(0, first - chance.choice([0, 0, 30])) : first + 50]
    done = 0
    for _ in range(5):
        process = shop.start(by="count", keep_checkpoints=2)
        next(lines(process, "started"))
        upto = min(len(log), done + chance.randrange(100, 400))
        shop.produce(*log[done:upto])
        done = upto
        time.sleep(chance.random())
        process.kill()
        process.wait()
    shop.produce(*log[done:])
    # By count only full mini-batches are learned: the last distinct example that fills one.
    n_full = 1500 // BATCH * BATCH
    messages = shop.run(lambda facts: facts.examples["learned"] == n_full, by="count")
    assert messages[-1] == Ended(0)
    counts = shop.counts()
    assert counts["learned"] == n_full
    assert counts["quarantined"] == 0

    undisturbed = shop.folder / "undisturbed"
    shop.run(lambda facts: facts.examples["learned"] == n_full, by="count", folder=undisturbed)
    assert shop.counts(undisturbed) == counts
    assert_same_model(shop.checkpoint(), shop.checkpoint(undisturbed))


def test_by_time_too_every_example_is_learned_once_across_sigkill(shop):
    values = [example(n) for n in range(600)]
    for first in range(0, 600, 200):
        process = shop.start(by="time")
        next(lines(process, "started"))
        shop.produce(*values[max(0, first - 20) : first + 200])
        time.sleep(random.Random(first).random())
        process.kill()
        process.wait()
    shop.run(lambda facts: facts.position == 640)
    assert shop.counts() == {"learned": 600, "sampled_out": 0, "quarantined": 0, "duplicate": 40}


def test_a_second_trainer_on_the_folder_says_where_the_first_one_runs(shop):
    """Red without the lock of the folder."""
    first = shop.start()
    next(lines(first, "facts"))
    (ended,) = [message for message in shop.run(lambda _: True, instance="two") if isinstance(message, Ended)]
    assert ended.exit_code == 1
    assert f"pid {first.pid}, instance one" in ended.line
    assert stop(first)[0] == ["ended", 0, ""]


def test_a_second_trainer_elsewhere_names_the_member_of_the_group(shop, tmp_path):
    """Red where the members of the group are not looked at."""
    first = shop.start(session=30.0)
    shop.produce(*(example(n) for n in range(BATCH)))
    wait_until(first, BATCH)
    other = tmp_path / "another-host"
    ended = shop.run(lambda _: True, folder=other, instance="two")[-1]
    assert ended.exit_code == 1
    assert "instance one at" in ended.line
    assert f":{first.pid}" in ended.line
    assert paths(other / "checkpoints") == []
    shop.produce(*(example(n) for n in range(BATCH, 2 * BATCH)))  # and it has disturbed nobody
    wait_until(first, 2 * BATCH)
    assert stop(first)[0] == ["ended", 0, ""]


def test_a_fenced_trainer_ends_with_75_and_writes_nothing(shop, tmp_path):
    """Stopped past its session, replaced by a trainer elsewhere, continued: it must not write another checkpoint.

    Red where a fenced transaction counts as one that failed: a supervisor would start this trainer again at once.
    """
    first = shop.start(session=6.0)  # a loaded machine may be silent for a second
    shop.produce(*(example(n) for n in range(BATCH)))
    wait_until(first, BATCH)
    shop.wait_for_checkpoint(BATCH)
    os.kill(first.pid, signal.SIGSTOP)
    before = [path.name for path in paths(shop.folder / "checkpoints")]
    shop.produce(*(example(n) for n in range(BATCH, 4 * BATCH)))
    other = tmp_path / "another-host"
    admin = AdminClient({"bootstrap.servers": shop.kafka.bootstrap})
    group = f"{shop.app_id}-trainer"
    deadline = time.monotonic() + 90
    while admin.describe_consumer_groups([group])[group].result(10).members:
        assert time.monotonic() < deadline, "the stopped trainer's session does not end"
        time.sleep(0.1)
    second = shop.start(folder=other, instance="two", session=6.0)
    wait_until(second, 4 * BATCH)
    os.kill(first.pid, signal.SIGCONT)
    code, line = next(lines(first, "ended"))
    assert code == 75, first.log.read_text()
    assert "another trainer has taken over" in line
    assert [path.name for path in paths(shop.folder / "checkpoints")] == before
    assert shop.checkpoint().cut.position == BATCH
    shop.produce(*(example(n) for n in range(4 * BATCH, 5 * BATCH)))
    wait_until(second, 5 * BATCH)
    assert stop(second)[0] == ["ended", 0, ""]
    assert shop.counts(other)["learned"] == 5 * BATCH


def test_another_cluster_or_topic_is_told_in_one_line_and_nothing_is_overwritten(shop):
    """Red where identities are not compared."""
    shop.produce(*(example(n) for n in range(BATCH)))
    shop.run(lambda facts: facts.position == BATCH)
    kept = [path.name for path in paths(shop.folder / "checkpoints")]
    topic_ids = dict(shop.identity.topic_ids)
    for identity, expected in (
        (Identity("elsewhere", topic_ids), "this is another Kafka cluster"),
        (Identity("cluster", {**topic_ids, shop.topic: "topic-2"}), f"topic {shop.topic} was made anew"),
        (Identity("cluster", {**topic_ids, "user-events": "events-2"}), "topic user-events was made anew"),
    ):
        ended = shop.run(lambda _: True, identity=identity)[-1]
        assert ended.exit_code == 2
        assert expected in ended.line
        assert "millstream reset --offsets" in ended.line
        assert "\n" not in ended.line
    assert [path.name for path in paths(shop.folder / "checkpoints")] == kept
    # The way out that the line names: weights and ledger stay, the log is read from its start.
    assert forget_position(shop.settings(), "one", time.time())
    anew = Identity("elsewhere", {**topic_ids, shop.topic: "topic-2"})
    messages = shop.run(lambda facts: facts.position == BATCH, identity=anew)
    assert messages[0].version > 0
    assert not messages[0].position
    assert shop.counts() == {"learned": BATCH, "sampled_out": 0, "quarantined": 0, "duplicate": BATCH}
    assert shop.checkpoint().cut.identity == anew


def test_a_position_beyond_the_end_is_an_error_and_nothing_is_overwritten(shop, kafka, topics):
    """Red where the position is not compared with the log's end."""
    shop.produce(*(example(n) for n in range(BATCH)))
    shop.run(lambda facts: facts.position == BATCH)
    kept = [path.name for path in paths(shop.folder / "checkpoints")]
    kafka.admin.delete_topics([shop.topic])[shop.topic].result(30)
    deadline = time.monotonic() + 90
    while shop.topic in kafka.admin.list_topics(timeout=10).topics:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    topics({shop.topic: 1})
    ended = shop.run(lambda _: True)[-1]
    assert ended.exit_code == 2
    assert f"position {BATCH} lies beyond the end 0" in ended.line
    assert "millstream reset --offsets" in ended.line
    assert [path.name for path in paths(shop.folder / "checkpoints")] == kept


def test_examples_that_expired_are_counted_and_the_rest_is_learned(shop, kafka):
    """Red where they are not counted."""
    shop.produce(*(example(n) for n in range(BATCH)))
    shop.run(lambda facts: facts.position == BATCH)
    shop.produce(*(example(n) for n in range(BATCH, 10 * BATCH)))
    gone = TopicPartition(shop.topic, 0, 4 * BATCH)
    kafka.admin.delete_records([gone])[TopicPartition(shop.topic, 0)].result(30)
    messages = shop.run(lambda facts: facts.position == 10 * BATCH)
    assert messages[-2].n_expired == 3 * BATCH
    assert shop.counts()["learned"] == 7 * BATCH


def test_a_new_trainer_begins_at_the_start_of_the_log_wherever_that_is(shop, kafka):
    shop.produce(*(example(n) for n in range(2 * BATCH)))
    kafka.admin.delete_records([TopicPartition(shop.topic, 0, BATCH)])[TopicPartition(shop.topic, 0)].result(30)
    messages = shop.run(lambda facts: facts.position == 2 * BATCH)
    assert messages[-2].n_expired == 0
    assert shop.counts()["learned"] == BATCH


def test_a_checkpoint_of_another_size_is_one_line(shop):
    shop.produce(*(example(n) for n in range(BATCH)))
    shop.run(lambda facts: facts.position == BATCH)
    kept = [path.name for path in paths(shop.folder / "checkpoints")]
    larger = shop.settings().model_copy(update={"model": Settings(model={"hidden": 9}).model})
    messages = []
    Trainer(larger, shop.identity, "one", messages.append).run(threading.Event())
    assert messages[-1].exit_code == 2
    assert "hidden = 8" in messages[-1].line
    assert [path.name for path in paths(shop.folder / "checkpoints")] == kept


FULL_DISK = """
import builtins, errno, os, pathlib
_open = pathlib.Path.open
def full(self, mode="r", *rest, **named):
    if "w" in mode and os.path.exists(os.environ["FULL"]):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return _open(self, mode, *rest, **named)
pathlib.Path.open = full
"""


def test_a_full_disk_costs_checkpoints_and_nothing_else(shop, tmp_path, monkeypatch):
    """Red where a checkpoint that failed ends the trainer."""
    flag = tmp_path / "full"
    monkeypatch.setenv("FULL", str(flag))
    process = shop.start(patch=FULL_DISK)
    shop.produce(*(example(n) for n in range(BATCH)))
    wait_until(process, BATCH)
    shop.wait_for_checkpoint(BATCH)
    flag.touch()
    shop.produce(*(example(n) for n in range(BATCH, 4 * BATCH)))
    failures = next(f for at, _, f in lines(process, "facts") if f and at >= 4 * BATCH)
    assert failures >= 1
    assert process.poll() is None
    assert shop.checkpoint().cut.position == BATCH
    flag.unlink()
    ended, err = stop(process)
    assert ended == ["ended", 0, ""]
    assert "No space left on device; earlier checkpoints are untouched" in err
    assert shop.checkpoint().cut.position == 4 * BATCH


def test_the_broker_may_go_and_come_back(fresh_kafka, fresh_prefix, tmp_path):
    broker = fresh_kafka(tmp_path / "kafka")

    def create(partitions):
        from confluent_kafka.admin import NewTopic

        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        for future in admin.create_topics([NewTopic(name, n, 1) for name, n in partitions.items()]).values():
            future.result(30)

    shop = Shop(SimpleNamespace(bootstrap=broker.bootstrap), create, fresh_prefix, tmp_path)
    process = shop.start()
    try:
        shop.produce(*(example(n) for n in range(BATCH)))
        wait_until(process, BATCH)
        port = int(broker.bootstrap.rpartition(":")[2])
        broker.close()
        time.sleep(2)
        assert process.poll() is None
        fresh_kafka(tmp_path / "kafka", port)
        shop.produce(*(example(n) for n in range(BATCH, 3 * BATCH)))
        wait_until(process, 3 * BATCH)
        assert stop(process)[0] == ["ended", 0, ""]
    finally:
        process.kill()
        process.wait()
    assert shop.counts()["learned"] == 3 * BATCH
