"""The worker: what one process does, put together, started, watched and stopped."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any, NoReturn, TypeVar

from monitoring.metrics import CONTENT_TYPE, Metrics
from stream import notify
from stream.behaviors import behavior_table
from stream.delivery import Committer, Fenced, GenerationKept, Outage, Publisher
from stream.ending import EXIT_CRASHED, end_after, exit_code, put_down
from stream.instance import Instance
from stream.intake import Assignment, Batch, Intake, Partition
from stream.lag import LagReader
from stream.loading import Loader
from stream.lookups import Lookups
from stream.owners import Owners
from stream.pipeline import Hooks, Pipeline, Threads
from stream.pseudonyms import load_key, pseudonymizer
from stream.recovery import BrokerSilent, RecoveryError
from stream.reporting import report_published
from stream.scorer import Processed, Scorer
from stream.serving import Serving
from stream.settings import Settings
from stream.topics.preflight import Preflight
from stream.trainer_link import TrainerHandle
from stream.trainer_news import TrainerEnded, TrainerNews
from stream.users import UserTable
from stream.watchdog import Vitals, Watchdog
from stream.web import WebServer
from stream.workload import Workload

logger = logging.getLogger(__name__)

BEAT_SECONDS = 0.5
RECOVERING_SECONDS = 10.0
"""A recovery that has read something so lately is under way, however long the changelog is."""

_Result = TypeVar("_Result")


def now_ms() -> int:
    """Return the wall clock, milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class Worker:
    """One worker of an application.

    Args:
        settings: Its settings.
        checked: What the check of the topics found.
        instance: Who it is.
        metrics: Where it reports.
        trainer: Started; nobody has listened to it yet.
    """

    def __init__(
        self, settings: Settings, checked: Preflight, instance: Instance, metrics: Metrics, trainer: TrainerHandle
    ) -> None:
        self.settings = settings
        self.metrics = metrics
        self._instance = instance
        self._threads = Threads()
        self._serving = Serving(settings.model, metrics, now_ms)
        self._scorer = Scorer(
            settings,
            checked.identity,
            behavior_table(settings.behaviors),
            checked.event_partitions,
            pseudonymizer(load_key(settings.data_dir)),
            now_ms,
        )
        self._publisher = Publisher(settings)
        self._committer = Committer(settings, instance.id)
        self._loader = Loader(settings, checked.identity, checked.event_partitions, self._committer, metrics)
        self._intake = Intake(settings, instance.id, self._assigned, self._start_offsets)
        self._workload = Workload(settings, metrics, now_ms, self._intake.limit_batches)
        self._pipeline = Pipeline(
            self._publisher,
            self._committer,
            self._threads,
            self._hooks(),
            settings.intake.commit_interval_ms / 1000,
        )
        self._intake.agent(self._score)
        self._trainer = trainer
        self._news = TrainerNews(
            metrics,
            self._workload,
            lambda *update: self._threads.compute.submit(self._serving.apply, *update),
            self._applied,
            lambda ended: self._loop.call_soon_threadsafe(self._end, ended),
        )
        self._lag = LagReader(settings)
        self._lookups = Lookups(
            self._serving,
            self._scorer,
            self._pipeline,
            self._threads.compute,
            checked.event_partitions,
            Owners(settings),
            now_ms,
        )
        self._web = WebServer(
            settings,
            health=self._health,
            readiness=self._readiness,
            exposition=lambda: (metrics.exposition(), CONTENT_TYPE),
            lookup=self._lookups.answer,
        )
        self._watchdog = Watchdog(self._vitals(), settings.watchdog, self._put_down, notify.alive)
        self._ended: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self._loop = asyncio.get_running_loop()
        self._model_ready = asyncio.Event()
        self._joined: Assignment | None = None
        self._beat = monotonic()
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self, stop: asyncio.Event) -> int:
        """Work until told to stop or until something fails.

        Returns:
            The exit code: 0 after a clean stop, the trainer's own when it ended the worker, else 1.
        """
        code = EXIT_CRASHED
        try:
            # The start waits for the trainer and for the first assignment; a trainer that refuses its checkpoint, or a
            # stop, must be noticed meanwhile.
            starting = asyncio.ensure_future(self._start())
            stopping = asyncio.ensure_future(stop.wait())
            await _first(starting, stopping, self._ended)
            if starting.done():
                starting.result()
                await _first(stopping, self._ended)
            starting.cancel()
            stopping.cancel()
            code = self._code()
        finally:
            end_after(self.settings.stop_timeout_seconds, code)
            await self._stop(clean=code == 0)
        return code

    def _code(self) -> int:
        """Return the exit code, and say what ended the worker if nobody asked it to."""
        if not self._ended.done():
            return 0
        error = self._ended.result()
        if isinstance(error, RecoveryError | TrainerEnded | Fenced | GenerationKept):
            logger.critical("%s", error)  # one line that says what to do
        else:
            logger.critical("crashed: %s", error, exc_info=error)
        return exit_code(error)

    async def _start(self) -> None:
        """Start what is needed before events are taken, then join the group.

        The trainer comes first: a worker that may have none must not take partitions from others, and a worker that
        was restarted must not answer from an empty model.
        """
        self._trainer.listen(self._news.take)
        await self._web.start()
        await self._in(self._threads.commit, self._committer.start)
        await self._model_ready.wait()
        self._tasks = [asyncio.create_task(self._beat_forever())]
        self._watchdog.start()
        self._intake.app.finalize()
        await self._intake.app.maybe_start()
        self._tasks.append(asyncio.create_task(self._await_crash()))
        logger.info("started instance=%s web=%s", self._instance.id, self._web.address)
        notify.ready()

    async def _stop(self, *, clean: bool) -> None:
        """Finish what was begun, then let go; a timer ends the process when this takes too long."""
        self._watchdog.stop()
        notify.stopping()
        if clean:
            logger.info("stopping uncommitted=%d", self._pipeline.n_uncommitted)
            await self._pipeline.drain()
        for task in self._tasks:
            task.cancel()
        await self._intake.app.stop()
        await self._in(None, self._trainer.stop, self.settings.stop_timeout_seconds / 2)
        await self._web.stop()
        await self._in(self._threads.publish, self._publisher.close, 1.0)
        await self._in(self._threads.commit, self._loader.close)
        self._threads.close()
        logger.info("stopped clean=%s", clean)

    def _hooks(self) -> Hooks:
        return Hooks(
            process=self._process,
            recover=self._loader.load,
            published=self._published,
            committed=self._committed,
            discarded=lambda n: self.metrics.discarded_batches.inc(n),
            rejoin=self._intake.rejoin,
            throttle=self._workload.take,
            crash=self._crash,
        )

    def _process(self, batch: Batch, users: UserTable) -> Processed:
        model = self._serving.model
        return self._scorer.process(
            batch.records, users, self._lookups.beside(model), model.version, regime=self._workload.processing()
        )

    def _published(self, processed: Processed, seconds: float) -> None:
        report_published(self.metrics, processed, seconds, now_ms())
        self._workload.published(processed)

    def _committed(self, n_events: int, n_evicted: int, seconds: float) -> None:
        self.metrics.observe_stage("transaction", seconds)
        if n_evicted:
            self.metrics.evicted.labels("users").inc(n_evicted)
        if (users := self._pipeline.users) is not None:
            self.metrics.users.set(len(users))

    async def _assigned(self, assignment: Assignment) -> None:
        """Load what was assigned."""
        previous, self._joined = self._joined, assignment
        try:
            if previous is not None and previous is not assignment and previous.generation == assignment.generation:
                await self._doubt(assignment)
            await self._pipeline.assigned(assignment)
        except (BrokerSilent, Outage) as error:
            self._retry(assignment, error)
        except Exception as error:
            await self._give_up(error)

    async def _score(self, batches: AsyncIterator[Batch]) -> None:
        """Be the agent."""
        try:
            await self._pipeline.run(batches)
        except Exception as error:
            await self._give_up(error)

    async def _give_up(self, error: Exception) -> NoReturn:
        """End the worker, and hold Faust where it is: it would go on without what failed, or tell it in tracebacks."""
        self._end(error)
        await asyncio.Event().wait()
        raise error

    async def _doubt(self, assignment: Assignment) -> NoReturn:
        """End: the group kept its generation, as it does for a static member whose place another process has taken."""
        if assignment.partitions:
            await self._in(self._threads.commit, self._committer.prove, assignment)
        raise GenerationKept(f"the group has given generation {assignment.generation} once more: starting again")

    def _retry(self, assignment: Assignment, error: Exception) -> None:
        """Join again after a recovery that the broker did not answer: it is not ready, and nothing is taken before."""
        logger.warning("recovery generation=%d is tried again: %s", assignment.generation, error)
        self._intake.rejoin(assignment)

    async def _start_offsets(self, partitions: frozenset[Partition]) -> dict[Partition, int]:
        try:
            positions = await self._in(self._threads.commit, self._loader.start_offsets, partitions)
        except BrokerSilent as error:
            # Unsought partitions are fetched from anywhere; without an assignment nothing of it is taken.
            if (assignment := self._pipeline.assignment) is not None:
                await self._pipeline.drop()
                self._retry(assignment, error)
            return {}
        self._pipeline.start_from(positions)
        return dict(positions)

    def _applied(self, error: BaseException | None) -> None:
        if error is None:
            self._loop.call_soon_threadsafe(self._model_ready.set)
        else:
            self._loop.call_soon_threadsafe(self._end, error)

    def _end(self, error: BaseException) -> None:
        if not self._ended.done():
            self._ended.set_result(error)

    async def _crash(self, error: BaseException) -> None:
        self._end(error)

    async def _await_crash(self) -> None:
        """Notice when Faust ends by itself: an agent raised, or its consumer died."""
        app = self._intake.app
        await app.wait_until_stopped()
        self._end(app.crash_reason or RuntimeError("the stream application stopped by itself"))

    async def _beat_forever(self) -> None:
        while True:
            self._beat = monotonic()
            self._workload.look(busy=self._pipeline.busy)
            await asyncio.sleep(BEAT_SECONDS)

    def _vitals(self) -> Vitals:
        return Vitals(
            beat=lambda: self._beat,
            progress=lambda: self._pipeline.progress_at,
            ready=lambda: self._intake.ready or monotonic() - self._loader.read_at < RECOVERING_SECONDS,
            lag=self._read_lag,
            why_away=lambda: self._lag.error,
            learned=lambda: self._news.learned_at,
            unlearned=lambda: self._workload.unlearned,
            coordinator=self._intake.check_coordinator,
        )

    def _put_down(self, why: str) -> None:
        put_down(why, self._trainer.pid if self.settings.trainer.isolation == "process" else None)

    def _read_lag(self) -> int | None:
        """Ask how many events wait; called in the watchdog's thread."""
        positions = self._pipeline.positions
        if not self._pipeline.busy:
            # Markers of other programs' transactions are never handed over: idle, what was fetched counts.
            fetched = self._intake.fetched_positions()
            positions = {partition: max(offset, fetched.get(partition, 0)) for partition, offset in positions.items()}
        lag = self._lag.lag(positions)
        if lag is not None:
            self.metrics.observe_lag("user-events", lag)
            if positions and lag <= self.settings.intake.max_batch and self._workload.caught_up():
                logger.info("caught up: what arrives from now on is live")
        return lag

    def _health(self) -> dict[str, object]:
        return {
            "instance": self._instance.id,
            "trainer": self._trainer.alive,
            "uncommitted": self._pipeline.n_uncommitted,
        }

    def _readiness(self) -> dict[str, bool]:
        conditions = {
            "assigned": self._pipeline.assignment is not None,
            "recovered": self._intake.ready,
            "model": self._model_ready.is_set(),
        }
        self.metrics.ready.set(all(conditions.values()))
        return conditions

    async def _in(self, pool: ThreadPoolExecutor | None, call: Callable[..., _Result], *arguments: object) -> _Result:
        return await self._loop.run_in_executor(pool, call, *arguments)


async def _first(*awaited: asyncio.Future[Any]) -> None:
    await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
