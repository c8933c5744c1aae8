"""Serving copies: what answers requests while the learner learns elsewhere."""

from collections.abc import Sequence

import torch

from online_model.protocol import Ranked, Request, State
from online_model.snapshots import load_encoder
from online_model.states import check_kind
from online_model.two_stage import TwoStageModel
from online_model.updates import Update
from online_model.vocabulary import RowIndex

__all__ = ["ServingModel", "Update", "UpdateRefused"]


class UpdateRefused(ValueError):
    """A serving copy will not take an update, and is as it was.

    Attributes:
        reason: One of `non-finite`, `lineage`, `gap`, `stale`, `size`: fit for a label of a metric.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ServingModel:
    """A copy of the model that follows a learner by its updates; one thread owns it.

    Attributes:
        version: Mini-batches that the learner had learned when this copy was made; the answer's `model_version`.
        lineage: The learner's run.
    """

    kind = "serving"

    def __init__(self, update: Update) -> None:
        """Build the copy that a full update tells.

        Raises:
            UpdateRefused: It does not tell everything, or not all of it is finite.
        """
        if not update.full:
            raise UpdateRefused("gap", f"a copy starts from a full update, not from the changes since {update.base}")
        _refuse_non_finite(update)
        self._build(update)

    @classmethod
    def from_update(cls, update: Update) -> "ServingModel":
        """Build the copy that a full update tells; see the class."""
        return cls(update)

    @classmethod
    def from_state(cls, state: State) -> "ServingModel":
        """Build the copy that `state` was taken from.

        Raises:
            ValueError: The state is none of a serving copy.
        """
        check_kind(state, cls.kind)
        return cls(Update.from_state(state))

    @property
    def n_items(self) -> int:
        """Live items."""
        return len(self._model.recurrent.index)

    def __contains__(self, item: object) -> bool:
        return item in self._model.recurrent.index.rows

    def recommend(self, requests: Sequence[Request], k: int) -> list[Ranked]:
        """Answer requests; see `Recommender`."""
        return self._model.recommend(requests, k)

    def rank(self, requests: Sequence[Request], targets: Sequence[str]) -> list[int]:
        """Rank targets in the whole catalogue; see `Recommender`."""
        return self._model.rank(requests, targets)

    def apply(self, update: Update) -> None:
        """Become what the learner was at `update.version`; all of it or, when it raises, nothing.

        Raises:
            UpdateRefused: A number is not finite; the update is older than this copy, or leaves out what happened
                since; it comes from another run or size of model. A full update may come from another run and time.
        """
        self._refuse_unfit(update)
        if update.full:
            # Built aside: where a part of it does not fit, this copy goes on as it is.
            self.__dict__.update(ServingModel(update).__dict__)
        else:
            _refuse_non_finite(update)
            self._write(update)

    def state(self) -> State:
        """Return a copy of everything, to be kept in a checkpoint."""
        every = torch.arange(self.n_items).numpy()
        state = Update.of(
            self._model, every, None, lineage=self.lineage, version=self.version, base=None, n_folds=self._n_folds
        ).state()
        state.metadata["kind"] = self.kind
        state.metadata["hidden"] = self._model.config.hidden
        return state

    def load_state(self, state: State) -> None:
        """Become the copy that `state` was taken from.

        Raises:
            ValueError: The state is that of another kind or size of model; the message names both.
        """
        check_kind(state, self.kind, self._model.config.hidden)
        self.apply(Update.from_state(state))

    def _refuse_unfit(self, update: Update) -> None:
        hidden = self._model.config.hidden
        if update.config.hidden != hidden:
            raise UpdateRefused("size", f"the update has hidden = {update.config.hidden}, this copy has {hidden}")
        if update.base is None:
            return
        if update.lineage != self.lineage:
            raise UpdateRefused("lineage", f"the update belongs to run {update.lineage}, this copy to {self.lineage}")
        if update.base > self.version:
            raise UpdateRefused("gap", f"the update tells changes since {update.base}, this copy is at {self.version}")
        if update.version < self.version:
            raise UpdateRefused("stale", f"the update is at {update.version}, this copy at {self.version} already")
        if update.n_folds - len(update.folds or ()) > self._n_folds:
            raise UpdateRefused("gap", f"the update leaves out counts after step {self._n_folds}")
        rows = update.rows
        if update.n_items < self.n_items or int((rows >= self.n_items).sum()) != update.n_items - self.n_items:
            raise UpdateRefused("gap", f"the update leads from {self.n_items} to {update.n_items} items with holes")

    def _build(self, update: Update) -> None:
        self._model = TwoStageModel(update.config, RowIndex())
        self.lineage = update.lineage
        if update.evidence is not None:
            self._model.evidence.load_state(update.evidence)
        self._n_folds = update.n_folds
        self._write(update)
        self._model.recurrent.catalogue_index.prepare()

    def _write(self, update: Update) -> None:
        model = self._model.recurrent
        rows = update.rows.to(model.device)
        model.index.assign(zip(update.rows.tolist(), update.ids, strict=True))
        model.table.write(rows, update.vectors.to(model.device), update.biases.to(model.device))
        model.counts.write(update.rows.numpy(), update.counts.numpy(), update.counts_facts)
        load_encoder(model, dict(update.encoder))
        if update.quantiser is not None:
            model.catalogue_index.adopt(update.quantiser, aside=True)
        if update.ranker is not None:
            self._model.ranker.load_serving_state(update.ranker)
        self._count(update)
        self.version = update.version

    def _count(self, update: Update) -> None:
        """Take the steps of the counts that this copy has not taken yet."""
        folds = update.folds or ()
        missed = update.n_folds - self._n_folds
        for fold in folds[len(folds) - missed :]:
            self._model.evidence.fold(fold)
        self._n_folds = update.n_folds


def _refuse_non_finite(update: Update) -> None:
    if not update.all_finite():
        raise UpdateRefused("non-finite", f"the update to version {update.version} holds numbers that are not finite")
