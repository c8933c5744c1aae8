"""The service that learns: the one writer of the weights.

It reads examples in the order of their log, learns them in mini-batches, tells what changed a few times a second, and
writes checkpoints that hold its position. It talks by messages alone, so it can be a thread or a process of its own.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from time import monotonic, time

import msgspec
import torch
from ulid import ULID

from online_model.protocol import ModelDiverged, State
from stream.checkpoint_writer import CheckpointWriter
from stream.example_log import ExampleLog, Stopped
from stream.guarding import Guarding, Sentence
from stream.identity import Identity
from stream.learning import Learning, MiniBatch, refuse_broken
from stream.overload import LearningPressure
from stream.settings import Settings
from stream.trainer_checkpoints import Cut, load_newest
from stream.trainer_errors import DIVERGED_EXIT_CODE, RESTART_EXIT_CODE, TrainerError, TrainerRefused
from stream.trainer_lock import trainer_lock
from stream.trainer_messages import Ended, Facts, Message, Started, Step, Updated

logger = logging.getLogger(__name__)

FACTS_SECONDS = 0.25
RETURN_SECONDS = 60.0
"""To write the checkpoint that a return is made of."""
RETURN_AGAIN_SECONDS = 10.0
IDLE_SECONDS = 0.05
MOCK_CLUSTER_PREFIX = "mockCluster"


class Trainer:
    """Learns until it is stopped, replaced, or cannot go on.

    Args:
        settings: Of the worker.
        identity: Of the cluster and its topics as they are now.
        instance_id: Of the worker.
        send: Takes each message, in order; called by the thread that runs.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        settings: Settings,
        identity: Identity,
        instance_id: str,
        send: Callable[[Message], None],
        clock: Callable[[], float] = time,
    ) -> None:
        self._settings = settings
        self._identity = identity
        self._instance_id = instance_id
        self._send = send
        self._clock = clock

    def run(self, stop: threading.Event) -> int:
        """Learn until `stop` is set; the last message says how it ended.

        Returns:
            The exit code; 0 after a stop that was asked for.
        """
        ended = self._run(stop)
        if ended.exit_code:
            logger.error("trainer ended code=%d %s", ended.exit_code, ended.line)
        self._send(ended)
        return ended.exit_code

    def _run(self, stop: threading.Event) -> Ended:
        # Bits of a sum depend on how many threads share it; and scoring wants the other cores.
        torch.set_num_threads(1)
        try:
            with trainer_lock(self._settings.checkpoint_dir, self._instance_id):
                _Run(self._settings, self._identity, self._instance_id, self._send, self._clock, stop).run()
        except Stopped:
            pass
        except TrainerError as error:
            return Ended(error.exit_code, str(error))
        except ModelDiverged as error:
            return Ended(DIVERGED_EXIT_CODE, f"the model has diverged: {error}; the last checkpoint is untouched")
        except Exception as error:
            logger.exception("trainer failed")
            return Ended(RESTART_EXIT_CODE, f"the trainer failed: {error!r}")
        return Ended(0)


