"""The next basket: a list made before any line of it is known, against all that it turns out to hold."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from online_model.evaluation.bootstrap import paired_bootstrap
from online_model.evaluation.contestant import Racer
from online_model.evaluation.metrics import DEPTH
from online_model.evaluation.sequences import Step
from online_model.protocol import Context, Request

Figures = npt.NDArray[np.float64]

# Share of the baskets, from the end, that figures are told of besides all.
_LAST = 0.7


@dataclass(frozen=True, slots=True)
class BasketOutcome:
    """What one pass gave.

    Attributes:
        events: Events in the stream.
        unscored: Baskets that were not scored, by reason: the first of their owner, or without a target.
        owners: Whose each scored basket is, as numbers, int64 [n_scored].
        recall: Share of each basket's distinct items among the 20 of its list, by model, float64 [n_scored].
        ndcg: Gain of the list, 1 / log2(place + 1) for each item of the basket, over that of a list that begins with
            them, by model, float64 [n_scored].
        seconds: Processor time that each model took for lists and learning.
    """

    events: int
    unscored: dict[str, int]
    owners: npt.NDArray[np.int64]
    recall: dict[str, Figures]
    ndcg: dict[str, Figures]
    seconds: dict[str, float]


@dataclass(slots=True)
class _Basket:
    """A basket whose lines are still coming."""

    key: str
    context: Context
    items: set[str] = field(default_factory=set)
    lists: dict[str, list[str]] = field(default_factory=dict)


class BasketRace:
    """Predict, then learn, by basket: all lines of one sequence with one timestamp.

    The list for a basket is made when its first line arrives, from what stood before it, with weights and counts of the
    mini-batches before. Any item may stand in it. The first basket of a sequence is not scored, nor one that holds
    nothing but returns. Items that were never seen before are misses.

    Args:
        models: By name.
        batch_size: Lines in a mini-batch.
        at_once: Learn every line of a basket with what stood before the basket, as if all came at once; otherwise
            lines come one by one, each with those before it.
    """

    def __init__(self, models: Mapping[str, Racer], batch_size: int, *, at_once: bool = False) -> None:
        self._models = models
        self._batch_size = batch_size
        self._at_once = at_once
        self._now = 0
        self._open: dict[str, _Basket] = {}
        self._numbers: dict[str, int] = {}
        self._owners: list[int] = []
        self._recall: dict[str, list[float]] = {name: [] for name in models}
        self._ndcg: dict[str, list[float]] = {name: [] for name in models}
        self._seconds = dict.fromkeys(models, 0.0)
        self._unscored = {"first": 0, "no target": 0}

    def run(self, steps: Iterable[Step], on_batch: Callable[[int], None] = lambda n_events: None) -> BasketOutcome:
        """Put a stream in the order of time through the models.

        Args:
            steps: The stream, repeats included.
            on_batch: Told the number of events so far after each mini-batch.
        """
        iterator, n_events = iter(steps), 0
        while taken := list(islice(iterator, self._batch_size)):
            self._take(taken)
            n_events += len(taken)
            on_batch(n_events)
        self._close()
        return BasketOutcome(
            n_events,
            {reason: n for reason, n in self._unscored.items() if n},
            np.array(self._owners, np.int64),
            {name: np.array(values, np.float64) for name, values in self._recall.items()},
            {name: np.array(values, np.float64) for name, values in self._ndcg.items()},
            self._seconds,
        )

    def _take(self, steps: Sequence[Step]) -> None:
        begun, examples, over = [], [], list[_Basket]()
        for step in steps:
            example = step.example
            if example.context.now != self._now:
                over += self._open.values()
                self._open, self._now = {}, example.context.now
            basket = self._open.get(step.key)
            if basket is None:
                basket = self._open[step.key] = _Basket(step.key, example.context)
                if example.context.history:
                    begun.append(basket)
            if step.visit is not None:
                basket.items.add(step.visit[0])
            examples.append(replace(example, context=basket.context) if self._at_once else example)
        requests = [Request(basket.context) for basket in begun]
        for name, model in self._models.items():
            start = time.process_time()
            for basket, ranked in zip(begun, model.recommend(requests, DEPTH), strict=True):
                basket.lists[name] = ranked.items
            model.learn(examples)
            self._seconds[name] += time.process_time() - start
        # Only now do those have their lists that began and ended within this mini-batch.
        for basket in over:
            self._score(basket)

    def _close(self) -> None:
        for basket in self._open.values():
            self._score(basket)
        self._open = {}

    def _score(self, basket: _Basket) -> None:
        if not basket.lists or not basket.items:
            self._unscored["no target" if basket.lists else "first"] += 1
            return
        self._owners.append(self._numbers.setdefault(basket.key, len(self._numbers)))
        for name, items in basket.lists.items():
            recall, ndcg = basket_figures(items, basket.items)
            self._recall[name].append(recall)
            self._ndcg[name].append(ndcg)


def summarise(outcome: BasketOutcome) -> dict[str, Any]:
    """Return means, and what the first model is ahead of each other one, with 95% intervals by user.

    Args:
        outcome: Of a stream with a scored basket at least.
    """
    first, *others = outcome.recall
    n_first = round(len(outcome.owners) * (1 - _LAST))
    found: dict[str, Any] = {
        "events": outcome.events,
        "baskets": len(outcome.owners),
        "unscored": outcome.unscored,
        "models": {
            name: {
                "recall": float(outcome.recall[name].mean()),
                "ndcg": float(outcome.ndcg[name].mean()),
                "recall_last_70": float(outcome.recall[name][n_first:].mean()),
                "ndcg_last_70": float(outcome.ndcg[name][n_first:].mean()),
                "events_per_second": outcome.events / max(outcome.seconds[name], 1e-9),
            }
            for name in outcome.recall
        },
    }
    for name in others:
        differences = np.stack([figure[first] - figure[name] for figure in (outcome.recall, outcome.ndcg)], 1)
        recall, ndcg = paired_bootstrap(outcome.owners, differences)
        found["models"][name]["behind"] = {"recall": asdict(recall), "ndcg": asdict(ndcg)}
    return found


def basket_figures(items: Sequence[str], targets: set[str]) -> tuple[float, float]:
    """Return recall and NDCG of a list.

    Args:
        items: The list, best first, no item twice.
        targets: What the basket holds, at least one item.

    >>> basket_figures(["a", "b", "c"], {"a", "x"})
    (0.5, 0.6131471927654584)
    """
    gains = 1.0 / np.log2(np.arange(2, 2 + max(len(items), len(targets))))
    hits = np.array([item in targets for item in items], np.bool_)
    ideal = float(gains[: min(DEPTH, len(targets))].sum())
    return float(hits.sum() / len(targets)), float(gains[: len(items)][hits].sum() / ideal)
