"""The intake on a real Kafka, with the moments of a rebalance held open that are otherwise too short to be met."""

import asyncio
from collections import Counter

import pytest
from confluent_kafka import Producer
from faust.tables.recovery import Recovery

from stream.intake import Intake, Partition
from stream.settings import Settings

N_PARTITIONS = 3
N_EVENTS = 3_000
VALUE = b"x" * 200
"""Some fetches for each partition."""


@pytest.fixture
def settings(kafka, topics, fresh_prefix, tmp_path):
    settings = Settings(
        app_id=fresh_prefix,
        kafka={"bootstrap_servers": kafka.bootstrap, "session_timeout_seconds": 6},
        topics={"events": [f"{fresh_prefix}-events"]},
        data_dir=tmp_path,
    )
    topics({settings.topics.events[0]: N_PARTITIONS})
    return settings


def produce(settings, n_events=N_EVENTS):
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers, "batch.size": 8_192})
    for number in range(n_events):
        producer.produce(settings.topics.events[0], VALUE, partition=number % N_PARTITIONS)
    assert producer.flush(30) == 0


class Reader:
    """A worker that only counts what it is handed; where a partition is read on from is the count."""

    def __init__(self, settings, instance_id, counted):
        self.counted = counted
        self.intake = Intake(settings, instance_id, self._assigned, self._start_offsets)
        self.intake.agent(self._count)
        self.loaded = None
        self.busy_seconds = 2.0  # with the first batch: what comes meanwhile waits in the agent's queue

    async def _assigned(self, assignment):
        self.loaded = assignment

    async def _start_offsets(self, partitions):
        return {partition: self.next_offset(partition) for partition in partitions}

    def next_offset(self, partition):
        return next(offset for offset in range(10**9) if not self.counted[(partition, offset)])

    async def _count(self, batches):
        async for batch in batches:
            await asyncio.sleep(self.busy_seconds)
            self.busy_seconds = 0.0
            if self.loaded is None or self.loaded.generation != batch.generation:
                continue  # as a pipeline does: read again after the recovery
            for record in batch.records:
                self.counted[(Partition(record.topic, record.partition), record.offset)] += 1

    async def __aenter__(self):
        self.intake.app.finalize()
        self._starting = asyncio.create_task(self.intake.app.maybe_start())  # ends with the first recovery
        return self

    async def __aexit__(self, *_):
        await self._starting
        await self.intake.app.stop()


async def until(condition, seconds=30):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


def held_after_the_seek(monkeypatch, seconds=1.5):
    """Let Faust come late from a seek to the flow: it empties the agents' queues there."""
    wait = Recovery._wait

    async def late(self, what, timeout=None):
        await wait(self, what, timeout)
        await asyncio.sleep(seconds)

    monkeypatch.setattr(Recovery, "_wait", late)


async def late_resumption(reader):
    """Let one rebalance begin while the recovery of the one before still runs: Faust then resumes what it has stopped.

    Returns when the first recovery has begun; it ends in the middle of the second rebalance.
    """
    app, recovery, in_rebalance = reader.intake.app, asyncio.Event(), asyncio.Event()
    assigned = reader.intake._on_assigned

    async def slow(assignment):
        reader.intake._on_assigned = assigned
        recovery.set()
        await in_rebalance.wait()
        await assigned(assignment)

    async def revoked(*_, **__):
        app.on_partitions_revoked.disconnect(revoked)
        in_rebalance.set()
        await until(lambda: app.consumer.flow_active)

    reader.intake._on_assigned = slow
    await recovery.wait()
    app.on_partitions_revoked.connect(revoked)


def test_a_rebalance_in_the_recovery_of_another_loses_nothing(settings, monkeypatch):
    """Red where what Faust resumes too early is taken: it empties the queue later, between the seek and the flow."""
    produce(settings)
    held_after_the_seek(monkeypatch)
    counted = Counter()

    async def run():
        one, two = Reader(settings, "one", counted), Reader(settings, "two", counted)
        recovering = asyncio.create_task(late_resumption(one))
        async with one:
            await recovering
            async with two:
                await until(lambda: two.loaded is not None)
                try:
                    await until(lambda: sum(counted.values()) >= N_EVENTS, 20)
                except TimeoutError:
                    pass

    asyncio.run(run())
    assert not [place for place in expected(settings) if not counted[place]]
    assert max(counted.values()) == 1


def test_who_has_fetched_nothing_for_long_joins_again(settings):
    """Red where aiokafka's look at the last fetch is believed: after 1,000 s of recovery a worker stays outside."""
    produce(settings)
    counted = Counter()

    async def run():
        one, two = Reader(settings, "one", counted), Reader(settings, "two", counted)
        recovering = asyncio.Event()
        assigned = one.intake._on_assigned

        async def endless(assignment):
            one.intake._on_assigned = assigned
            one.intake.app.consumer._thread._consumer._subscription._last_fetch_ended -= 10_000
            recovering.set()
            await until(lambda: one.intake.generation > assignment.generation)

        one.intake._on_assigned = endless
        async with one:
            await recovering.wait()
            async with two:
                await until(lambda: one.loaded is not None and two.loaded is not None)
                await until(lambda: sum(counted.values()) >= N_EVENTS, 20)
                assert {reader.loaded.generation for reader in (one, two)} == {one.intake.generation}

    asyncio.run(run())


def expected(settings):
    topic = settings.topics.events[0]
    return [(Partition(topic, number % N_PARTITIONS), number // N_PARTITIONS) for number in range(N_EVENTS)]
