"""How batches travel: with real threads and a broker that is played by what it answers."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from stream.delivery import DeliveryFailed, GenerationOver, Outage, StateChange
from stream.intake import Assignment, Batch, Partition
from stream.pipeline import COMMIT_AT_ONCE_EVENTS, MAX_UNCOMMITTED_EVENTS, OUTAGES_IN_A_ROW, Hooks, Pipeline, Threads
from stream.scorer import Processed
from stream.state import UserState
from stream.users import UserTable

P0 = Partition("events", 0)
DEADLINE = 10.0


@dataclass
class Broker:
    """Remembers what was committed; can hold a transaction open, refuse it, or fail a flush."""

    transactions: list[tuple[dict[Partition, int], int]] = field(default_factory=list)
    published: list[object] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    refuse_generation: int | None = None
    fail_publish: bool = False
    n_publish_outages: int = 0
    n_commit_outages: int = 0

    def publish(self, outputs: list[object]) -> None:
        if self.fail_publish:
            raise DeliveryFailed("no")
        if self.n_publish_outages:
            self.n_publish_outages -= 1
            raise Outage("away")
        self.published += outputs

    def commit(self, changes: list[StateChange], positions: dict[Partition, int], assignment: Assignment) -> None:
        assert self.gate.wait(DEADLINE)
        if assignment.generation == self.refuse_generation:
            raise GenerationOver("ILLEGAL_GENERATION")
        if self.n_commit_outages:
            self.n_commit_outages -= 1
            raise Outage("away")
        self.transactions.append((positions, len(changes)))


@dataclass
class Holding(Broker):
    """Holds the flush of these outputs until it is let go."""

    held: object = None
    flushing: threading.Event = field(default_factory=threading.Event)
    flushed: threading.Event = field(default_factory=threading.Event)

    def publish(self, outputs: list[object]) -> None:
        if outputs == [self.held]:
            self.flushing.set()
            assert self.flushed.wait(DEADLINE)
        super().publish(outputs)


class Source:
    """Batches on demand."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Batch | None] = asyncio.Queue()
        self.offset = 0

    def put(self, generation: int = 1, n_records: int = 1) -> None:
        self.offset += n_records
        records: list[Any] = [SimpleNamespace(timestamp=0)] * n_records
        self.queue.put_nowait(Batch(generation, records, {P0: self.offset}))

    async def batches(self) -> AsyncIterator[Batch]:
        while (batch := await self.queue.get()) is not None:
            yield batch


@dataclass
class Rig:
    broker: Broker
    source: Source
    pipeline: Pipeline
    discarded: list[int]
    crashes: list[BaseException]
    given_back: list[int]
    run: "asyncio.Task[None]"


async def nothing(*_: object) -> None:
    """Do nothing."""


async def start(broker: Broker, commit_interval_seconds: float = 0.0) -> Rig:
    discarded: list[int] = []
    crashes: list[BaseException] = []
    given_back: list[int] = []

    async def crash(error: BaseException) -> None:
        crashes.append(error)

    def process(batch: Batch, users: UserTable) -> Processed:
        user = f"u{batch.positions[P0]}"
        return Processed(outputs=[batch.positions[P0]], overlay={user: UserState(newest=batch.positions[P0])})  # type: ignore[list-item]

    hooks = Hooks(
        process=process,
        recover=lambda _: UserTable(1, 100),
        published=lambda *_: None,
        committed=lambda *_: None,
        discarded=discarded.append,
        rejoin=lambda assignment: given_back.append(assignment.generation),
        throttle=nothing,
        crash=crash,
    )
    source = Source()
    pipeline = Pipeline(broker, broker, Threads(), hooks, commit_interval_seconds)  # type: ignore[arg-type]
    await pipeline.assigned(Assignment(1, "m", frozenset({P0})))
    return Rig(
        broker, source, pipeline, discarded, crashes, given_back, asyncio.create_task(pipeline.run(source.batches()))
    )


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.001)


def play(story: Callable[[Rig], Any], broker: Broker | None = None, commit_interval_seconds: float = 0.0) -> None:
    async def main() -> None:
        rig = await start(broker or Broker(), commit_interval_seconds)
        await story(rig)
        rig.broker.gate.set()
        rig.source.queue.put_nowait(None)

    asyncio.run(main())


