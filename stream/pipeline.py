"""Publish, then commit: how batches travel through a worker. `docs/protocol.md` is the contract of this module.

Three threads do what blocks, one thing at a time each: `compute` (decoding, states, scoring, and the serving weights),
`publish` (one flush a batch), `commit` (recovery and transactions). The event loop only hands over.

While a transaction runs, and for a moment after it, the next batches are read, scored and published on top of what it
holds; one transaction then takes all that were published meanwhile. So an answer waits for its own flush and for
nobody's transaction, and a stream of small batches costs the broker a few transactions a second instead of hundreds.
"""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import monotonic, perf_counter
from typing import Any, NamedTuple, TypeVar

from stream.delivery import Committer, GenerationOver, Outage, Publisher
from stream.intake import Assignment, Batch, Partition
from stream.scorer import Processed
from stream.users import Overlay, UserTable

logger = logging.getLogger(__name__)

MAX_UNCOMMITTED_EVENTS = 20_000
"""Published and not yet committed: what a kill makes a successor publish again."""
COMMIT_AT_ONCE_EVENTS = MAX_UNCOMMITTED_EVENTS // 4
"""Published and not yet committed: enough for a transaction that waits no longer."""

COLLECT_AFTER = 100_000
"""Objects more than there were at the last collection of the youngest: some batches."""
OUTAGES_IN_A_ROW = 3
"""So many may follow each other without a commit between; then the process ends, and a new one looks anew."""

_Result = TypeVar("_Result")


