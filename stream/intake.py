"""Kafka to batches, through Faust. The one module that knows the private parts of Faust and aiokafka.

Faust keeps the group membership, the fetching and the life of the agent. Three things are done differently here:

- What was fetched of a partition enters the agent's queue as one chunk: Faust's own path spends four asyncio tasks on a
  record (about 70 microseconds).
- Faust never commits. Offsets travel in the transaction that holds the users' states (`stream.delivery`).
- After a rebalance every partition is sought explicitly. Stock Faust leaves the position behind records that it fetched
  and dropped where no offset, or offset 0, is committed; the next commit would make that loss final.
- Nothing is taken of a generation before its partitions are sought and Faust has emptied the agent's queue for it.
  Where a rebalance begins in the recovery of another, Faust lets the first one's flow go in the middle of the second.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple, Protocol, cast

import faust
from aiokafka.errors import ConsumerStoppedError, IllegalStateError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode import CrashingSupervisor

from stream.faust_app import faust_app
from stream.merge import TimeMerge
from stream.record_batches import read_any_header_name
from stream.settings import Settings, SettingsError

FAUST_VERSION = "0.15.3"
AIOKAFKA_SERIES = "0.14."
FETCH_MAX_WAIT_MS = 50
"""A broker answers a fetch at the first byte, so this bounds only how long an idle one is held."""
MERGED_RECORDS = 65_536
"""Records that may wait until each partition with a backlog has one to compare."""
MERGE_WAIT_SECONDS = 1.0
SEEK_AGAIN_SECONDS = 0.1
CATCHING_UP_MS = 2_000
"""Events older than this when they are taken are a backlog: nobody waits for their answers any more."""


class Record(Protocol):
    """One Kafka record, as aiokafka hands it over."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


class Partition(NamedTuple):
    """A partition of a source topic."""

    topic: str
    number: int


class Assignment(NamedTuple):
    """What the group gave this worker. Generation and member id are one consistent pair."""

    generation: int
    member_id: str
    partitions: frozenset[Partition]


class Chunk(NamedTuple):
    """What one fetch returned of one partition, labelled with the generation known before the fetch."""

    generation: int
    partition: Partition
    records: Sequence[Record]


class Batch(NamedTuple):
    """All chunks of one generation that waited.

    Attributes:
        generation: The group's generation under which all records were fetched.
        records: In the order of their offsets within a partition.
        positions: For each partition, the offset after the last of its records here.
        more: Further records wait already.
    """

    generation: int
    records: list[Record]
    positions: dict[Partition, int]
    more: bool = False


StartOffsets = Callable[[frozenset[Partition]], Awaitable[Mapping[Partition, int]]]
OnAssigned = Callable[[Assignment], Awaitable[None]]


