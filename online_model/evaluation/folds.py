"""Evaluation forward in time: one pass, told by runs of the stream that follow each other."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from online_model.evaluation.batches import Batches
from online_model.evaluation.contestant import Contestant, Cost, Racer
from online_model.evaluation.metrics import Ranks, hits_of, reciprocals_of
from online_model.evaluation.sequences import Step


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


def evaluate(
    learner: Racer,
    steps: Iterable[Step],
    n_events: int,
    n_folds: int,
    *,
    batch_size: int,
    served: bool = False,
    repeats: bool = False,
    on_batch: Callable[[int], None] = lambda n_events: None,
) -> tuple[Folds, Cost]:
    """Put a stream through a learner once, and tell how it did by fold and what it took; see `Prequential`.

    Raises:
        ValueError: No event is scored.
    """
    contestant, done = Contestant("model", learner, served=served), 0
    for batch in Batches(batch_size, repeats=repeats).cut(steps):
        contestant.take(batch)
        done += len(batch.steps)
        on_batch(done)
    return folds(contestant.log.ranks(), contestant.log.places(), n_events, n_folds), contestant.cost
