"""Several models on one stream: the same mini-batches, the same events scored, each model's cost on its own clock."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from online_model.evaluation.batches import Batch, Batches
from online_model.evaluation.contestant import Contestant, Cost
from online_model.evaluation.metrics import Ranks
from online_model.evaluation.sequences import Step
from online_model.evaluation.watch import Watch


@dataclass(frozen=True, slots=True)
class RaceOutcome:
    """What one pass gave.

    Attributes:
        events: Events in the stream.
        unscored: Events that were not scored, by reason.
        watch: What the scored events were, and what lists held.
        ranks: Of the scored events' targets, in order, by model.
        costs: What each model took.
    """

    events: int
    unscored: dict[str, int]
    watch: Watch
    ranks: dict[str, Ranks]
    costs: dict[str, Cost]


class Race:
    """Predict, then learn, for several models at once; see `Prequential` for what is measured.

    Args:
        contestants: The models; no name twice.
        batch_size: Events in a mini-batch, the same ones for all.
        n_events: Events in the stream.
        repeats: Score events that repeat the item just before them, and rank the item that a user is on too.
        lists: Watch the models' lists; the contestants must make them.

    Raises:
        ValueError: Two contestants have one name.
    """

    def __init__(
        self,
        contestants: Sequence[Contestant],
        batch_size: int,
        n_events: int,
        *,
        repeats: bool = False,
        lists: bool = True,
    ) -> None:
        names = [contestant.name for contestant in contestants]
        twice = sorted(name for name, n in Counter(names).items() if n > 1)
        if twice:
            raise ValueError(f"two models are called {twice[0]}")
        self._contestants = contestants
        self._batches = Batches(batch_size, repeats=repeats)
        self._watch = Watch(names, n_events, lists=lists)
        self._unscored: Counter[str] = Counter()

    def run(self, steps: Iterable[Step], on_batch: Callable[[int], None] = lambda n_events: None) -> RaceOutcome:
        """Put a stream through the models.

        Args:
            steps: The stream.
            on_batch: Told the number of events so far after each mini-batch.
        """
        n_events = 0
        for batch in self._batches.cut(steps):
            self._take(batch)
            n_events += len(batch.steps)
            on_batch(n_events)
        self._watch.finish()
        return RaceOutcome(
            n_events,
            dict(self._unscored),
            self._watch,
            {contestant.name: contestant.log.ranks() for contestant in self._contestants},
            {contestant.name: contestant.cost for contestant in self._contestants},
        )

    def _take(self, batch: Batch) -> None:
        self._watch.observe(batch)
        self._watch.note(batch, {contestant.name: contestant.take(batch) for contestant in self._contestants})
        reasons = (self._batches.unscored(step) for step in batch.steps)
        self._unscored.update(reason for reason in reasons if reason is not None)