class Intake:
    """Source topics as batches.

    Args:
        settings: The settings of the worker.
        instance_id: Static membership: a worker that restarts within the session keeps its partitions.
        on_assigned: Called after each rebalance, before anything is fetched; when it returns, the state of the
            partitions is in memory.
        start_offsets: Where to read each partition from.

    Raises:
        SettingsError: The installed Faust or aiokafka is another than this module knows.
    """

    def __init__(
        self, settings: Settings, instance_id: str, on_assigned: OnAssigned, start_offsets: StartOffsets
    ) -> None:
        check_versions()
        read_any_header_name()
        self.topics = frozenset(settings.topics.events)
        self.max_batch = settings.intake.max_batch
        self.start_offsets = start_offsets
        self.assignment: Assignment | None = None
        self._on_assigned = on_assigned
        self.app = faust_app(settings, instance_id)
        self.app.transport = _Transport(self, self.app.conf.broker_consumer, self.app)
        self._pending: Assignment | None = None
        self.app.on_rebalance_complete.connect(self._rebalanced)
        self._source = self.app.topic(*sorted(self.topics), key_serializer="raw", value_serializer="raw")

    def agent(self, run: Callable[[AsyncIterator[Batch]], Awaitable[None]]) -> None:
        """Register what consumes the batches; when it raises, the application crashes."""

        async def score(stream: Any) -> None:
            await run(self._batches(stream))

        self.app.agent(self._source, supervisor_strategy=CrashingSupervisor, name="score")(score)

    @property
    def generation(self) -> int:
        """The group's generation that this worker belongs to."""
        return int(self.app.consumer_generation_id)

    @property
    def ready(self) -> bool:
        """Whether partitions are assigned, their state is loaded and no rebalance is under way."""
        return not self.app.rebalancing and self.app.tables.actives_ready and self.assignment is not None

    def limit_batches(self, n_events: int) -> None:
        """Let the next batches have up to so many events."""
        self.max_batch = n_events

    def check_coordinator(self) -> None:
        """Raise what aiokafka's group coordinator could not deal with.

        Faust never asks; an error in joining the group would leave a live worker without partitions.
        """
        thread = getattr(self.app.consumer, "_thread", None)
        consumer = getattr(thread, "_consumer", None)
        coordinator = getattr(consumer, "_coordinator", None)
        task = getattr(coordinator, "_coordination_task", None)
        if task is not None and task.done() and not task.cancelled() and (error := task.exception()) is not None:
            raise error
        if (pending := getattr(coordinator, "_pending_exception", None)) is not None:
            raise pending

    def rejoin(self, assignment: Assignment) -> None:
        """Give an assignment back for one of a new generation; called on the event loop.

        What was fetched under the old one is dropped by its label, as after any other rebalance.
        """
        if assignment.generation != self.generation:
            return  # a newer join is under way, or done
        thread = self.app.consumer._thread  # type: ignore[attr-defined]  # of the driver in use
        thread.thread_loop.call_soon_threadsafe(thread._ensure_consumer()._coordinator.request_rejoin)

    def fetched_positions(self) -> dict[Partition, int]:
        """Return for each partition the offset that is fetched next; records before it may still be queued here."""
        thread = getattr(self.app.consumer, "_thread", None)
        subscription = getattr(getattr(thread, "_consumer", None), "_subscription", None)
        assignment = getattr(getattr(subscription, "subscription", None), "assignment", None)
        if assignment is None:
            return {}
        states = {tp: assignment.state_value(tp) for tp in assignment.tps if tp.topic in self.topics}
        return {
            Partition(tp.topic, tp.partition): state.position
            for tp, state in states.items()
            if state is not None and state.has_valid_position
        }

    def joined(self, assignment: Assignment) -> None:
        """Note what the coordinator said inside its join; called in aiokafka's thread."""
        self._pending = assignment

    async def _rebalanced(self, *_: Any, **__: Any) -> None:
        """Load the state of what was assigned; Faust awaits this before it seeks and resumes."""
        pending = self._pending
        if pending is None or pending.generation != self.generation:
            return  # a newer join is under way and will come here itself
        try:
            await self._on_assigned(pending)
        except Exception as error:
            await self.app.crash(error)
            raise
        if pending is self._pending:
            self.assignment = pending

    async def _batches(self, stream: Any) -> AsyncIterator[Batch]:
        """Yield what waits, of all partitions, as one batch: one flush answers it all."""
        backlog = _Backlog(self, stream.channel.queue)
        while not stream.should_stop:
            try:
                await backlog.fill()
            except StopAsyncIteration:  # the channel was closed by a stop
                return
            if (batch := backlog.take(self.max_batch)) is not None:
                yield batch
            await asyncio.sleep(0)

    def behind(self) -> set[Partition]:
        """Return the partitions of which the broker had more, at the last fetch, than was handed over since."""
        return cast(_Consumer, self.app.consumer).behind()


class _Backlog:
    """What was fetched and not yet taken. A backlog comes out in the order of time, a live stream as it comes.

    Args:
        intake: Knows the generation, and which partitions have more to come.
        queue: Of the agent's channel: chunks.
    """

    def __init__(self, intake: Intake, queue: Any) -> None:
        self._intake = intake
        self._queue = queue
        self._waiting: TimeMerge[Partition, Record] = TimeMerge()
        self._generation = -1
        self._given_up: set[Partition] = set()

    async def fill(self) -> None:
        """Wait for records, and take in as many chunks as the next batch can be well made of.

        Raises:
            StopAsyncIteration: The channel was closed.
        """
        while (chunk := await self._next_chunk()) is not None:
            if chunk.generation != self._generation:  # what waits was fetched before a rebalance, and is read again
                self._waiting.clear()
                self._given_up.clear()
                self._generation = chunk.generation
            self._given_up.discard(chunk.partition)
            self._waiting.add(chunk.partition, chunk.records)

    def take(self, n_records: int) -> Batch | None:
        """Return the next batch; None when what waits belongs to a generation that is over."""
        if self._generation != self._intake.generation:
            self._waiting.clear()
            return None
        records, positions = self._waiting.take(n_records, self._expected())
        more = len(self._waiting) > 0 or not self._queue.empty() or bool(self._intake.behind())
        return Batch(self._generation, records, positions, more)

    async def _next_chunk(self) -> Chunk | None:
        """Return one more chunk; None when the next batch is as good as it gets."""
        chunk: Chunk
        n_waiting = len(self._waiting)
        if not n_waiting:
            chunk = await self._queue.get()
            return chunk
        missing = {partition for partition in self._expected() if partition not in self._waiting}
        limit = MERGED_RECORDS if missing else self._intake.max_batch
        if n_waiting >= limit:
            return None
        if not self._queue.empty():
            chunk = self._queue.get_nowait()
            return chunk
        if missing:
            try:
                chunk = await asyncio.wait_for(self._queue.get(), MERGE_WAIT_SECONDS)
            except TimeoutError:
                self._given_up |= missing  # a partition without a leader must not hold up the others
                return None
            return chunk
        return None

    def _expected(self) -> set[Partition]:
        """Return the partitions whose next records are worth waiting for; none unless a backlog is worked off."""
        if not len(self._waiting) or time.time() * 1000 - self._waiting.oldest() < CATCHING_UP_MS:
            return set()
        return self._intake.behind() - self._given_up


