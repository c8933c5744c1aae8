"""The recurrent learner: owns weights, optimizer, vocabulary and counts, and takes one step a mini-batch."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from online_model.births import first_vectors
from online_model.candidates.folds import Fold
from online_model.candidates.queries import occurrences
from online_model.config import ModelConfig
from online_model.drift import DriftWatch
from online_model.latest import LatestRows
from online_model.lessons import TARGETS, Lessons, check, read
from online_model.model import RecurrentModel
from online_model.optimizer import DenseAdagrad, Pace, RowAdagrad
from online_model.protocol import Context, Example, LearnReport, ModelDiverged, Ranked, Request, State
from online_model.ranker import RankingStep
from online_model.sightings import sighted
from online_model.snapshots import dump, restore
from online_model.states import missing_parts_named
from online_model.step import Gradients, gradients
from online_model.two_stage import TwoStageModel, find
from online_model.updates import Update
from online_model.vocabulary import Plan, Rows, Vocabulary


class OnlineLearner:
    """Learns online and answers with the weights and counts of the moment; see `Learner`.

    Attributes:
        config: The settings that it was built with.
        kind: What its states are called: with a second stage or without.
        lineage: Names the run that its updates belong to; a serving copy refuses those of another.
        version: How many mini-batches it has learned.
        pace: Share of their usual length that steps have; no part of its state.
    """

    def __init__(self, config: ModelConfig | None = None, *, lineage: str = "local") -> None:
        self.config = config = config or ModelConfig()
        self.kind = "gru" if config.ranking == "none" else "two-stage"
        self.lineage = lineage
        self.version = 0
        self.pace = 1.0
        self._generator = torch.Generator().manual_seed(config.seed)
        self._vocabulary = Vocabulary(config.max_items, config.admit_after, config.probation_share)
        self._model = TwoStageModel(config, self._vocabulary.index, self._generator)
        self._rows = RowAdagrad(Pace.of_rows(config), config.hidden, self._recurrent.device)
        self._dense = DenseAdagrad(Pace.of_dense(config), self._recurrent.encoder.weights())
        self._drift = DriftWatch()
        self._latest = LatestRows()
        # Rows that differ from what the latest update told; the first update tells everything.
        self._changed = np.zeros(1024, np.bool_)
        self._published: int | None = None
        # Steps of the counts since then.
        self._folds: list[Fold] = []
        self._n_folds = 0

    @property
    def _recurrent(self) -> RecurrentModel:
        return self._model.recurrent

    @property
    def n_items(self) -> int:
        """Live items."""
        return len(self._vocabulary)

    @property
    def n_evicted(self) -> int:
        """Items that have left the vocabulary so far."""
        return self._vocabulary.n_evicted

    def __contains__(self, item: object) -> bool:
        return item in self._vocabulary

    def recommend(self, requests: Sequence[Request], k: int) -> list[Ranked]:
        """Answer requests; see `Recommender`."""
        return self._model.recommend(requests, k)

    def rank(self, requests: Sequence[Request], targets: Sequence[str]) -> list[int]:
        """Rank targets in the whole catalogue; see `Recommender`."""
        return self._model.rank(requests, targets)

    def admit(self, examples: Sequence[Example]) -> list[str]:
        """Let the new items of a batch in before it is learned: they can be recommended at once.

        To admit and then to learn the same batch leaves exactly what learning it alone does.

        Returns:
            The ids that entered.

        Raises:
            ValueError: An example is malformed.
        """
        check(examples)
        return list(self._admit(examples).births)

    def learn(self, examples: Sequence[Example]) -> LearnReport:
        """Take one step on a mini-batch; see `Learner`.

        The ranker learns from candidates and signals as they stand before anything else has learned from the batch.
        Where it raises `ModelDiverged`, new items are in the vocabulary, and nothing else has changed.
        """
        check(examples)
        admitted = self._admit(examples)
        # Nobody enters after that: what the batch brings is in, or there is no room for it.
        plan = self._vocabulary.plan(sighted(examples)) if admitted.births else admitted
        lessons = read(examples, plan.row, self._recurrent.inputs)
        random_state = self._generator.get_state()
        try:
            step = gradients(self._recurrent, lessons, self._latest, self._generator)
            ranking = self._ranking_step(examples, lessons)
        except ModelDiverged:
            self._generator.set_state(random_state)
            raise
        self._model.changed()
        self._vocabulary.commit(plan)
        self._count(plan, examples)
        self._latest.add(np.array(lessons.items[: lessons.n_targets], np.int64))
        if step is not None:
            self._apply(step)
        if ranking is not None:
            self._model.ranker.apply(ranking, self.pace)
        self.version += 1
        self._recurrent.catalogue_index.learned(0 if step is None else len(step.rows), self.version)
        n_targets, loss = (0, None) if step is None else (lessons.n_targets, step.loss)
        stated = None if ranking is None else ranking.forecasts
        return LearnReport(len(examples), n_targets, loss, len(admitted.births), self.n_items, stated)

    def update(self, *, full: bool = False) -> Update:
        """Return what changed since the last update, or everything.

        The first update after the start and after `load_state` tells everything. A full one asked for later does not
        count as the last: copies that follow the stream of updates need not see it.
        """
        everything = full or self._published is None
        rows = np.arange(self.n_items) if everything else np.flatnonzero(self._changed[: self.n_items])
        base = None if everything else self._published
        folds = None if everything else self._folds
        update = Update.of(
            self._model, rows, folds, lineage=self.lineage, version=self.version, base=base, n_folds=self._n_folds
        )
        if not full or self._published is None:
            self._changed[:] = False
            self._published = self.version
            self._folds = []
        return update

    def state(self) -> State:
        """Return a copy of everything; see `Learner`."""
        state = dump(self._model, self._vocabulary, self._rows, self._dense)
        state.tensors["generator"] = self._generator.get_state()
        state.tensors["drift"] = self._drift.state()
        state.tensors["latest"] = self._latest.state()
        facts = {"kind": self.kind, "version": self.version, "n_folds": self._n_folds}
        state.metadata |= {**facts, "config": self.config.to_mapping()}
        return state

    def load_state(self, state: State) -> None:
        """Become the learner that `state` was taken from; see `Learner`."""
        fresh = OnlineLearner(self.config, lineage=self.lineage)
        restore(state, self.kind, fresh._model, fresh._vocabulary, fresh._rows, fresh._dense)
        with missing_parts_named():
            fresh._generator.set_state(state.tensors["generator"])
            fresh._drift.load_state(state.tensors["drift"])
            fresh._latest.load_state(state.tensors["latest"])
            fresh.version = int(str(state.metadata["version"]))
            fresh._n_folds = int(str(state.metadata["n_folds"]))
        self.__dict__.update(fresh.__dict__)

    def _admit(self, examples: Sequence[Example]) -> Plan:
        plan = self._vocabulary.plan(sighted(examples))
        if plan.births:
            self._model.changed()
            self._enter(plan, self._first_vectors(examples, plan))
            self._vocabulary.commit(plan, count_sightings=False)
        return plan

    def _first_vectors(self, examples: Sequence[Example], plan: Plan) -> Tensor:
        """First vectors of the plan's births, in order, [n_births, hidden]."""
        parents: dict[str, int] = {}
        for example in examples:
            item = example.item
            if item is not None and item in plan.births and item not in parents and example.role in TARGETS:
                parents[item] = next(reversed(self._inputs(example.context, plan)), -1)
        births = list(plan.births.items())
        return first_vectors(
            self.config, self._recurrent.table, [(row, parents[item]) for item, row in births], self._generator
        )

    def _inputs(self, context: Context, plan: Plan) -> list[int]:
        start = 0 if self.config.whole_history else context.sitting
        rows = [plan.row(visit[0]) for visit in context.history[start:]]
        return [row for row in rows if row >= 0][-self.config.window :]

    def _enter(self, plan: Plan, vectors: Tensor) -> None:
        born = np.fromiter(plan.births.values(), np.int64)
        rows = torch.from_numpy(born).to(self._recurrent.device)
        self._recurrent.table.write(rows, vectors, vectors.new_zeros(len(rows)))
        self._rows.reserve(self._recurrent.table.n_rows)
        self._rows.forget(rows)
        self._recurrent.counts.clear(born)
        self._touch(born)
        if plan.evicted:
            self._fold(Fold(np.fromiter(plan.evicted.values(), np.int64), None))

    def _ranking_step(self, examples: Sequence[Example], lessons: Lessons) -> RankingStep | None:
        """What the ranker can learn from the targets of a batch; those never seen before were in nobody's reach."""
        if not self._model.ranker.learns or not lessons.n_targets:
            return None
        n_targets = lessons.n_targets
        examined = self._model.examined([examples[place].context for place in lessons.places[:n_targets]])
        rows = np.array(lessons.items[:n_targets], np.int32)
        places = np.where(self._model.evidence.seen(rows), find(examined, rows), -1)
        return self._model.ranker.lesson(examined, places, np.array(lessons.weights[:n_targets], np.float32))

    def _count(self, plan: Plan, examples: Sequence[Example]) -> None:
        rows = [self._vocabulary.index.rows.get(item, -1) for item in plan.sighted]
        sighted = np.array([row for row in rows if row >= 0], np.int64)
        self._recurrent.counts.sight(sighted)
        self._touch(sighted)
        if self._model.ranks:
            taken = [example for example in examples if example.role in TARGETS]
            index = self._vocabulary.index.rows
            self._fold(Fold(np.zeros(0, np.int64), occurrences(taken, lambda item: index.get(item, -1))))

    def _fold(self, fold: Fold) -> None:
        if self._model.ranks:
            self._model.evidence.fold(fold)
            self._n_folds += 1
            if self._published is not None:  # else the first update tells everything
                self._folds.append(fold)

    def _apply(self, step: Gradients) -> None:
        forget = self.config.drift_forget
        if forget and step.loss is not None and self._drift.observe(step.loss):
            self._rows.fade(1.0 - forget)
            self._dense.fade(1.0 - forget)
        rows = torch.from_numpy(step.rows).to(self._recurrent.device)
        self._recurrent.table.add(rows, *self._rows.steps(rows, step.vectors, step.biases, self.pace))
        self._dense.apply(self._recurrent.encoder.weights(), step.dense, self.pace)
        self._touch(step.rows)

    def _touch(self, rows: Rows) -> None:
        n_rows = max(self.n_items, int(rows.max(initial=-1)) + 1)
        if n_rows > len(self._changed):
            grown = np.zeros(2 * n_rows, np.bool_)
            grown[: len(self._changed)] = self._changed
            self._changed = grown
        self._changed[rows] = True