class _Published(NamedTuple):
    overlay: Overlay
    positions: dict[Partition, int]
    n_events: int


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a pipeline is made of.

    Attributes:
        process: Batch and user table to outputs and overlay; runs in the compute thread.
        recover: Assignment to the states of its partitions; runs in the commit thread.
        published: Told of each batch whose outputs are delivered, with the seconds the flush took.
        committed: Told of each transaction: events in it, users evicted by it, seconds.
        discarded: Told how many batches were dropped because the group had moved on, or the broker was away.
        rejoin: Told the assignment to give back for a new one; `assigned` is called with that.
        throttle: Awaited before each batch; returns when it may be worked on.
        crash: Ends the process for the reason given.
    """

    process: Callable[[Batch, UserTable], Processed]
    recover: Callable[[Assignment], UserTable]
    published: Callable[[Processed, float], None]
    committed: Callable[[int, int, float], None]
    discarded: Callable[[int], None]
    rejoin: Callable[[Assignment], None]
    throttle: Callable[[Batch], Awaitable[None]]
    crash: Callable[[BaseException], Awaitable[None]]


@dataclass(slots=True)
class Threads:
    """The three threads; `compute` also answers look-ups and takes updates of the weights."""

    compute: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "compute"))
    publish: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "publish"))
    commit: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "commit"))

    def close(self) -> None:
        """Let go without waiting: what still runs ends with the process."""
        for pool in (self.compute, self.publish, self.commit):
            pool.shutdown(wait=False, cancel_futures=True)


def _spare_collector() -> None:
    """Keep Python's cycle collector from walking again and again through what stays: half the time of a batch else.

    A batch is made of some hundred tuples an event, all of which go by themselves. With the default threshold each
    seven hundred start a collection, and every hundredth of those walks through all that was ever imported.
    """
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 20, 100)


class Pipeline:
    """One worker's way from batches to committed state.

    Args:
        publisher: Delivers outputs.
        committer: Runs transactions.
        threads: Where what blocks runs.
        hooks: What is done with a batch, and who is told.
        commit_interval_seconds: A transaction begins no sooner than this after the one before it began.
    """

    def __init__(
        self,
        publisher: Publisher,
        committer: Committer,
        threads: Threads,
        hooks: Hooks,
        commit_interval_seconds: float = 0.0,
    ) -> None:
        self._publisher = publisher
        self._committer = committer
        self._threads = threads
        self._hooks = hooks
        self._commit_interval = commit_interval_seconds
        self._assignment: Assignment | None = None
        self._users: UserTable | None = None
        self._published: list[_Published] = []
        self._in_transaction: list[_Published] = []
        self._positions: dict[Partition, int] = {}
        self._busy = False
        self._draining = False
        self._n_outages = 0
        self._changed = asyncio.Condition()
        self.progress_at = monotonic()

    @property
    def users(self) -> UserTable | None:
        """The states of the partitions held; None while there are none."""
        return self._users if self._assignment is not None else None

    @property
    def assignment(self) -> Assignment | None:
        """The assignment whose state is loaded; None between a revocation and the end of the recovery."""
        return self._assignment

    @property
    def n_uncommitted(self) -> int:
        """Events published and not yet committed."""
        return sum(batch.n_events for batch in (*self._published, *self._in_transaction))

    @property
    def busy(self) -> bool:
        """Whether something was taken and is not committed yet."""
        return self._busy or bool(self._published or self._in_transaction)

    @property
    def positions(self) -> dict[Partition, int]:
        """For each partition held, the offset up to which everything is committed."""
        return dict(self._positions)

    def start_from(self, positions: Mapping[Partition, int]) -> None:
        """Note where reading begins; a position that is already further stays."""
        for partition, offset in positions.items():
            self._positions[partition] = max(offset, self._positions.get(partition, 0))

    async def assigned(self, assignment: Assignment) -> None:
        """Load the state of what was assigned; returns when batches of this generation may come.

        A transaction of the old generation may still run: it stands before the recovery in the commit thread, so what
        it decides is what the recovery reads.
        """
        await self.drop()
        users = await self._run(self._threads.commit, self._hooks.recover, assignment)
        _spare_collector()
        async with self._changed:
            self._users, self._assignment, self._positions = users, assignment, {}
            self._changed.notify_all()
        self.progress_at = monotonic()

    async def run(self, batches: AsyncIterator[Batch]) -> None:
        """Take batches until they end; none is taken once a drain was asked for."""
        committing = asyncio.create_task(self._commit_forever())
        try:
            async for batch in batches:
                if self._draining:
                    continue  # not taken: its events are read again; what was taken is still being committed
                self._busy = True
                try:
                    await self._work(batch)
                finally:
                    await self._idle()
        finally:
            committing.cancel()

    async def drain(self) -> None:
        """Take no further batch; return when everything that was taken is committed or dropped."""
        async with self._changed:
            self._draining = True
            self._changed.notify_all()
            await self._changed.wait_for(lambda: not self.busy)

    async def _work(self, batch: Batch) -> None:
        await self._hooks.throttle(batch)
        async with self._changed:
            await self._changed.wait_for(lambda: self.n_uncommitted < MAX_UNCOMMITTED_EVENTS)
        assignment, users = self._assignment, self._users
        if assignment is None or users is None or assignment.generation != batch.generation:
            self._hooks.discarded(1)  # its partitions have moved, or were sought anew
            return
        processed = await self._run(self._threads.compute, self._hooks.process, batch, users)
        started = perf_counter()
        try:
            await self._run(self._threads.publish, self._publisher.publish, processed.outputs)
        except Outage as outage:
            self._hooks.discarded(1)
            await self.begin_anew(assignment, outage)
            return
        self._hooks.published(processed, perf_counter() - started)
        async with self._changed:
            if self._assignment is not assignment:
                self._hooks.discarded(1)  # published, and published again by whoever owns the events now
                return
            users.push(processed.overlay)
            self._published.append(_Published(processed.overlay, batch.positions, len(batch.records)))
            self._changed.notify_all()

    async def begin_anew(self, assignment: Assignment, outage: Exception) -> None:
        """Drop everything uncommitted and ask the group for a new generation; its recovery reads what has happened.

        What was fetched under the old generation is known by its label and never taken again.

        Args:
            assignment: Under which the failure happened; nothing happens when it is over already.
            outage: What failed.

        Raises:
            Exception: `outage`, when that has not helped before.
        """
        if self._assignment is not assignment:
            return
        self._n_outages += 1
        if self._n_outages > OUTAGES_IN_A_ROW:
            raise outage
        logger.warning("outage generation=%d uncommitted=%d: %s", assignment.generation, self.n_uncommitted, outage)
        await self.drop()
        self._hooks.rejoin(assignment)

    async def _idle(self) -> None:
        async with self._changed:
            self._busy = False
            self._changed.notify_all()

    async def _commit_forever(self) -> None:
        begun = -self._commit_interval
        try:
            while True:
                async with self._changed:
                    await self._changed.wait_for(lambda: bool(self._published))
                    await self._linger(begun + self._commit_interval)
                    taken, self._published = self._published, []
                    self._in_transaction = taken
                begun = monotonic()
                if taken:  # a rebalance may have dropped them meanwhile
                    await self._commit(taken)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            await self._hooks.crash(error)
            raise

    async def _linger(self, deadline: float) -> None:
        """Let more batches come until `deadline`, unless there is a reason to commit what is there; holds the lock."""
        try:
            async with asyncio.timeout(deadline - monotonic()):
                await self._changed.wait_for(lambda: self._draining or self.n_uncommitted >= COMMIT_AT_ONCE_EVENTS)
        except TimeoutError:
            pass

    async def _commit(self, taken: list[_Published]) -> None:
        assignment, users = self._assignment, self._users
        if assignment is None or users is None:
            await self.drop()
            return
        started = perf_counter()
        try:
            n_evicted = await self._run(self._threads.commit, self._transact, taken, users, assignment)
        except GenerationOver as over:
            logger.warning("discarded generation=%d reason=%s", assignment.generation, over)
            if self._assignment is assignment:
                await self.drop()
            return
        except Outage as outage:
            await self.begin_anew(assignment, outage)
            return
        self._n_outages = 0
        self._hooks.committed(sum(batch.n_events for batch in taken), n_evicted, perf_counter() - started)
        self.progress_at = monotonic()
        async with self._changed:
            self._in_transaction = []
            self._changed.notify_all()

    def _transact(self, taken: list[_Published], users: UserTable, assignment: Assignment) -> int:
        """Commit these batches and make them the table; return how many users left."""
        overlays = [batch.overlay for batch in taken]
        positions = self._offsets(taken)
        changes = users.changes(overlays)
        self._committer.commit(changes, positions, assignment)
        users.commit(overlays, changes)
        if self._assignment is assignment:
            self.start_from(positions)
        return sum(change.value is None for change in changes)

    def _offsets(self, taken: list[_Published]) -> dict[Partition, int]:
        """Return the offsets to commit; none goes back, even where records were fetched twice after a seek."""
        offsets: dict[Partition, int] = {}
        for batch in taken:
            for partition, offset in batch.positions.items():
                offsets[partition] = max(offset, offsets.get(partition, 0), self._positions.get(partition, 0))
        return offsets

    async def drop(self) -> None:
        """Drop what is not committed, and the state it was made on: a recovery brings the truth."""
        async with self._changed:
            n_dropped = len(self._published) + len(self._in_transaction)
            self._assignment = None
            self._published, self._in_transaction = [], []
            self._changed.notify_all()
        if n_dropped:
            self._hooks.discarded(n_dropped)

    async def _run(self, pool: ThreadPoolExecutor, call: Callable[..., _Result], *arguments: Any) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(pool, call, *arguments)
