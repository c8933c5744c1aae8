"""Orders of candidates that need no learning: fixed weights, reciprocal ranks, votes."""

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from online_model.candidates.evidence import Examined
from online_model.candidates.queries import Floats
from online_model.candidates.signals import SIGNALS

_OPINIONS = tuple(SIGNALS.index(name) for name in ("neural_score", "all_rules_share", "vsknn"))
_WEIGHTS = (1.0, 0.5, 0.5)
# Source: Cormack, Clarke and Buettcher 2009, SIGIR, which found 60 to do well everywhere.
_RANK_OFFSET = 60.0
_VOTED = 20


def weighted(examined: Examined) -> Floats:
    """Score by a weighted sum of neural score, rules and neighbours, each scaled to 0..1 within its query."""
    total = np.zeros(examined.rows.shape, np.float32)
    for signal, weight in zip(_OPINIONS, _WEIGHTS, strict=True):
        values = examined.signals[..., signal]
        there = examined.rows >= 0
        low = np.where(there, values, np.inf).min(1, keepdims=True)
        high = np.where(there, values, -np.inf).max(1, keepdims=True)
        total += weight * (values - low) / np.maximum(high - low, 1e-9)
    return total


def reciprocal_ranks(examined: Examined) -> Floats:
    """Score by the sum of 1 / (60 + rank) over neural score, rules and neighbours.

    Source: Cormack, Clarke and Buettcher 2009, "Reciprocal rank fusion outperforms Condorcet", SIGIR.
    """
    scores: Floats = np.sum([1.0 / (_RANK_OFFSET + ranks) for ranks in _ranks(examined)], axis=0, dtype=np.float32)
    return scores


def voting(examined: Examined) -> Floats:
    """Score by how many of neural score, rules and neighbours list it among their first 20; neural ranks break ties."""
    neural, *others = _ranks(examined)
    votes: Floats = np.sum([ranks <= _VOTED for ranks in (neural, *others)], axis=0, dtype=np.float32)
    return votes - neural / np.float32(1e4)


def _ranks(examined: Examined) -> list[npt.NDArray[np.float32]]:
    """Rank of each candidate by each opinion, 1 for the best; one that nothing is known about comes last."""
    found = []
    for signal in _OPINIONS:
        values = np.where(examined.rows >= 0, examined.signals[..., signal], -np.inf)
        ranks = np.argsort(np.argsort(-values, axis=1, kind="stable"), axis=1, kind="stable") + 1.0
        known = np.ones_like(values, np.bool_) if signal == _OPINIONS[0] else values > 0
        found.append(np.where(known, ranks, 1e3).astype(np.float32))
    return found


FIXED: Mapping[str, Callable[[Examined], Floats]] = {
    "weighted": weighted,
    "reciprocal-ranks": reciprocal_ranks,
    "voting": voting,
}