class _Run:
    """One run, from the checkpoint that it starts with to the one that it leaves."""

    def __init__(
        self,
        settings: Settings,
        identity: Identity,
        instance_id: str,
        send: Callable[[Message], None],
        clock: Callable[[], float],
        stop: threading.Event,
    ) -> None:
        self._settings = settings
        self._identity = identity
        self._instance_id = instance_id
        self._send = send
        self._clock = clock
        self._stop = stop
        self._learn_anew()
        self._log = ExampleLog(settings, instance_id, stop, identity.cluster_id.startswith(MOCK_CLUSTER_PREFIX))
        self._writer = CheckpointWriter(settings)
        self._lag_seconds = 0.0
        self._is_live = False
        self._batch = MiniBatch()
        self._batch_since = 0.0
        self._position: int | None = None
        self._told_at = self._facts_at = 0.0
        self._returns_at = 0.0

    def _learn_anew(self) -> None:
        """Begin a lineage: whoever serves takes everything of it, and nothing of what was."""
        self._learning = Learning(self._settings, str(ULID()))
        self._guarding = Guarding(self._settings, self._identity, self._learning)
        # What is read again after a return is a backlog, however lately it was logged.
        self._pressure = LearningPressure(self._settings.overload, self._settings.model.batch_size)
        self._told_version = -1
        self._told_position: int | None = None
        self._logged: tuple[int, int] | None = None
        self._steps: list[Step] = []
        self._counts = self._learning.ledger.counts

    def run(self) -> None:
        """Learn until the stop."""
        resumed_from = self._load()
        with closing(self._log):
            # Nothing is told before it is sure that there is no other trainer.
            self._position = self._writer.position = self._log.open(self._position)
            self._begin(resumed_from)
            while not self._stop.is_set():
                self._read()
                try:
                    if self._due():
                        self._learn()
                    self._tell()
                    self._checkpoint()
                except ModelDiverged as error:
                    self._escape(error)
                self._guard()
                self._report()
            self._finish()

    def _load(self) -> str | None:
        """Take over the newest checkpoint; return its name, None where there is none."""
        found = load_newest(self._settings, self._identity)
        if found is None:
            return None
        try:
            self._learning.load_states(found.states)
        except ValueError as error:
            raise TrainerRefused(f"the checkpoint {found.path} cannot be used: {error}") from error
        self._guarding.resume()
        self._position, self._writer.written_at = found.cut.position, found.cut.saved_at
        self._pressure.resume(found.cut.live_since, self._clock() - found.cut.saved_at)
        self._counts = self._learning.ledger.counts
        return found.path.name

    def _begin(self, resumed_from: str | None) -> None:
        learner = self._learning.learner
        logger.info(
            "trainer lineage=%s version=%d position=%s resumed_from=%s",
            learner.lineage,
            learner.version,
            self._position,
            resumed_from,
        )
        self._send(
            Started(
                lineage=learner.lineage,
                version=learner.version,
                position=self._position,
                resumed_from=resumed_from,
                checkpoint_at=self._writer.written_at,
                examples=self._counts,
                measure=self._learning.measure.totals(),
                n_returns=self._learning.guard.n_returns,
                live_since=self._pressure.live_since,
            )
        )
        self._told_at = 0.0
        self._tell()

    def _read(self) -> None:
        wanted = max(1, self._pressure.step_size - self._batch.n_lessons)
        timeout = IDLE_SECONDS
        if self._batch.end is not None and self._settings.trainer.by == "time":
            timeout = min(timeout, max(0.0, self._batch_since + self._interval - monotonic()))
        records = self._log.read(wanted, timeout)
        if records and self._batch.end is None:
            self._batch_since = monotonic()
        for record in records:
            leave_out = self._learning.guard.leaves_out(record.offset)
            self._batch.take(
                record.offset,
                record.value,
                self._learning.ledger,
                self._pressure,
                record.timestamp,
                leave_out=leave_out,
            )
        self._press()

    def _press(self) -> None:
        """Take notice of how long examples wait, and let the next ones be as that demands."""
        now, batch = self._clock(), self._batch
        more = self._log.position < self._log.end
        if batch.oldest is not None:
            self._lag_seconds = max(0.0, now - batch.oldest / 1000)
        elif not more:
            self._lag_seconds = 0.0
        if self._settings.trainer.by == "count":  # bit for bit the same, however long it takes
            return
        if not more:
            self._pressure.caught_up(int(now * 1000))
        oldest = batch.oldest_live if more else None
        if oldest is not None or not more:
            self._pressure.observe(0.0 if oldest is None else now - oldest / 1000)

    @property
    def _interval(self) -> float:
        return self._settings.trainer.batch_interval_ms / 1000

    def _due(self) -> bool:
        if self._batch.n_lessons >= self._pressure.step_size:
            return True
        if self._settings.trainer.by == "count":  # what holds no example can be passed over between two mini-batches
            return not self._batch.fresh and self._batch.end is not None
        return self._batch.end is not None and monotonic() - self._batch_since >= self._interval

    def _learn(self) -> None:
        batch, self._batch = self._batch, MiniBatch()
        self._steps += self._learning.learn(batch)
        self._position = batch.end
        self._is_live = batch.is_live
        logged = [record.logged_at for record in batch.records if record.logged_at >= 0]
        if logged:
            known = self._logged or (logged[0], logged[0])
            self._logged = min(known[0], *logged), max(known[1], *logged)

    def _tell(self) -> None:
        """Send what changed since the last update."""
        learner = self._learning.learner
        if learner.version == self._told_version:
            return
        if monotonic() - self._told_at < self._settings.trainer.update_interval_ms / 1000:
            return
        update = learner.update()
        if not update.all_finite():
            raise ModelDiverged("an update holds numbers that are not finite")
        oldest, newest = self._logged or (None, None)
        self._send(Updated(learner.version, update.full, oldest, newest, update.encode()))
        self._told_version, self._told_at, self._logged = learner.version, monotonic(), None
        self._told_position = self._position

    def _report(self, *, now: bool = False) -> None:
        if not now and monotonic() - self._facts_at < FACTS_SECONDS:
            return
        learning, counts = self._learning, self._learning.ledger.counts
        self._send(
            Facts(
                steps=self._steps,
                new_examples={outcome: n - self._counts[outcome] for outcome, n in counts.items()},
                examples=counts,
                position=self._position or 0,
                log_end=self._log.end,
                n_expired=self._log.n_expired,
                version=learning.learner.version,
                n_items=learning.learner.n_items,
                n_evicted=learning.learner.n_evicted,
                stream_time=learning.clock.now,
                measure=learning.measure.totals(),
                checkpoint_at=self._writer.written_at,
                checkpoint_seconds=self._writer.take_seconds(),
                checkpoint_failures=self._writer.n_failures,
                n_returns=learning.guard.n_returns,
                on_trial=learning.guard.trial is not None,
                guard_exhausted=learning.guard.exhausted,
                lag_seconds=self._lag_seconds,
                overload=self._pressure.level,
            )
        )
        self._steps, self._counts = [], counts
        self._facts_at = monotonic()

    def _checkpoint(self) -> None:
        self._writer.collect()
        if self._writer.due(self._position):
            self._cut()

    def _cut(self) -> None:
        position, ledger = self._position, self._learning.ledger
        assert position is not None
        states = self._learning.states()
        cut = Cut(
            position=position,
            identity=self._identity,
            lineage=self._learning.learner.lineage,
            version=self._learning.learner.version,
            learned=ledger.counts["learned"],
            saved_at=self._clock(),
            app_id=self._settings.app_id,
            instance=self._instance_id,
            n_returns=self._learning.guard.n_returns,
            live_since=self._pressure.live_since if self._is_live else None,
        )
        self._write(states, cut)

    def _write(self, states: Mapping[str, State], cut: Cut) -> None:
        membership = self._log.membership()

        def before_rename() -> None:
            refuse_broken(states["learner"])
            assert cut.position is not None
            self._log.commit(cut.position, membership)

        self._writer.start(states, cut, before_rename, self._guarding.pinned)

    def _guard(self) -> None:
        """Let the guard try and judge; what it decides is done here."""
        if self._writer.busy or monotonic() < self._returns_at:
            return
        sentence = self._guarding.attend()
        if sentence is not None and not self._return(sentence):
            self._returns_at = monotonic() + RETURN_AGAIN_SECONDS

    def _escape(self, error: ModelDiverged) -> None:
        """Go back from weights that are broken; where there is no way back, end before any of it is saved.

        Raises:
            ModelDiverged: There is none.
        """
        logger.error("diverged position=%s reason=%s", self._position, error)
        with suppress(ModelDiverged):  # a checkpoint of these weights may be refused just now as well
            self._writer.collect(RETURN_SECONDS)
        start, end = self._told_position, self._log.position
        sentence = None if start is None else self._guarding.escape(start, end)
        if sentence is None or not self._return(sentence):
            raise error

    def _return(self, sentence: Sentence) -> bool:
        """Carry out a return: write it down, become it. Killed before the checkpoint is there, nothing has happened.

        Returns:
            Whether it was written.
        """
        if self._writer.busy:
            return False
        cut = msgspec.structs.replace(sentence.cut, saved_at=self._clock(), instance=self._instance_id, live_since=None)
        self._write(sentence.states, cut)
        path = self._writer.collect(RETURN_SECONDS)
        if path is None:
            return False
        self._report(now=True)  # what was learned until now was learned, for whoever counts steps
        self._learn_anew()
        self._learning.load_states(sentence.states)
        self._counts = self._learning.ledger.counts
        self._batch = MiniBatch()
        assert cut.position is not None
        self._position = self._log.rewind(cut.position)
        self._begin(path.name)
        return True

    def _finish(self) -> None:
        """Leave a checkpoint of everything learned, within the time that a stop may take."""
        patience = self._settings.stop_timeout_seconds / 3  # the worker has to stop after its trainer
        deadline = monotonic() + patience
        self._writer.collect(patience)
        if self._position != self._writer.position and not self._writer.busy:
            self._cut()
            self._writer.collect(max(0.0, deadline - monotonic()))
        self._report(now=True)