def test_answers_do_not_wait_for_transactions_and_one_transaction_takes_all_that_were_published_meanwhile() -> None:
    async def story(rig: Rig) -> None:
        rig.source.put()
        await until(lambda: len(rig.broker.published) == 1)
        for _ in range(4):
            rig.source.put()
        await until(lambda: len(rig.broker.published) == 5)
        assert rig.broker.transactions == []
        assert rig.pipeline.n_uncommitted == 5
        rig.broker.gate.set()
        await until(lambda: not rig.pipeline.busy)
        assert rig.broker.transactions == [({P0: 1}, 1), ({P0: 5}, 4)]
        assert rig.pipeline.positions == {P0: 5}
        assert rig.pipeline.users is not None
        assert len(rig.pipeline.users) == 5

    play(story)


def test_a_refused_generation_drops_every_batch_and_commits_nothing_until_the_next_assignment() -> None:
    """Red where what is uncommitted is kept."""

    async def story(rig: Rig) -> None:
        rig.source.put()
        await until(lambda: len(rig.broker.published) == 1)
        rig.source.put()
        await until(lambda: len(rig.broker.published) == 2)
        rig.broker.gate.set()
        await until(lambda: not rig.pipeline.busy)
        assert rig.broker.transactions == []
        assert sum(rig.discarded) == 2
        assert rig.pipeline.users is None
        rig.source.put()  # still labelled with the generation that is over
        await until(lambda: sum(rig.discarded) == 3)
        await rig.pipeline.assigned(Assignment(2, "m", frozenset({P0})))
        rig.source.put(generation=2)
        await until(lambda: len(rig.broker.transactions) == 1)
        assert rig.crashes == []

    play(story, Broker(refuse_generation=1))


def test_a_batch_published_across_a_rebalance_is_not_committed() -> None:
    """Red where an assignment does not drop what came before it."""

    async def story(rig: Rig) -> None:
        rig.source.put()
        await until(lambda: len(rig.broker.published) == 1)
        moved = asyncio.create_task(rig.pipeline.assigned(Assignment(2, "m", frozenset({P0}))))
        rig.source.put(generation=1)
        await until(lambda: sum(rig.discarded) >= 1)
        rig.broker.gate.set()
        await moved
        assert all(positions == {P0: 1} for positions, _ in rig.broker.transactions)

    play(story)


def test_a_batch_whose_partitions_move_while_it_is_published_is_not_committed() -> None:
    """Red where the assignment is not looked at again: its offsets would go out under the new generation."""
    broker = Holding(held=1)

    async def story(rig: Rig) -> None:
        rig.broker.gate.set()
        rig.source.put()
        await until(broker.flushing.is_set)
        await rig.pipeline.assigned(Assignment(2, "m", frozenset({P0})))
        broker.flushed.set()
        await until(lambda: sum(rig.discarded) == 1)
        rig.source.put(generation=2)
        await until(lambda: rig.broker.transactions == [({P0: 2}, 1)])

    play(story, broker)


def test_a_batch_that_waits_for_its_turn_while_a_rebalance_drops_everything_is_not_committed() -> None:
    """Red where the assignment is compared before the turn has come: the batch would be the next generation's."""
    broker = Holding(held=2)

    async def story(rig: Rig) -> None:
        rig.broker.gate.set()
        rig.source.put()
        await until(lambda: len(rig.broker.transactions) == 1)
        rig.source.put()
        await until(broker.flushing.is_set)
        lock = rig.pipeline._changed._lock  # type: ignore[attr-defined]
        await lock.acquire()
        rebalance = asyncio.create_task(rig.pipeline.assigned(Assignment(2, "m", frozenset({P0}))))
        await until(lambda: len(lock._waiters or ()) == 1)
        broker.flushed.set()
        await until(lambda: len(lock._waiters) == 2)
        lock.release()
        await rebalance
        rig.source.put(generation=2)
        await until(lambda: len(rig.broker.transactions) == 2)
        assert rig.broker.transactions[1] == ({P0: 3}, 1)
        assert sum(rig.discarded) == 1

    play(story, broker, commit_interval_seconds=0.5)


