"""A learner under test: answers a mini-batch, learns it, and what both cost is noted."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from online_model.evaluation.batches import Batch
from online_model.evaluation.metrics import DEPTH, RankLog
from online_model.protocol import Example, LearnReport, Ranked, Recommender, Request


class Racer(Recommender, Protocol):
    """What can take part: a learner, or something that answers and only watches."""

    def learn(self, examples: Sequence[Example]) -> LearnReport:
        """Take notice of one mini-batch; see `Learner`."""
        ...


@runtime_checkable
class Admits(Protocol):
    """A learner whose new items can be recommended before their first batch is learned."""

    def admit(self, examples: Sequence[Example]) -> list[str]:
        """Let the new items of a batch in; return them."""
        ...


@dataclass(slots=True)
class Cost:
    """What a learner took.

    Attributes:
        answer_seconds: CPU time of the answers that ranks were taken from.
        learn_seconds: CPU time of learning.
        list_seconds: CPU time of lists that were made for figures alone, beside the ranks.
        wall_seconds: Time by the clock of answers and learning together, without those lists.
    """

    answer_seconds: float = 0.0
    learn_seconds: float = 0.0
    list_seconds: float = 0.0
    wall_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Answers:
    """What a learner knew of a mini-batch's scored events.

    Attributes:
        ranks: Of their targets, 1-based; 0 for a miss.
        lists: The best items for each; None where lists were not asked for.
    """

    ranks: list[int]
    lists: list[Ranked] | None


_NOTHING = Ranked([], [], [], 0)


class Contestant:
    """A learner under test; its own clock runs only while it works.

    Args:
        name: What reports call it.
        learner: What answers and learns.
        served: Measure an event against the list that was made when its sequence's previous event arrived, which is
            what a user had before them: the live measure. Otherwise it is ranked when it arrives: the literature's.
        lists: Make a list for every scored event, for figures that need more than ranks.

    Attributes:
        name: What reports call it.
        log: The ranks so far.
        cost: What it took so far.
    """

    def __init__(self, name: str, learner: Racer, *, served: bool = False, lists: bool = False) -> None:
        self.name = name
        self.log = RankLog()
        self.cost = Cost()
        self._learner = learner
        self._served: dict[str, Ranked] | None = {} if served else None
        self._lists = lists

    def take(self, batch: Batch) -> Answers:
        """Answer a mini-batch with the weights as they stood before it, and then learn it."""
        with self._clock("learn_seconds"):
            admitted = self._learner.admit(batch.examples) if isinstance(self._learner, Admits) else []
        ranks, lists = self._ranked(batch) if self._served is None else self._looked_up(batch, self._served)
        unseen = batch.unseen_with(admitted)
        ranks = [0 if place in unseen else rank for place, rank in zip(batch.scored, ranks, strict=True)]
        for place, rank in zip(batch.scored, ranks, strict=True):
            self.log.add(batch.start + place, rank)
        with self._clock("learn_seconds"):
            self._learner.learn(batch.examples)
        return Answers(ranks, lists)

    def _ranked(self, batch: Batch) -> tuple[list[int], list[Ranked] | None]:
        """Rank the targets as they arrive."""
        with self._clock("answer_seconds"):
            ranks = self._learner.rank(batch.requests, batch.targets)
        if not self._lists:
            return ranks, None
        with self._clock("list_seconds"):
            return ranks, self._learner.recommend(batch.requests, DEPTH)

    def _looked_up(self, batch: Batch, served: dict[str, Ranked]) -> tuple[list[int], list[Ranked] | None]:
        """Serve a list after each event of the batch; find the scored ones' items in the lists before."""
        answered = [step for step in batch.steps if step.visit is not None]
        contexts = [step.context_after() for step in answered]
        requests = [Request(context, frozenset((context.history[-1][0],))) for context in contexts]
        with self._clock("answer_seconds"):
            fresh = iter(self._learner.recommend(requests, DEPTH))
        before: list[Ranked] = []
        for step in batch.steps:
            before.append(served.get(step.key, _NOTHING))
            if step.visit is not None:
                served[step.key] = self._kept(next(fresh))
        lists = [before[place] for place in batch.scored]
        ranks = [_place(ranked.items, target) for ranked, target in zip(lists, batch.targets, strict=True)]
        return ranks, lists if self._lists else None

    def _kept(self, ranked: Ranked) -> Ranked:
        """What has to be remembered of a list until its user's next event: one is kept for every key of the stream."""
        return Ranked(ranked.items, [], [], ranked.n_candidates, ranked.probabilities if self._lists else None)

    @contextmanager
    def _clock(self, phase: str) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        setattr(self.cost, phase, getattr(self.cost, phase) + time.process_time() - cpu)
        if phase != "list_seconds":
            self.cost.wall_seconds += time.perf_counter() - wall


def _place(items: list[str], target: str) -> int:
    return items.index(target) + 1 if target in items else 0
