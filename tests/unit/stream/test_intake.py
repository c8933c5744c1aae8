"""What the intake does with records that were fetched across a rebalance, or twice. Faust's part is played."""

import asyncio
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from stream import intake as module
from stream.intake import Chunk, Partition, _Backlog, _Consumer, _Opening, check_versions
from stream.settings import SettingsError

P0 = Partition("events", 0)
TP0 = TP("events", 0)


def records(*offsets: int) -> list[Any]:
    """Of this moment: of a backlog, more would be waited for."""
    return [SimpleNamespace(offset=offset, timestamp=int(time.time() * 1000)) for offset in offsets]


class Played:
    """A consumer between a fetch and the agent's queue; `while_fetching` is what happens meanwhile."""

    _drain_once = _Consumer._drain_once
    _enqueue = _Consumer._enqueue

    def __init__(self, generation: int = 1) -> None:
        self.intake = SimpleNamespace(generation=generation)
        self.should_stop = False
        self.chunks: list[Chunk] = []
        self.n_sought = self.n_waited = 0
        self.fetched: list[Any] = records(5, 6)
        self.while_fetching: Callable[[], None] = lambda: None
        self._opening: _Opening | None = _Opening(generation)
        self._opened = asyncio.Event()
        self._astray = False
        self._next = {TP0: 5}
        self._pressure: dict[TP, Any] = {}
        queue = SimpleNamespace(put_nowait_enhanced=lambda chunk, **_: self.chunks.append(chunk))
        topics = SimpleNamespace(_tp_index={TP0: [SimpleNamespace(queue=queue)]})
        self.app = SimpleNamespace(topics=topics)

    async def _wait_next_records(self, _timeout: float) -> Any:
        self.while_fetching()
        return {TP0: self.fetched}, None

    async def wait(self, _event: asyncio.Event) -> None:
        self.n_waited = 1

    async def _seek_again(self) -> None:
        self.n_sought += 1

    def drain(self) -> list[Chunk]:
        asyncio.run(self._drain_once())  # type: ignore[arg-type,misc]
        return self.chunks

    def rebalance(self) -> None:
        """Begin and end one."""
        self.intake.generation += 1
        self._opening = _Opening(self.intake.generation)

    def seek(self) -> None:
        """As Faust does it once more within a generation."""
        self._opening = _Opening(self.intake.generation)


def test_what_is_fetched_is_labelled_and_handed_on() -> None:
    (chunk,) = Played(generation=7).drain()
    assert (chunk.generation, chunk.partition) == (7, P0)
    assert [record.offset for record in chunk.records] == [5, 6]


@pytest.mark.parametrize("meanwhile", [Played.rebalance, Played.seek])
def test_what_is_fetched_across_a_rebalance_is_dropped_and_read_again(meanwhile: Callable[[Played], None]) -> None:
    """Red where the opening is asked for after the fetch: a commit would be accepted that must be refused."""
    consumer = Played()
    consumer.while_fetching = lambda: meanwhile(consumer)
    assert consumer.drain() == []
    consumer.while_fetching = lambda: None
    assert consumer.drain() == []
    assert consumer.n_sought == 1


@pytest.mark.parametrize("opening", [None, _Opening(0)])
def test_nothing_is_fetched_of_a_generation_that_is_not_open(opening: _Opening | None) -> None:
    """Red where a generation is taken as soon as it is known: its partitions are not sought yet."""
    consumer = Played()
    consumer._opening = opening
    assert consumer.drain() == []
    assert consumer.n_waited == 1


def test_records_before_the_position_that_was_sought_are_left_out() -> None:
    """Red without the comparison: after a seek a fetch may bring what was already taken."""
    consumer = Played()
    consumer.fetched = records(3, 4, 5)
    (chunk,) = consumer.drain()
    assert [record.offset for record in chunk.records] == [5]
    consumer.fetched = records(4, 5)
    assert len(consumer.drain()) == 1


def backlog(generation: int, *chunks: Chunk) -> _Backlog:
    queue: asyncio.Queue[Chunk] = asyncio.Queue()
    for chunk in chunks:
        queue.put_nowait(chunk)
    intake = SimpleNamespace(generation=generation, max_batch=100, behind=set)
    return _Backlog(intake, queue)  # type: ignore[arg-type]


def test_chunks_of_a_generation_that_is_over_are_never_a_part_of_a_batch() -> None:
    """Red where what waits is kept when a chunk of a new generation comes: it would be taken under its label."""
    waiting = backlog(2, Chunk(1, P0, records(0, 1)), Chunk(2, P0, records(0)))
    asyncio.run(waiting.fill())
    batch = waiting.take(100)
    assert batch is not None
    assert (batch.generation, batch.positions) == (2, {P0: 1})
    assert [record.offset for record in batch.records] == [0]


def test_no_batch_is_made_of_what_was_fetched_before_the_generation_of_now() -> None:
    """Red where `take` does not ask for the generation."""
    waiting = backlog(2, Chunk(1, P0, records(0, 1)))
    asyncio.run(waiting.fill())
    assert waiting.take(100) is None


@pytest.mark.parametrize("installed", [("0.15.4", "0.14.0"), ("0.15.3", "0.15.0")])
def test_another_faust_or_aiokafka_is_refused_before_anything_starts(
    installed: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red where versions are not compared: what is private there may have moved."""
    versions = dict(zip(("faust-streaming", "aiokafka"), installed, strict=True))
    monkeypatch.setattr(module, "version", versions.__getitem__)
    with pytest.raises(SettingsError, match="make setup"):
        check_versions()


def test_a_private_part_that_is_gone_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Red where nobody looks for them."""
    check_versions()
    monkeypatch.setattr(module.driver, "AIOKafkaConsumerThread", type("Thread", (), {"_ensure_consumer": None}))
    with pytest.raises(SettingsError, match=r"lacks Thread\._create_worker_consumer"):
        check_versions()