def test_a_batch_of_an_older_generation_is_neither_answered_nor_committed() -> None:
    """Red where only the presence of an assignment is asked for: its offsets would go out under the new generation."""

    async def story(rig: Rig) -> None:
        rig.broker.gate.set()
        await rig.pipeline.assigned(Assignment(2, "m", frozenset({P0})))
        rig.source.put(generation=1)
        rig.source.put(generation=2)
        await until(lambda: len(rig.broker.transactions) == 1)
        assert rig.broker.published == [2]
        assert sum(rig.discarded) == 1

    play(story)


def test_a_failed_delivery_ends_the_process_before_it_commits() -> None:
    async def main() -> None:
        rig = await start(Broker(fail_publish=True))
        rig.broker.gate.set()
        rig.source.put()
        with pytest.raises(DeliveryFailed):
            await rig.run
        assert rig.broker.transactions == []

    asyncio.run(main())


def test_a_failed_transaction_crashes() -> None:
    """Red where nobody is told of it."""

    class Broken(Broker):
        def commit(self, *_: object) -> None:
            raise DeliveryFailed("fenced")

    async def story(rig: Rig) -> None:
        rig.source.put()
        await until(lambda: bool(rig.crashes))
        assert isinstance(rig.crashes[0], DeliveryFailed)

    play(story, Broken())


def test_an_outage_in_a_transaction_drops_everything_and_asks_for_a_new_generation() -> None:
    """Red with the overlays kept."""

    async def story(rig: Rig) -> None:
        rig.source.put()
        await until(lambda: len(rig.broker.published) == 1)
        rig.source.put()
        await until(lambda: len(rig.broker.published) == 2)
        rig.broker.gate.set()
        await until(lambda: rig.given_back == [1])
        assert rig.pipeline.users is None
        assert rig.pipeline.n_uncommitted == 0
        assert sum(rig.discarded) == 2
        rig.source.put()  # fetched under the old generation, behind what was dropped
        await until(lambda: sum(rig.discarded) == 3)
        await rig.pipeline.assigned(Assignment(2, "m", frozenset({P0})))
        rig.source.offset = 0
        rig.source.put(generation=2, n_records=3)
        await until(lambda: rig.broker.transactions == [({P0: 3}, 1)])
        assert rig.pipeline.users is not None
        assert list(rig.pipeline.users) == ["u3"]
        assert rig.crashes == []

    play(story, Broker(n_commit_outages=1))


def test_an_outage_in_a_flush_drops_everything_and_asks_for_a_new_generation() -> None:
    """Red where nothing is dropped."""

    async def story(rig: Rig) -> None:
        rig.broker.gate.set()
        rig.source.put()
        await until(lambda: rig.given_back == [1])
        assert rig.pipeline.assignment is None
        rig.source.put()
        await until(lambda: sum(rig.discarded) == 2)
        assert rig.broker.transactions == []
        await rig.pipeline.assigned(Assignment(2, "m", frozenset({P0})))
        rig.source.put(generation=2)
        await until(lambda: len(rig.broker.transactions) == 1)

    play(story, Broker(n_publish_outages=1))


def test_outages_in_a_row_end_the_process_and_a_commit_between_them_does_not() -> None:
    """Red where they are not counted, and where a commit does not begin the count anew."""

    async def story(rig: Rig) -> None:
        rig.broker.gate.set()
        for generation in range(2, 2 + OUTAGES_IN_A_ROW):
            rig.source.put(generation=generation - 1)
            await until(lambda: rig.pipeline.assignment is None)
            await rig.pipeline.assigned(Assignment(generation, "m", frozenset({P0})))
        if rig.broker.n_commit_outages:
            rig.source.put(generation=1 + OUTAGES_IN_A_ROW)
            await until(lambda: bool(rig.crashes))
        else:
            rig.source.put(generation=1 + OUTAGES_IN_A_ROW)
            await until(lambda: len(rig.broker.transactions) == 1)
            rig.broker.n_commit_outages = 1
            rig.source.put(generation=1 + OUTAGES_IN_A_ROW)
            await until(lambda: rig.pipeline.assignment is None)
            assert rig.crashes == []

    play(story, Broker(n_commit_outages=OUTAGES_IN_A_ROW + 1))
    play(story, Broker(n_commit_outages=OUTAGES_IN_A_ROW))


