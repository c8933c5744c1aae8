"""Evaluation forward in time: one pass, told by runs of the stream that follow each other."""

from dataclasses import dataclass

import numpy as np

from online_model.evaluation.metrics import Ranks, hits_of, reciprocals_of


@dataclass(frozen=True, slots=True)
class Folds:
    """How a model did on consecutive runs of a stream; each was predicted with what was learned before it.

    Attributes:
        recall: At 20, of each fold that has scored events.
        mrr: At 20, likewise.
    """

    recall: list[float]
    mrr: list[float]

    def mean(self, figure: str) -> float:
        """Return the mean over the folds of "recall" or "mrr"."""
        return float(np.mean(getattr(self, figure)))

    def std(self, figure: str) -> float:
        """Return the sample standard deviation over the folds; 0 of a single one."""
        values = getattr(self, figure)
        return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def folds(ranks: Ranks, places: Ranks, n_events: int, n_folds: int) -> Folds:
    """Cut a stream of `n_events` events into folds of the same number of events.

    Args:
        ranks: Of the scored events' targets, 0 for a miss.
        places: Of the scored events in the stream.
        n_events: Events in the stream.
        n_folds: How many folds.

    Raises:
        ValueError: No event is scored.

    >>> folds(np.array([1, 0, 2, 1]), np.array([0, 1, 2, 3]), 4, 2)
    Folds(recall=[0.5, 1.0], mrr=[0.5, 0.75])
    """
    if not len(ranks):
        raise ValueError("no event is scored, so that there is nothing to evaluate")
    fold_of = places * n_folds // n_events
    hits, reciprocal = hits_of(ranks), reciprocals_of(ranks)
    chosen = [fold_of == fold for fold in np.unique(fold_of)]
    return Folds([float(hits[mask].mean()) for mask in chosen], [float(reciprocal[mask].mean()) for mask in chosen])
