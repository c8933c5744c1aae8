"""What one source of candidates knows, filled up with what is popular: most simple rivals are of this kind."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from online_model.candidates.queries import Floats, Ints, occurrences, queries
from online_model.candidates.source import CandidateSource
from online_model.config import ModelConfig
from online_model.lessons import TARGETS, check
from online_model.popular import Retrieved, excluded_rows, present
from online_model.protocol import Example, LearnReport, Ranked, Request, State
from online_model.sightings import Sightings
from online_model.states import check_kind, missing_parts_named

_SOURCE = "source."


@dataclass(frozen=True, slots=True)
class _Known:
    """What the source proposes for one request, excluded rows left out: all above what is merely popular."""

    rows: Ints
    scores: Floats
    weights: npt.NDArray[np.float64]


class SourceLearner:
    """A source of candidates as a learner of its own; see `Learner`.

    A list holds the rows with a positive score, best first, of equals the more popular; then all others by popularity.

    Attributes:
        kind: Name of the learner.
    """

    def __init__(
        self, kind: str, config: ModelConfig, source: CandidateSource, signals: Sequence[float], *, label: str = ""
    ) -> None:
        """Start with a source that knows nothing.

        Args:
            kind: Name of the learner.
            config: Settings of vocabulary and popularity.
            source: What is asked.
            signals: Weight of each of its signals in the score.
            label: Where lists say that its items come from; the source's name where it is empty.
        """
        self.kind = kind
        self.config = config
        self._source = source
        self._signals = np.array(signals, np.float32)
        self._label = label or source.name
        self._sightings = Sightings(config)

    @property
    def n_items(self) -> int:
        """Live items."""
        return len(self._sightings.vocabulary)

    def recommend(self, requests: Sequence[Request], k: int) -> list[Ranked]:
        """Answer requests; see `Recommender`."""
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        found = self._known(requests)
        longest = max((len(known.rows) for known in found), default=0)
        popular = self._sightings.popular.retrieve(requests, k + min(k, longest))
        index = self._sightings.vocabulary.index
        return [
            present(index, request, self._list(known, rest, k))
            for request, known, rest in zip(requests, found, popular, strict=True)
        ]

    def rank(self, requests: Sequence[Request], targets: Sequence[str]) -> list[int]:
        """Rank targets in the whole catalogue; see `Recommender`."""
        rows = self._sightings.vocabulary.index.rows
        return [
            self._rank(request, known, rows[target]) if target in rows and target not in request.exclude else 0
            for request, known, target in zip(requests, self._known(requests), targets, strict=True)
        ]

    def learn(self, examples: Sequence[Example]) -> LearnReport:
        """Tell the source what happened; see `Learner`."""
        check(examples)
        plan = self._sightings.learn(examples)
        self._source.forget(np.fromiter(plan.evicted.values(), np.int64))
        taken = [example for example in examples if example.role in TARGETS]
        happened = occurrences(taken, self._row)
        if taken:
            self._source.fold(happened)
        lengths = np.diff(happened.queries.starts)
        n_lessons = int(((happened.items >= 0) & (happened.weights > 0) & (lengths > 0)).sum())
        return LearnReport(len(examples), n_lessons, None, len(plan.births), self.n_items)

    def state(self) -> State:
        """Return a copy of everything; see `Learner`."""
        state, source = self._sightings.state(), self._source.state(self.n_items)
        state.tensors |= {_SOURCE + name: tensor for name, tensor in source.tensors.items()}
        state.metadata |= {"kind": self.kind, "config": self.config.to_mapping(), "source": source.metadata}
        return state

    def load_state(self, state: State) -> None:
        """Become the learner that `state` was taken from; see `Learner`."""
        check_kind(state, self.kind)
        sightings = Sightings(self.config)
        sightings.load_state(state)
        facts = state.metadata.get("source")
        if not isinstance(facts, dict):
            raise ValueError("the saved model lacks facts about its source")
        parts = {name.removeprefix(_SOURCE): t for name, t in state.tensors.items() if name.startswith(_SOURCE)}
        # It is all or nothing, so it goes last.
        with missing_parts_named():
            self._source.load_state(State(parts, facts))
        self._sightings = sightings

    def _row(self, item: str) -> int:
        return self._sightings.vocabulary.index.rows.get(item, -1)

    def _known(self, requests: Sequence[Request]) -> list[_Known]:
        if not requests:
            return []
        found = self._source.score(queries([request.context for request in requests], self._row))
        scores = found.values @ self._signals
        index, weights = self._sightings.vocabulary.index, self._sightings.counts.weights(self.n_items)
        known = []
        for request, first, end in zip(requests, found.starts, found.starts[1:], strict=False):
            there = scores[first:end] > 0
            for row in excluded_rows(index, request):
                there &= found.rows[first:end] != row
            rows = found.rows[first:end][there]
            known.append(_Known(rows, scores[first:end][there], weights[rows]))
        return known

    def _list(self, known: _Known, popular: Retrieved, k: int) -> Retrieved:
        order = np.lexsort((known.rows, -known.weights, -known.scores))[:k]
        pairs = list(zip(known.rows[order].tolist(), known.scores[order].tolist(), strict=True))
        there = set(known.rows.tolist()) if len(pairs) < k else set()
        rest = [(row, score) for row, score in zip(popular.rows, popular.scores, strict=True) if row not in there]
        rest = rest[: k - len(pairs)]
        return Retrieved(
            [row for row, _ in (*pairs, *rest)],
            [score for _, score in (*pairs, *rest)],
            [self._label] * len(pairs) + ["popular"] * len(rest),
        )

    def _rank(self, request: Request, known: _Known, target: int) -> int:
        own = self._sightings.counts.weights(self.n_items)[target]
        above = known.weights >= own
        place = np.flatnonzero(known.rows == target)
        if len(place):
            score = known.scores[place[0]]
            return int(((known.scores > score) | ((known.scores == score) & above)).sum())
        # Behind all that are known, and behind the others that are as popular.
        return len(known.rows) + self._sightings.popular.rank(request, target) - int(above.sum())
