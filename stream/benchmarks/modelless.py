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
    checked = preflight(settings)
    instance = Instance(settings.data_dir)
    metrics = Metrics(CollectorRegistry())
    model = Constant(list_length)
    threads = Threads()
    scorer = Scorer(
        settings,
        checked.identity,
        behavior_table(settings.behaviors),
        checked.event_partitions,
        pseudonymizer(load_key(settings.data_dir)),
        _now_ms,
    )
    committer = Committer(settings, instance.id)
    loader = Loader(settings, checked.identity, checked.event_partitions, committer, metrics)
    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def process(batch: Batch, users: UserTable) -> Processed:
        return scorer.process(batch.records, users, model, 1)

    async def crash(error: BaseException) -> None:
        if not failed.done():
            failed.set_exception(error)

    async def at_once(_: Batch) -> None:
        return

    hooks = Hooks(
        process=process,
        recover=loader.load,
        published=lambda processed, seconds: report_published(metrics, processed, seconds, _now_ms()),
        committed=lambda n_events, n_evicted, seconds: count(n_events),
        discarded=lambda n_batches: None,
        rejoin=lambda assignment: intake.rejoin(assignment),
        throttle=at_once,
        crash=crash,
    )
    pipeline = Pipeline(Publisher(settings), committer, threads, hooks)

    async def assigned(assignment: Assignment) -> None:
        await pipeline.assigned(assignment)

    async def start_offsets(partitions: frozenset[Partition]) -> dict[Partition, int]:
        positions = await asyncio.get_running_loop().run_in_executor(threads.commit, loader.start_offsets, partitions)
        pipeline.start_from(positions)
        return dict(positions)

    intake = Intake(settings, instance.id, assigned, start_offsets)
    intake.agent(pipeline.run)
    await asyncio.get_running_loop().run_in_executor(threads.commit, committer.start)
    intake.app.finalize()
    await intake.app.maybe_start()
    while not done():
        if failed.done():
            failed.result()
        await asyncio.sleep(POLL_SECONDS)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