def test_a_drain_takes_no_further_batch_and_waits_for_what_was_taken() -> None:
    """Red where batches are taken in a drain."""

    async def story(rig: Rig) -> None:
        rig.source.put()
        await until(lambda: len(rig.broker.published) == 1)
        draining = asyncio.create_task(rig.pipeline.drain())
        await asyncio.sleep(0)
        rig.source.put()
        assert not draining.done()
        rig.broker.gate.set()
        async with asyncio.timeout(DEADLINE):
            await draining
        assert rig.broker.transactions == [({P0: 1}, 1)]
        assert len(rig.broker.published) == 1

    play(story)


def test_no_committed_offset_goes_back_after_records_were_fetched_twice() -> None:
    """Red where the offsets of a batch are committed as they are."""

    async def story(rig: Rig) -> None:
        rig.broker.gate.set()
        rig.source.put(n_records=10)
        await until(lambda: len(rig.broker.transactions) == 1)
        rig.source.offset = 3
        rig.source.put(n_records=1)
        await until(lambda: len(rig.broker.transactions) == 2)
        assert rig.broker.transactions[1][0] == {P0: 10}

    play(story)


def test_between_two_transactions_lies_an_interval_that_many_events_or_a_drain_cut_short() -> None:
    """With the linger taken out of the commits, the third batch has a transaction of its own."""

    async def story(rig: Rig) -> None:
        rig.broker.gate.set()
        rig.source.put()
        await until(lambda: rig.broker.transactions == [({P0: 1}, 1)])  # nothing was committed before: at once
        rig.source.put()
        rig.source.put()
        await until(lambda: len(rig.broker.published) == 3)
        assert rig.pipeline.n_uncommitted == 2
        rig.source.put(n_records=COMMIT_AT_ONCE_EVENTS)
        await until(lambda: rig.pipeline.n_uncommitted == 0)
        assert rig.broker.transactions[1:] == [({P0: 3 + COMMIT_AT_ONCE_EVENTS}, 3)]
        rig.source.put()
        await until(lambda: len(rig.broker.published) == 5)
        await asyncio.wait_for(rig.pipeline.drain(), DEADLINE)
        assert rig.broker.transactions[2:] == [({P0: 4 + COMMIT_AT_ONCE_EVENTS}, 1)]

    play(story, commit_interval_seconds=3600.0)


def test_no_batch_is_taken_while_too_much_is_uncommitted() -> None:
    """Red where nothing waits for `MAX_UNCOMMITTED_EVENTS`: the batch was published while the transaction hung."""

    async def story(rig: Rig) -> None:
        rig.source.put(n_records=MAX_UNCOMMITTED_EVENTS)
        await until(lambda: len(rig.broker.published) == 1)
        rig.source.put()
        await until(rig.source.queue.empty)
        for _ in range(100):  # what is ready to run does
            await asyncio.sleep(0)
        for pool in (rig.pipeline._threads.compute, rig.pipeline._threads.publish):  # and what was handed over is done
            await asyncio.get_running_loop().run_in_executor(pool, lambda: None)
            for _ in range(100):
                await asyncio.sleep(0)
        assert len(rig.broker.published) == 1
        rig.broker.gate.set()
        await until(lambda: len(rig.broker.published) == 2)

    play(story)


def test_what_a_rebalance_drops_before_its_transaction_begins_is_never_committed() -> None:
    async def story(rig: Rig) -> None:
        rig.broker.gate.set()
        rig.source.put()
        await until(lambda: len(rig.broker.transactions) == 1)
        rig.source.put()
        await until(lambda: rig.pipeline.n_uncommitted == 1)
        await rig.pipeline.assigned(Assignment(2, "m", frozenset({P0})))
        rig.source.put(generation=2)
        await until(lambda: len(rig.broker.published) == 3)
        await asyncio.wait_for(rig.pipeline.drain(), DEADLINE)
        assert [positions for positions, _ in rig.broker.transactions] == [{P0: 1}, {P0: 3}]

    play(story, commit_interval_seconds=3600.0)