def check_versions() -> None:
    """Raise unless Faust and aiokafka are those whose private parts are used here.

    Raises:
        SettingsError: With the versions that are needed and found.
    """
    found_faust, found_aiokafka = version("faust-streaming"), version("aiokafka")
    if found_faust != FAUST_VERSION or not found_aiokafka.startswith(AIOKAFKA_SERIES):
        raise SettingsError(
            f"millstream needs faust-streaming {FAUST_VERSION} and aiokafka {AIOKAFKA_SERIES}x, "
            f"found {found_faust} and {found_aiokafka}: install them from the lock (make setup)"
        )
    private = {
        driver.Consumer: (
            "_drain_messages",
            "_wait_next_records",
            "_get_active_partitions",
            "_new_consumer_thread",
            "stop_flow",
            "resume_flow",
        ),
        driver.AIOKafkaConsumerThread: ("_create_worker_consumer", "_ensure_consumer", "call_thread"),
        driver.ConsumerRebalanceListener: ("on_partitions_revoked", "on_partitions_assigned"),
    }
    missing = [
        f"{kind.__name__}.{name}" for kind, names in private.items() for name in names if not hasattr(kind, name)
    ]
    if missing:
        raise SettingsError(
            f"faust-streaming {found_faust} lacks {', '.join(missing)}: install it from the lock (make setup)"
        )


class _Listener(driver.ConsumerRebalanceListener):
    """Takes generation and member id where they are consistent: in aiokafka's thread, inside the join."""

    def on_partitions_revoked(self, revoked: Any) -> Any:
        # Who has not fetched for longer than the poll interval is not let in again. Here that is nobody who is stuck: a
        # long recovery, or a broker that was away for long.
        with self._thread._ensure_consumer()._subscription.fetch_context():
            pass
        return super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: Any) -> None:
        consumer = cast(_Consumer, self._thread.consumer)
        coordinator = self._thread._ensure_consumer()._coordinator
        partitions = frozenset(
            Partition(tp.topic, tp.partition) for tp in assigned if tp.topic in consumer.intake.topics
        )
        consumer.intake.joined(Assignment(coordinator.generation, coordinator.member_id, partitions))
        await super().on_partitions_assigned(assigned)


