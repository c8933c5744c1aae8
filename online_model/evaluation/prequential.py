"""Predict, then learn: one pass over a stream in which nothing later than an event is visible to its prediction."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, runtime_checkable

from online_model.evaluation.metrics import Accuracy, RankLog
from online_model.evaluation.sequences import Step
from online_model.evaluation.tally import DEPTH
from online_model.lessons import TARGETS
from online_model.protocol import Example, Learner, Recommender, Request


@runtime_checkable
class Admits(Protocol):
    """A learner whose new items can be recommended before their first batch is learned."""

    def admit(self, examples: Sequence[Example]) -> list[str]:
        """Let the new items of a batch in; return them."""
        ...


@dataclass(frozen=True, slots=True)
class Freeze:
    """A copy that stops learning part of the way, for comparison.

    Attributes:
        after: Events of the stream before the copy is taken.
        copy: Returns an equal of the learner that nothing changes any more.
    """

    after: int
    copy: Callable[[], Recommender]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The learner and its frozen copy on the same events: those after the copy was taken.

    Attributes:
        after: Events before the copy was taken, a whole number of mini-batches.
        live: Of the learner.
        frozen: Of the copy.
    """

    after: int
    live: Accuracy
    frozen: Accuracy


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one pass gave.

    Attributes:
        events: Events in the stream.
        accuracy: Of the learner.
        unscored: Events that were not scored, by reason.
        comparison: With a frozen copy, where one was asked for.
        seconds: How long it took, reading included.
    """

    events: int
    accuracy: Accuracy
    unscored: dict[str, int]
    comparison: Comparison | None
    seconds: float


class Prequential:
    """Mini-batches of a stream, each ranked with the weights as they stood before it and then learned.

    Items that are born in a batch are in the catalogue that the batch's targets are ranked in, and their own first
    event is a miss. The item that a user is on is never ranked. Ties count against the model.

    Args:
        learner: What predicts and learns.
        batch_size: Events in a mini-batch.
        freeze: A copy that stops learning, for comparison; it answers when the event arrives.
        served: Measure an event against the list that was made when its sequence's previous event arrived, which is
            what a user had before them: the live measure. Otherwise it is ranked when it arrives: the literature's.
    """

    def __init__(
        self, learner: Learner, batch_size: int, freeze: Freeze | None = None, *, served: bool = False
    ) -> None:
        self._learner = learner
        self._batch_size = batch_size
        self._freeze = freeze
        self._served: dict[str, list[str]] | None = {} if served else None
        self._frozen: Recommender | None = None
        self._frozen_after = 0
        self._live_log, self._paired_log, self._frozen_log = RankLog(), RankLog(), RankLog()
        self._seen: set[str] = set()
        self._unscored: Counter[str] = Counter()
        self._n_events = 0

    def run(self, steps: Iterable[Step], on_batch: Callable[[int], None] = lambda n_events: None) -> Outcome:
        """Put a stream through the learner.

        Args:
            steps: The stream.
            on_batch: Told the number of events so far after each mini-batch.
        """
        begin = time.perf_counter()
        for batch in _batches(steps, self._batch_size):
            if self._freeze is not None and self._frozen is None and self._n_events >= self._freeze.after:
                self._frozen, self._frozen_after = self._freeze.copy(), self._n_events
            self._take(batch)
            on_batch(self._n_events)
        return Outcome(
            self._n_events,
            self._live_log.accuracy(self._n_events),
            dict(self._unscored),
            self._compare(),
            time.perf_counter() - begin,
        )

    def _take(self, batch: Sequence[Step]) -> None:
        examples = [step.example for step in batch]
        unseen = self._admit(examples)
        scored = [place for place, step in enumerate(batch) if step.unscored is None]
        requests = [_request(examples[place]) for place in scored]
        targets = [examples[place].item or "" for place in scored]
        ranks = self._learner.rank(requests, targets) if self._served is None else self._ranks_served(batch, scored)
        frozen = self._frozen.rank(requests, targets) if self._frozen is not None else None
        for index, place in enumerate(scored):
            rank = 0 if place in unseen else ranks[index]
            self._live_log.add(self._n_events + place, rank)
            if frozen is not None:
                self._paired_log.add(self._n_events + place, rank)
                self._frozen_log.add(self._n_events + place, frozen[index])
        self._unscored.update(step.unscored for step in batch if step.unscored is not None)
        self._learner.learn(examples)
        self._n_events += len(batch)

    def _ranks_served(self, batch: Sequence[Step], scored: Sequence[int]) -> list[int]:
        """Serve a list after each event of the batch; return where the scored ones' items stood in the list before."""
        assert self._served is not None
        answered = [step for step in batch if step.visit is not None]
        contexts = [step.context_after() for step in answered]
        requests = [Request(context, frozenset((context.history[-1][0],))) for context in contexts]
        lists = iter(self._learner.recommend(requests, DEPTH))
        ranks: dict[int, int] = {}
        for place, step in enumerate(batch):
            before = self._served.get(step.key, [])
            if step.example.item in before:
                ranks[place] = before.index(step.example.item) + 1
            if step.visit is not None:
                self._served[step.key] = next(lists).items
        return [ranks.get(place, 0) for place in scored]

    def _admit(self, examples: Sequence[Example]) -> set[int]:
        """Let new items in; the places of the events at which an item was new."""
        back = set(self._learner.admit(examples)) if isinstance(self._learner, Admits) else set()
        unseen = set()
        for place, example in enumerate(examples):
            if example.role in TARGETS and example.item is not None:
                if example.item not in self._seen or example.item in back:
                    unseen.add(place)
                    back.discard(example.item)
                self._seen.add(example.item)
        return unseen

    def _compare(self) -> Comparison | None:
        if self._frozen is None:
            return None
        n_events = self._n_events
        return Comparison(self._frozen_after, self._paired_log.accuracy(n_events), self._frozen_log.accuracy(n_events))


def _request(example: Example) -> Request:
    return Request(example.context, frozenset((example.context.history[-1][0],)))


def _batches(steps: Iterable[Step], size: int) -> Iterator[list[Step]]:
    iterator = iter(steps)
    while batch := list(islice(iterator, size)):
        yield batch
