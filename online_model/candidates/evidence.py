"""All that is counted beside the weights: which candidates it proposes, and what it knows about each."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from online_model.candidates.folds import Fold
from online_model.candidates.neighbours import Neighbours
from online_model.candidates.pairs import PairCounts
from online_model.candidates.pool import history_places, latest, pool
from online_model.candidates.queries import Floats, Ints, Queries
from online_model.candidates.scratch import Scratch
from online_model.candidates.signals import FACTS, count_signals, model_signals
from online_model.candidates.trends import Trends
from online_model.config import ModelConfig
from online_model.protocol import State

SOURCES = ("recurrent", "history", "neighbours", "rules", "transitions", "popular")
"""Where a candidate may come from, by number."""

_N_NEIGHBOURS, _N_RULES, _N_NEXT, _N_POPULAR, _N_HISTORY = 50, 50, 20, 15, 20


@dataclass(frozen=True, slots=True)
class Examined:
    """Candidates with all that is known about them.

    Attributes:
        rows: -1 beyond the last, int32 [n_queries, n_candidates].
        sources: Numbers into `SOURCES`, -1 beyond the last, int8 as `rows`.
        signals: 0 beyond the last, float32 [n_queries, n_candidates, len(SIGNALS)].
        facts: float32 [n_queries, len(FACTS)].
    """

    rows: Ints
    sources: "np.ndarray[tuple[int, int], np.dtype[np.int8]]"
    signals: Floats
    facts: Floats


@dataclass(frozen=True, slots=True)
class Candidates:
    """A pool, and what the counts know about it; neural scores are still to come."""

    queries: Queries
    rows: Ints
    sources: "np.ndarray[tuple[int, int], np.dtype[np.int8]]"
    signals: Floats
    facts: Floats


class Evidence:
    """Counts of what followed what, of what like-minded sittings hold, and of what is popular.

    Asking changes nothing. Telling it what happened is one deterministic fold, so that copies which are told the same
    are the same.
    """

    def __init__(self, config: ModelConfig) -> None:
        self._limit = config.candidates
        self._n_neural = config.retrieved
        self._pairs = PairCounts(config.follower_slots, config.follower_half_life)
        self._neighbours = Neighbours(config.neighbour_sittings) if config.neighbour_sittings else None
        self._trends = Trends()
        self._scratch = Scratch()

    def gather(self, queries: Queries, retrieved: Ints, n_rows: int) -> Candidates:
        """Return the candidates of all sources with the signals of the counts.

        Args:
            queries: Who asks.
            retrieved: The best rows of the recurrent model, best first, int32 [n_queries, n_retrieved].
            n_rows: Rows of the vocabulary.
        """
        pairs = self._pairs.score(queries)
        near = None if self._neighbours is None else self._neighbours.score(queries)
        n_queries = len(queries)
        popular = np.concatenate([top[:_N_POPULAR] for top in self._trends.tops(n_rows, _N_POPULAR)[:2]])
        proposals = [
            retrieved,
            # Early, so that no full pool leaves them out: people return to what is theirs.
            latest(queries, _N_HISTORY),
            np.zeros((n_queries, 0), np.int32) if near is None else near.best(1, _N_NEIGHBOURS),
            pairs.best(2, _N_RULES),
            pairs.best(0, _N_NEXT),
            np.broadcast_to(popular, (n_queries, len(popular))),
        ]
        marks = self._scratch.of(n_rows)
        found = pool(proposals, marks, self._limit)
        rows = found.rows
        currents = latest(queries, 1)[:, 0].copy()
        totals = self._pairs.totals(currents)
        signals, liked = count_signals(
            rows,
            pairs.look_up(rows, marks),
            totals,
            self._pairs.backwards(rows, currents),
            np.zeros((*rows.shape, 2), np.float32) if near is None else near.look_up(rows, marks),
            self._trends.look_up(rows),
            history_places(queries, rows),
        )
        return Candidates(queries, rows, found.sources, signals, self._facts(queries, currents, totals, liked))

    def _facts(self, queries: Queries, currents: Ints, totals: Floats, liked: Floats) -> Floats:
        facts = np.zeros((len(queries), len(FACTS)), np.float32)
        facts[:, :2] = np.log1p(totals)
        facts[:, 2] = liked
        facts[:, 3] = np.log(np.maximum(queries.starts[1:] - queries.starts[:-1], 1))
        facts[:, 4] = np.where(currents >= 0, np.log1p(self._trends.look_up(currents)[:, 1]), 0.0)
        facts[:, 5] = np.log1p(queries.pauses)
        return facts

    def complete(self, candidates: Candidates, scores: Floats, similarities: Floats) -> Examined:
        """Add what the recurrent model says.

        Args:
            candidates: From `gather`.
            scores: Its scores of the candidates, anything beyond the last, float32 [n_queries, n_candidates].
            similarities: Of the candidates' vectors to those of the sitting, anything beyond the last, float32
                [n_queries, n_candidates, len(SIMILARITIES)].
        """
        rows, facts = candidates.rows, candidates.facts
        model_signals(rows, scores, similarities, self._n_neural, candidates.signals, facts[:, 6])
        return Examined(rows, candidates.sources, candidates.signals, facts)

    def seen(self, rows: Ints) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
        """Return whether anybody has been seen at each row, bool [n]: not so for items that have only been admitted."""
        return self._trends.seen(rows)

    def fold(self, step: Fold) -> None:
        """Take in what happened, in order."""
        for part in self._parts().values():
            part.forget(step.forgotten)
            if step.occurrences is not None:
                part.fold(step.occurrences)

    def state(self, n_rows: int) -> State:
        """Return a copy of everything about the first rows."""
        tensors: dict[str, torch.Tensor] = {}
        metadata: dict[str, object] = {}
        for name, part in self._parts().items():
            state = part.state(n_rows)
            tensors |= {f"{name}.{key}": tensor for key, tensor in state.tensors.items()}
            metadata[name] = state.metadata
        return State(tensors, metadata)

    def load_state(self, state: State) -> None:
        """Become the evidence that `state` was taken from.

        Raises:
            ValueError: A part is missing, or of another size.
        """
        for name, part in self._parts().items():
            facts = state.metadata.get(name)
            if not isinstance(facts, dict):
                raise ValueError(f"the saved model lacks {name}")
            prefix = f"{name}."
            own = {key.removeprefix(prefix): t for key, t in state.tensors.items() if key.startswith(prefix)}
            part.load_state(State(own, facts))

    def _parts(self) -> Mapping[str, PairCounts | Neighbours | Trends]:
        parts: dict[str, PairCounts | Neighbours | Trends] = {"pairs": self._pairs, "trends": self._trends}
        return parts if self._neighbours is None else parts | {"neighbours": self._neighbours}
