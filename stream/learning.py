"""From records of the examples log to a learned mini-batch: each distinct example ends in exactly one way. No Kafka.

Everything that learning changes is in `Learning.states`, so a checkpoint of it and of one log offset is an atomic cut.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Literal

import msgspec

from online_model.baselines.popularity import PopularityLearner
from online_model.clock import StreamClock
from online_model.evaluation.arms import LiveMeasure, MeasuredEvent, MeasurePlan
from online_model.evaluation.tally import DEPTH, UNSCORED_REASONS
from online_model.guard import Guard, Observed
from online_model.learner import OnlineLearner
from online_model.ledger import Ledger, Source
from online_model.lessons import TARGETS, check
from online_model.protocol import Context, Example, ModelDiverged, Recommender, Request, State
from online_model.serving import ServingModel
from stream.overload import LearningPressure, is_sampled
from stream.records import TrainingExample, decode_example
from stream.settings import Settings
from stream.state import EMPTY, excluded_items
from stream.trainer_messages import Step

logger = logging.getLogger(__name__)

_LEARNER = "learner"
_LEDGER = "ledger"
_CLOCK = "clock"
_GUARD = "guard"
_INT64 = 2**63
_LOGGED_PER_BATCH = 3
"""Quarantined examples named in the log; a flood of them is for the counter."""


@dataclass(slots=True)
class MiniBatch:
    """Records that were read and are not yet learned.

    Nothing is recorded in the ledger before the mini-batch is learned: until then its records count as unread, and a
    checkpoint's position stands before them.

    Attributes:
        fresh: Examples that the ledger does not know, checked, each once.
        records: Those examples as they stand in the log.
        n_duplicates: Examples that are known, or stood in this mini-batch before.
        undecodable: Log offset and reason of records that are no examples at all.
        malformed: Examples that nothing can be learned from, and why.
        left_out: Source and offset of examples that must not be learned, since they did harm.
        start: Log offset of the first record; None while there is none.
        end: Log offset after the last record; None while there is none.
        n_sampled_out: How many of the fresh examples are to be counted and not learned: their importance is 0.
        oldest: Least Kafka timestamp among the records, ms; None where none has one.
        oldest_live: Likewise among those that count as overload where they wait.
        is_live: Whether the last example was live.
    """

    fresh: list[Example] = field(default_factory=list)
    records: list[TrainingExample] = field(default_factory=list)
    n_duplicates: int = 0
    undecodable: list[tuple[int, str]] = field(default_factory=list)
    malformed: list[tuple[TrainingExample, str]] = field(default_factory=list)
    left_out: list[tuple[Source, int]] = field(default_factory=list)
    start: int | None = None
    end: int | None = None
    n_sampled_out: int = 0
    oldest: int | None = None
    oldest_live: int | None = None
    is_live: bool = False
    _keys: set[tuple[Source, int]] = field(default_factory=set)

    @property
    def n_lessons(self) -> int:
        """Examples that are to be learned."""
        return len(self.fresh) - self.n_sampled_out

    def take(
        self,
        offset: int,
        value: bytes | None,
        ledger: Ledger,
        pressure: LearningPressure | None = None,
        timestamp: int = -1,
        *,
        leave_out: bool = False,
    ) -> None:
        """Take the next record of the log.

        Args:
            offset: In the log.
            value: Its bytes.
            ledger: Knows which examples have an outcome.
            pressure: Says which share of the live examples is learned; None for all.
            timestamp: Of the record in Kafka, ms; below 0 for none.
            leave_out: It did harm, and only gets its outcome.
        """
        self.start = offset if self.start is None else self.start
        self.end = offset + 1
        if timestamp >= 0:
            self.oldest = timestamp if self.oldest is None else min(self.oldest, timestamp)
        try:
            record = decode_example(value or b"")
            if record.offset < 0:
                raise ValueError(f"expected a source offset of at least 0, got {record.offset}")
        except (msgspec.DecodeError, ValueError) as error:  # it names no source that it could be known by
            self.undecodable.append((offset, str(error)))
            return
        key = (record.topic, record.partition), record.offset
        if key in self._keys or not ledger.fresh(*key):
            self.n_duplicates += 1
            return
        self._keys.add(key)
        if leave_out:
            self.left_out.append(key)
            return
        self.is_live = not record.backlog
        try:
            example = to_example(record)
        except ValueError as error:
            self.malformed.append((record, str(error)))
            return
        if pressure is not None and pressure.is_live(timestamp, backlog=record.backlog):
            self.oldest_live = timestamp if self.oldest_live is None else min(self.oldest_live, timestamp)
            example = self._sampled(example, key, pressure.share)
        self.fresh.append(example)
        self.records.append(record)

    def _sampled(self, example: Example, key: tuple[Source, int], share: float) -> Example:
        """Return the example as it is to be learned where only a share is."""
        if share >= 1.0:
            return example
        if is_sampled(*key, share):
            return replace(example, importance=1.0 / share)
        self.n_sampled_out += 1
        return replace(example, importance=0.0)


class Learning:
    """The learner and all that belongs to the same cut: ledger, stream clock, live measure, guard.

    Attributes:
        reference: The checkpoint's model that is on trial against the learner; None while the guard tries none.

    Args:
        settings: Of the worker.
        lineage: Of this run; its updates carry it.
    """

    def __init__(self, settings: Settings, lineage: str) -> None:
        config = settings.model
        if config.device == "auto" and settings.device != "auto":
            config = replace(config, device=settings.device)
        # Where lists may hold the item that a user is on, that people stay on it has to be learned.
        config = replace(config, repeats=config.repeats or settings.lists.exclude == "none")
        self.learner = OnlineLearner(config, lineage=lineage)
        self.ledger = Ledger()
        self.clock = StreamClock()
        self.guard = Guard(settings.guard.max_returns)
        self.reference: Recommender | None = None
        self._guarded = settings.guard.enabled
        self._depth = min(settings.lists.k, DEPTH)
        self._exclusion = settings.lists.exclude
        measure = settings.measure
        self.measure = LiveMeasure(
            MeasurePlan(measure.sample, measure.frozen_after, measure.nightly_hours, settings.lists.k),
            copy=lambda: ServingModel.from_update(self.learner.update(full=True)),
            restore=ServingModel.from_state,
            popularity=PopularityLearner(config),
            exclude=self._exclude,
        )

    def learn(self, batch: MiniBatch) -> list[Step]:
        """Measure a mini-batch, learn it, and record what became of each of its records.

        Returns:
            The steps taken: one, or one an example where the whole could not be learned.

        Raises:
            ModelDiverged: The weights themselves are broken; nothing of this run may be published or saved any more.
        """
        pairs = self.measure.alone("frozen")
        self.measure.observe(_measured(record) for record in batch.records if record.role in TARGETS)
        distinct = _distinct(batch.records)
        self._try(distinct)
        # Of its last record: what is left out before a mini-batch may or may not have been read along with it.
        self.learner.pace = self.guard.pace((batch.end or 1) - 1)
        steps, diverged = self._learn(batch.fresh) if batch.fresh else ([], {})
        self._record(batch, diverged)
        learned = [example for index, example in enumerate(batch.fresh) if index not in diverged]
        if learned:
            self.measure.learned(learned, self.ledger.counts["learned"], self.clock.now)
        _log_quarantined(batch, diverged)
        if self._guarded and batch.start is not None and batch.end is not None:
            self._watch(batch.start, batch.end, distinct, steps, pairs)
        return steps

    def states(self) -> dict[str, State]:
        """Return a copy of everything, for a checkpoint."""
        return {
            _LEARNER: self.learner.state(),
            _LEDGER: self.ledger.state(),
            _CLOCK: self.clock.state(),
            _GUARD: self.guard.state(),
            **self.measure.states(),
        }

    def load_states(self, states: Mapping[str, State]) -> None:
        """Become what `states` were taken from; the lineage stays that of this run.

        Raises:
            ValueError: They are those of another kind or size of model, or a part is missing.
        """
        try:
            self.learner.load_state(states[_LEARNER])
            self.ledger.load_state(states[_LEDGER])
            self.clock.load_state(states[_CLOCK])
            self.measure.load_states(states)
            self.guard.load_state(states.get(_GUARD, State()))  # older checkpoints have none
        except KeyError as error:
            raise ValueError(f"the checkpoint lacks {error}") from error

    def _record(self, batch: MiniBatch, diverged: Mapping[int, str]) -> None:
        for index, record in enumerate(batch.records):
            outcome: Literal["learned", "sampled_out", "quarantined"] = "learned"
            if index in diverged:
                outcome = "quarantined"
            elif batch.fresh[index].importance == 0:
                outcome = "sampled_out"
            self.ledger.add((record.topic, record.partition), record.offset, outcome)
            self.clock.observe(record.time)
        for record, _ in batch.malformed:
            self.ledger.add((record.topic, record.partition), record.offset, "quarantined")
        for source, offset in batch.left_out:
            self.ledger.add(source, offset, "quarantined")
        self.ledger.count("quarantined", len(batch.undecodable))
        self.ledger.count("duplicate", batch.n_duplicates)

    def _try(self, records: Sequence[TrainingExample]) -> None:
        """Let the learner of now and the checkpoint on trial answer the same events, before these are learned."""
        # People act on what they were shown, and only the model of now was shown.
        organic = [record for record in records if record.answers is None]
        if self.guard.trial is None or self.reference is None or not organic:
            return
        contexts = [Context(record.history, record.sitting, record.time) for record in organic]
        requests = [Request(context, self._exclude(context)) for context in contexts]
        items = [record.item or "" for record in organic]
        live, reference = (
            [self._hit(rank) for rank in model.rank(requests, items)] for model in (self.learner, self.reference)
        )
        self.guard.trial.compare(live, reference)

    def _watch(
        self,
        start: int,
        end: int,
        records: Sequence[TrainingExample],
        steps: Sequence[Step],
        pairs_before: tuple[int, int],
    ) -> None:
        reports = [step.report for step in steps]
        n_targets = sum(report.n_targets for report in reports)
        total = sum((report.loss or 0.0) * report.n_targets for report in reports)
        pairs = self.measure.alone("frozen")
        self.guard.observe(
            Observed(
                start,
                end,
                n_scored=len(records),
                n_hits=sum(self._hit(record.rank) for record in records),
                loss=total / n_targets if n_targets else None,
                n_targets=n_targets,
                live_only=pairs[0] - pairs_before[0],
                frozen_only=pairs[1] - pairs_before[1],
            )
        )

    def _exclude(self, context: Context) -> frozenset[str]:
        return frozenset(excluded_items(EMPTY, context, self._exclusion))

    def _hit(self, rank: int) -> bool:
        return 1 <= rank <= self._depth

    def _learn(self, examples: Sequence[Example]) -> tuple[list[Step], dict[int, str]]:
        try:
            return [self._step(examples)], {}
        except ModelDiverged as error:
            # The same mini-batch would come again after a restart, and again: find what is wrong with it now.
            logger.error("diverged examples=%d reason=%s", len(examples), error)
            refuse_broken(self.learner.state())
        steps: list[Step] = []
        diverged: dict[int, str] = {}
        for index, example in enumerate(examples):
            try:
                steps.append(self._step([example]))
            except ModelDiverged as error:
                diverged[index] = str(error)
        return steps, diverged

    def _step(self, examples: Sequence[Example]) -> Step:
        started = perf_counter()
        report = self.learner.learn(examples)
        n_sampled_out = sum(example.importance == 0 for example in examples)
        return Step(report, perf_counter() - started, n_sampled_out)


def to_example(record: TrainingExample) -> Example:
    """Return what the learner and the measure take.

    Raises:
        ValueError: They could not take it; the message says what was expected.
    """
    if not -_INT64 <= record.time < _INT64:
        raise ValueError(f"expected an event time of 64 bits, got {record.time}")
    if record.unscored is not None and record.unscored not in UNSCORED_REASONS:
        raise ValueError(f"expected unscored out of {', '.join(UNSCORED_REASONS)}, got {record.unscored!r}")
    context = Context(record.history, record.sitting, record.time)
    example = Example(context, record.item, record.role, record.weight, record.value)
    check([example])
    return example


def refuse_broken(state: State) -> None:
    """Let no state of the learner pass that must not be served or saved.

    Raises:
        ModelDiverged: A weight is not finite.
    """
    for name, tensor in state.tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ModelDiverged(f"{name} holds numbers that are not finite")


def _distinct(records: Sequence[TrainingExample]) -> list[TrainingExample]:
    """Scored events, the first of each item and of each user: one loud item or user is one voice a mini-batch."""
    heard: list[TrainingExample] = []
    items: set[str | None] = set()
    users: set[str] = set()
    for record in records:
        if record.scored and record.role in TARGETS and record.item not in items and record.user not in users:
            items.add(record.item)
            users.add(record.user)
            heard.append(record)
    return heard


def _measured(record: TrainingExample) -> MeasuredEvent:
    unscored = None if record.scored else record.unscored or "no_list"
    return MeasuredEvent(
        user=record.user,
        context=Context(record.history, record.sitting, record.time),
        item=record.item or "",
        live_rank=record.rank,
        unscored=unscored,
        attributed=record.answers is not None,
        late_list=record.late_list,
    )


def _log_quarantined(batch: MiniBatch, diverged: Mapping[int, str]) -> None:
    found = [f"log offset {offset}: {reason}" for offset, reason in batch.undecodable]
    refused = batch.malformed + [(batch.records[index], reason) for index, reason in diverged.items()]
    found += [f"source {record.topic}/{record.partition}/{record.offset}: {reason}" for record, reason in refused]
    for line in found[:_LOGGED_PER_BATCH]:
        logger.error("quarantined %s", line)
    if len(found) > _LOGGED_PER_BATCH:
        logger.error("quarantined more=%d", len(found) - _LOGGED_PER_BATCH)