class _Thread(driver.AIOKafkaConsumerThread):
    """Faust hard-codes how long a fetch is held."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_MAX_WAIT_MS
        return consumer


class _Opening:
    """A time in which what is fetched is taken: from the end of a rebalance to the next one, or to the next seek."""

    def __init__(self, generation: int) -> None:
        self.generation = generation


class _Consumer(driver.Consumer):
    """Fetches in chunks, never commits, seeks explicitly."""

    RebalanceListener = _Listener

    def __init__(self, intake: Intake, *args: Any, **kwargs: Any) -> None:
        self.intake = intake
        self._room = asyncio.Event()
        self._next: dict[TP, int] = {}
        self._pressure: dict[TP, tuple[Callable[[], None], Callable[[], None]]] = {}
        self._sought = -1  # the generation whose partitions were sought last
        self._astray = False  # something was fetched and dropped: the position is beyond it
        self._seeking = asyncio.Lock()
        self._opening: _Opening | None = None
        self._opened = asyncio.Event()
        super().__init__(*args, **kwargs)

    def _new_consumer_thread(self) -> _Thread:
        return _Thread(self, loop=self.loop, beacon=self.beacon)

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        return False

    async def force_commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        return False

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's livelock detector looks at commits that are not made here; `stream.watchdog` looks at the lag."""

    def behind(self) -> set[Partition]:
        """Return the partitions of which the broker had more, at the last fetch, than was handed over since."""
        assigned = {TP(tp.topic, tp.partition) for tp in self.assignment()}
        try:
            ends = {tp: self.highwater(tp) for tp in self._next if tp in assigned}
        except AssertionError:  # revoked in this moment, in aiokafka's thread
            return set()
        return {Partition(*tp) for tp, end in ends.items() if end is not None and self._next[tp] < end}

    def on_buffer_drop(self, tp: TP) -> None:
        super().on_buffer_drop(tp)
        self._room.set()

    def stop_flow(self) -> None:
        """Take nothing: a rebalance begins."""
        super().stop_flow()
        self._opening = None

    def resume_flow(self) -> None:
        """Take what comes, where this is the end of the newest rebalance; the agent's queue was emptied just now."""
        super().resume_flow()
        if self._sought == self.intake.generation:
            self._opening = _Opening(self._sought)
            self._opened.set()

    async def perform_seek(self) -> None:
        """Seek every partition of ours to where its committed state ends; called by Faust, which then resumes."""
        self._opening = None
        await self._seek_committed()

    async def _seek_committed(self) -> None:
        async with self._seeking:
            generation = self.intake.generation
            ours = {Partition(tp.topic, tp.partition): tp for tp in self.assignment() if tp.topic in self.intake.topics}
            starts = await self.intake.start_offsets(frozenset(ours))
            if starts.keys() != ours.keys() or generation != self.intake.generation:
                self._opening = None  # another rebalance is under way, or asked for, and seeks at its end
                return
            # What was fetched before and comes back from now on sets it again.
            self._astray = False
            try:
                positions = {ours[partition]: offset for partition, offset in starts.items()}
                await self._thread.call_thread(self._set_positions, positions)
            except BaseException:
                self._astray = True
                raise
            self._next = {TP(*partition): offset for partition, offset in starts.items()}
            self._sought = generation

    async def _set_positions(self, positions: Mapping[TP, int]) -> None:
        """Seek; runs in aiokafka's thread, or a fetch that is just being handed over could set its position later."""
        consumer = self._thread._ensure_consumer()
        for tp, offset in positions.items():
            consumer.seek(tp, offset)

    async def _wait_next_records(self, timeout: float) -> Any:
        # stock sleeps a full second when the buffers of all partitions are full
        if self.flow_active and not self._get_active_partitions() and self._buffered_partitions:
            self._room.clear()
            try:
                await asyncio.wait_for(self._room.wait(), timeout)
            except TimeoutError:
                pass
        return await super()._wait_next_records(timeout)

    async def _drain_messages(self, fetcher: Any) -> None:
        """Move what is fetched into the agent's queue, until the fetcher stops."""
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):
                await self._drain_once()
        except (ConsumerStoppedError, asyncio.CancelledError):
            if not self.transport.app.should_stop:
                raise

    async def _drain_once(self) -> None:
        # The label must be older than the fetch: read after it, it could name a generation under which the records
        # were not fetched, and a commit would be accepted that must be refused.
        opening = self._opening
        if opening is None or opening.generation != self.intake.generation:
            self._opened.clear()
            await self.wait(self._opened)  # type: ignore[arg-type]  # takes what has a wait()
            return
        if self._astray:
            await self._seek_again()
            return
        records, _ = await self._wait_next_records(1.0)
        await asyncio.sleep(0)
        if self.should_stop or not records:
            return
        if self._opening is not opening or opening.generation != self.intake.generation:
            self._astray = True  # what was fetched across a rebalance is dropped here, and read again
            return
        for tp, fetched in records.items():
            self._enqueue(opening.generation, TP(tp.topic, tp.partition), fetched)

    async def _seek_again(self) -> None:
        try:
            await self._seek_committed()
        except IllegalStateError as error:  # in a rebalance partitions come and go; its end seeks all of them again
            self.log.info("seek during a rebalance: %r", error)
            await self.sleep(SEEK_AGAIN_SECONDS)

    def _enqueue(self, generation: int, tp: TP, fetched: Sequence[Record]) -> None:
        expected = self._next.get(tp, 0)
        records = (
            fetched if fetched[0].offset >= expected else [record for record in fetched if record.offset >= expected]
        )
        if not records:
            return
        self._next[tp] = records[-1].offset + 1
        full, drop = self._pressure.setdefault(tp, (lambda: self.on_buffer_full(tp), lambda: self.on_buffer_drop(tp)))
        chunk = Chunk(generation, Partition(tp.topic, tp.partition), records)
        for channel in self.app.topics._tp_index[tp]:  # type: ignore[attr-defined]  # of the conductor in use
            channel.queue.put_nowait_enhanced(chunk, on_pressure_high=full, on_pressure_drop=drop)


class _Transport(driver.Transport):
    """Faust's aiokafka transport with the consumer above."""

    def __init__(self, intake: Intake, url: Any, app: faust.App) -> None:
        self._intake = intake
        super().__init__(url, app)

    def create_consumer(self, callback: Any, **kwargs: Any) -> _Consumer:
        return _Consumer(self._intake, self, callback=callback, loop=self.loop, **kwargs)
