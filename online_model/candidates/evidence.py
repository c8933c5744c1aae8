"""All that is counted beside the weights: which candidates it proposes, and what it knows about each."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from online_model.candidates.folds import Fold
from online_model.candidates.neighbours import Neighbours
from online_model.candidates.pairs import PairCounts
from online_model.candidates.pool import history_places, pool
from online_model.candidates.queries import Floats, Ints, Queries
from online_model.candidates.scratch import Scratch
from online_model.candidates.similarity import SIMILARITIES
from online_model.candidates.trends import Trends
from online_model.config import ModelConfig
from online_model.protocol import State

SIGNALS = (
    "neural_score",
    "neural_rank",
    "next_share",
    "next_count",
    "rules_share",
    "all_rules_share",
    "back_count",
    "vsknn",
    "stan",
    "popular_500",
    "popular_5k",
    "popular_50k",
    "age",
    "unseen_for",
    "in_sitting",
    "sitting_place",
    "in_history",
    "history_place",
    "visits",
    *SIMILARITIES,
)
"""What is known about a candidate, in the order of the columns."""

FACTS = ("next_total", "rules_total", "neighbours_total", "sitting_length", "current_popularity", "pause", "confidence")
"""What is known about a query, in the order of the columns."""

SOURCES = ("recurrent", "history", "neighbours", "rules", "transitions", "popular")
"""Where a candidate may come from, by number."""

_N_NEIGHBOURS, _N_RULES, _N_NEXT, _N_POPULAR, _N_HISTORY = 50, 50, 20, 15, 20
# Logarithms of shares and of faded counts start where these stand, so that "nothing known" is 0.
_SHARE_FLOOR, _COUNT_FLOOR = 1e-3, 1e-2


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
        proposals = [
            retrieved,
            # Early, so that no full pool leaves them out: people return to what is theirs.
            np.concatenate([_latest(queries.starts, queries.rows), _latest(queries.older_starts, queries.older)], 1),
            np.zeros((n_queries, 0), np.int32) if near is None else near.best(1, _N_NEIGHBOURS),
            pairs.best(2, _N_RULES),
            pairs.best(0, _N_NEXT),
            np.tile(
                np.concatenate([top[:_N_POPULAR] for top in self._trends.tops(n_rows, _N_POPULAR)[:2]]), (n_queries, 1)
            ),
        ]
        marks = self._scratch.of(n_rows)
        found = pool(proposals, marks, self._limit)
        rows = found.rows
        absent = rows < 0
        signals = np.zeros((*rows.shape, len(SIGNALS)), np.float32)
        facts = np.zeros((n_queries, len(FACTS)), np.float32)

        currents = _currents(queries)
        totals = self._pairs.totals(currents)
        known = pairs.look_up(rows, marks)
        signals[..., 2] = _share(known[..., 0], totals[:, :1] + 2.0)
        signals[..., 3] = np.log1p(known[..., 0])
        signals[..., 4] = _share(known[..., 1], totals[:, 1:] + 1.0)
        signals[..., 5] = _share(known[..., 2], known[..., 2].sum(1, keepdims=True) + 1.0)
        signals[..., 6] = np.log1p(self._pairs.backwards(rows, currents))
        if near is not None:
            like = near.look_up(rows, marks)
            sums = like.sum(1, keepdims=True)
            signals[..., 7:9] = _share(like, sums + 1e-6)
            facts[:, 2] = np.log1p(sums[:, 0, 0])
        seen = self._trends.look_up(rows)
        signals[..., 9:12] = np.log(seen[..., :3] + _COUNT_FLOOR) - np.log(_COUNT_FLOOR)
        signals[..., 12] = np.log1p(seen[..., 3]) - 8.0
        signals[..., 13] = np.log1p(seen[..., 4]) - 6.0
        places = history_places(queries, rows)
        signals[..., 14:18:2] = places[..., :2] > 0
        signals[..., 15:18:2] = np.log1p(places[..., :2])
        signals[..., 18] = np.log1p(places[..., 2])
        signals[absent] = 0.0

        facts[:, :2] = np.log1p(totals)
        facts[:, 3] = np.log(np.maximum(np.diff(queries.starts), 1))
        facts[:, 4] = np.where(currents >= 0, np.log1p(self._trends.look_up(currents)[:, 1]), 0.0)
        facts[:, 5] = np.log1p(queries.pauses)
        return Candidates(queries, rows, found.sources, signals, facts)

    def complete(self, candidates: Candidates, scores: Floats, similarities: Floats) -> Examined:
        """Add what the recurrent model says.

        Args:
            candidates: From `gather`.
            scores: Its scores of the candidates, anything beyond the last, float32 [n_queries, n_candidates].
            similarities: Of the candidates' vectors to those of the sitting, anything beyond the last, float32
                [n_queries, n_candidates, len(SIMILARITIES)].
        """
        rows, signals, facts = candidates.rows, candidates.signals, candidates.facts
        absent = rows < 0
        signals[..., 0] = np.where(absent, 0.0, scores)
        signals[..., -len(SIMILARITIES) :] = np.where(absent[..., None], 0.0, similarities)
        # The retrieved stand first, in order; all others are somewhere behind them.
        ranks = np.minimum(np.arange(rows.shape[1]), self._n_neural)
        signals[..., 1] = np.where(absent, 0.0, -np.log1p(ranks))
        last = min(20, rows.shape[1]) - 1
        facts[:, 6] = np.where(absent[:, last], 0.0, scores[:, 0] - scores[:, last])
        return Examined(rows, candidates.sources, signals, facts)

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


def _share(values: Floats, totals: Floats) -> Floats:
    shares: Floats = np.log(values / totals + np.float32(_SHARE_FLOOR)) - np.float32(np.log(_SHARE_FLOOR))
    return shares


def _currents(queries: Queries) -> Ints:
    """The item that each query's user is on, -1 where there is none."""
    ends = queries.starts[1:]
    return np.where(np.diff(queries.starts) > 0, np.append(queries.rows, np.int32(-1))[ends - 1], -1).astype(np.int32)


def _latest(starts: "np.ndarray[tuple[int], np.dtype[np.int64]]", rows: Ints) -> Ints:
    """The last rows of each part, latest first, -1 beyond them, int32 [n, _N_HISTORY]."""
    places = starts[1:, None] - 1 - np.arange(_N_HISTORY)
    there = places >= starts[:-1, None]
    padded = np.append(rows, np.int32(-1))
    return np.where(there, padded[np.where(there, places, -1)], -1).astype(np.int32)
