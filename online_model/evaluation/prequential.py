"""Predict, then learn: one pass over a stream in which nothing later than an event is visible to its prediction."""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from online_model.evaluation.batches import Batch, Batches
from online_model.evaluation.contestant import Contestant
from online_model.evaluation.metrics import Accuracy, RankLog, Ranks
from online_model.evaluation.sequences import Step
from online_model.evaluation.watch import Watch
from online_model.protocol import Learner, Recommender


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
        ranks: Of the scored events' targets, in order.
        groups: What the scored events' figures are told by, in the same order.
    """

    events: int
    accuracy: Accuracy
    unscored: dict[str, int]
    comparison: Comparison | None
    seconds: float
    ranks: Ranks
    groups: list[str] = field(default_factory=list)


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
        repeats: Score events that repeat the item just before them, and rank the item that a user is on too.
        watch: Takes notes for figures that need lists, of the model that it knows as "model".
    """

    def __init__(
        self,
        learner: Learner,
        batch_size: int,
        freeze: Freeze | None = None,
        *,
        served: bool = False,
        repeats: bool = False,
        watch: Watch | None = None,
    ) -> None:
        self._live = Contestant("model", learner, served=served, lists=watch is not None)
        self._batches = Batches(batch_size, repeats=repeats)
        self._freeze = freeze
        self._watch = watch
        self._frozen: Recommender | None = None
        self._frozen_after = 0
        self._paired_log, self._frozen_log = RankLog(), RankLog()
        self._unscored: Counter[str] = Counter()
        self._groups: list[str] = []
        self._n_events = 0

    def run(self, steps: Iterable[Step], on_batch: Callable[[int], None] = lambda n_events: None) -> Outcome:
        """Put a stream through the learner.

        Args:
            steps: The stream.
            on_batch: Told the number of events so far after each mini-batch.
        """
        begin = time.perf_counter()
        for batch in self._batches.cut(steps):
            if self._freeze is not None and self._frozen is None and self._n_events >= self._freeze.after:
                self._frozen, self._frozen_after = self._freeze.copy(), self._n_events
            self._take(batch)
            self._n_events += len(batch.steps)
            on_batch(self._n_events)
        if self._watch is not None:
            self._watch.finish()
        return Outcome(
            self._n_events,
            self._live.log.accuracy(self._n_events),
            dict(self._unscored),
            self._compare(),
            time.perf_counter() - begin,
            self._live.log.ranks(),
            self._groups,
        )

    def _take(self, batch: Batch) -> None:
        if self._watch is not None:
            self._watch.observe(batch)
        answers = self._live.take(batch)
        if self._watch is not None:
            self._watch.note(batch, {self._live.name: answers})
        self._groups.extend(batch.steps[place].group for place in batch.scored)
        if self._frozen is not None:
            frozen = self._frozen.rank(batch.requests, batch.targets)
            for place, rank, rank_frozen in zip(batch.scored, answers.ranks, frozen, strict=True):
                self._paired_log.add(batch.start + place, rank)
                self._frozen_log.add(batch.start + place, rank_frozen)
        reasons = (self._batches.unscored(step) for step in batch.steps)
        self._unscored.update(reason for reason in reasons if reason is not None)

    def _compare(self) -> Comparison | None:
        if self._frozen is None:
            return None
        n_events = self._n_events
        return Comparison(self._frozen_after, self._paired_log.accuracy(n_events), self._frozen_log.accuracy(n_events))
