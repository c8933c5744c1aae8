"""A worker without its model: intake, states, answers, examples and transactions, as they are in the product."""

import asyncio
import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry

from monitoring.metrics import Metrics
from stream.behaviors import behavior_table
from stream.benchmarks.population import Constant
from stream.delivery import Committer, Publisher
from stream.instance import Instance
from stream.intake import Assignment, Batch, Intake, Partition
from stream.loading import Loader
from stream.pipeline import Hooks, Pipeline, Threads
from stream.pseudonyms import load_key, pseudonymizer
from stream.reporting import report_published
from stream.scorer import Processed, Scorer
from stream.settings import Settings
from stream.topics.preflight import preflight
from stream.users import UserTable

POLL_SECONDS = 0.02


async def take(settings: Settings, list_length: int, count: Callable[[int], None], done: Callable[[], bool]) -> None:
    """Take events until `done`; `count` is told of each transaction's events, once it is committed.

    Args:
        settings: Of a worker.
        list_length: Items in each answer.
        count: Called on the event loop.
        done: Whether that was enough.
    """
    worker = _Modelless(settings, list_length, count)
    await worker.start()
    while not done():
        worker.check()
        await asyncio.sleep(POLL_SECONDS)


class _Modelless:
    """The parts of a worker that take events, put together as it does."""

    def __init__(self, settings: Settings, list_length: int, count: Callable[[int], None]) -> None:
        checked = preflight(settings)
        instance = Instance(settings.data_dir)
        self._count = count
        self._loop = asyncio.get_running_loop()
        self._failed: asyncio.Future[None] = self._loop.create_future()
        self._metrics = Metrics(CollectorRegistry())
        self._model = Constant(list_length)
        self._threads = Threads()
        self._scorer = Scorer(
            settings,
            checked.identity,
            behavior_table(settings.behaviors),
            checked.event_partitions,
            pseudonymizer(load_key(settings.data_dir)),
            _now_ms,
        )
        self._committer = Committer(settings, instance.id)
        self._loader = Loader(settings, checked.identity, checked.event_partitions, self._committer, self._metrics)
        self._intake = Intake(settings, instance.id, self._assigned, self._start_offsets)
        self._pipeline = Pipeline(Publisher(settings), self._committer, self._threads, self._hooks())
        self._intake.agent(self._pipeline.run)

    async def start(self) -> None:
        """Join the group and begin."""
        await self._loop.run_in_executor(self._threads.commit, self._committer.start)
        self._intake.app.finalize()
        await self._intake.app.maybe_start()

    def check(self) -> None:
        """Raise what has ended it, if anything has."""
        if self._failed.done():
            self._failed.result()

    def _hooks(self) -> Hooks:
        return Hooks(
            process=self._process,
            recover=self._loader.load,
            published=lambda processed, seconds: report_published(self._metrics, processed, seconds, _now_ms()),
            committed=lambda n_events, n_evicted, seconds: self._count(n_events),
            discarded=lambda n_batches: None,
            rejoin=self._intake.rejoin,
            throttle=self._at_once,
            crash=self._crash,
        )

    def _process(self, batch: Batch, users: UserTable) -> Processed:
        return self._scorer.process(batch.records, users, self._model, 1)

    async def _at_once(self, _: Batch) -> None:
        return

    async def _crash(self, error: BaseException) -> None:
        if not self._failed.done():
            self._failed.set_exception(error)

    async def _assigned(self, assignment: Assignment) -> None:
        await self._pipeline.assigned(assignment)

    async def _start_offsets(self, partitions: frozenset[Partition]) -> dict[Partition, int]:
        positions = await self._loop.run_in_executor(self._threads.commit, self._loader.start_offsets, partitions)
        self._pipeline.start_from(positions)
        return dict(positions)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
