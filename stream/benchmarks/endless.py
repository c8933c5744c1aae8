"""An old dog and a new trick: does a learner that has run for long still learn as quickly as when it was young?

A synthetic stream without end in sight: people walk from item to item along hidden relations. All relations are
permuted twice, early and late, and what counts is how many events it takes each time until recall is back.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import numpy.typing as npt

from online_model.config import ModelConfig
from online_model.learners import build
from online_model.protocol import Context, Example, Learner, Request, Visit

EARLY, LATE = 0.05, 0.95
RECOVERED = 0.95
# Between the changes a sample of mini-batches is enough to know the level.
SCORED_EVERY = 10
# Scored events whose mean is compared with the level, and those before a change whose mean is the level.
WINDOW = 5_000
LEVEL_WINDOW = 20_000
# Mini-batches between two words on how it goes.
TOLD_EVERY = 1_000


@dataclass(frozen=True, slots=True)
class EndlessResult:
    """How often the next item was in the top 20 before each change, and events until 95% of that was back.

    A recovery is None where the stream, or the life before the late change, ended before it.
    """

    events: int
    level_early: float
    level_late: float
    recovery_early: int | None
    recovery_late: int | None
    ratio: float | None


class Walks:
    """People who walk along hidden relations, one step each in every mini-batch.

    Each item has a few successors, the first far likelier than the last. A walk goes on with probability `stay`, and
    begins anew at a random item otherwise. All items are as popular as each other, unless there is a slope: then the
    item of rank r is so by r to the minus that, both where walks begin and as a successor.
    """

    def __init__(
        self,
        n_items: int,
        n_walkers: int,
        seed: int,
        *,
        n_successors: int = 4,
        stay: float = 0.9,
        slope: float = 0.0,
    ) -> None:
        self._chance = np.random.default_rng(seed)
        self._visits: list[Visit] = [(str(item), "view", 0) for item in range(n_items)]
        popularity = np.arange(1.0, n_items + 1) ** -slope
        self._popular = np.cumsum(popularity) / popularity.sum() if slope else None
        self._stay = stay
        self._shares = np.cumsum(0.5 ** np.arange(n_successors))
        self._shares /= self._shares[-1]
        self._contexts = [Context()] * n_walkers
        self._at = np.zeros(n_walkers, np.int64)
        self.permute()

    def permute(self) -> None:
        """Replace every relation by another one."""
        self._successors = self._items((len(self._visits), len(self._shares)))

    def _items(self, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
        n_items = len(self._visits)
        if self._popular is None:
            return self._chance.integers(n_items, size=shape)
        # Rounding may leave the last sum just below 1.
        return np.minimum(np.searchsorted(self._popular, self._chance.random(shape)), n_items - 1)

    def __iter__(self) -> Iterator[list[Example]]:
        """Return mini-batches without end."""
        while True:
            yield self._step()

    def _step(self) -> list[Example]:
        n_walkers = len(self._at)
        onward = self._chance.random(n_walkers) < self._stay
        choices = np.searchsorted(self._shares, self._chance.random(n_walkers))
        fresh = self._items((n_walkers,))
        self._at = np.where(onward, self._successors[self._at, choices], fresh)
        examples = []
        for walker, (item, goes_on) in enumerate(zip(self._at.tolist(), onward.tolist(), strict=True)):
            visit = self._visits[item]
            context = self._contexts[walker] if goes_on else Context()
            examples.append(Example(context, visit[0]))
            self._contexts[walker] = Context((*context.history[-1:], visit))
        return examples


def small(config: ModelConfig) -> ModelConfig:
    """Return the settings made small: what is under test is how steps change with age, not how much fits in.

    A step takes 256 events, which is much quicker than the usual 64.
    """
    sizes = {"hidden": 32, "window": 2, "batch_size": 256, "negatives": 256, "max_items": 10_000}
    return replace(config, **sizes, device="cpu")  # type: ignore[arg-type]  # all of these are integers


def run(
    config: ModelConfig,
    n_events: int,
    *,
    n_items: int = 200,
    seed: int = 1,
    on_events: Callable[[int, float], None] = lambda n_events, recall: None,
) -> EndlessResult:
    """Put the stream through a learner.

    Args:
        config: Of the learner.
        n_events: Length of the stream; relations change after a twentieth of it, and a twentieth before its end.
        n_items: Size of the catalogue.
        seed: Of the stream.
        on_events: Told now and then the number of events so far and the recall over the latest.
    """
    walks = Walks(n_items, config.batch_size, seed)
    course = _Course(build("gru", config), walks, on_events)
    level_early = course.settle(round(n_events * EARLY))
    walks.permute()
    recovery_early = course.recover(level_early, round(n_events * LATE))
    level_late = course.settle(round(n_events * LATE))
    walks.permute()
    recovery_late = course.recover(level_late, n_events)
    both = recovery_early is not None and recovery_late is not None
    ratio = recovery_late / recovery_early if both else None  # type: ignore[operator]  # neither is None here
    return EndlessResult(course.n_events, level_early, level_late, recovery_early, recovery_late, ratio)


class _Course:
    """A learner on its way through the stream."""

    def __init__(self, learner: Learner, walks: Walks, on_events: Callable[[int, float], None]) -> None:
        self._learner = learner
        self._batches = iter(walks)
        self._on_events = on_events
        self._n_batches = 0
        self.n_events = 0

    def settle(self, until: int) -> float:
        """Go on until so many events have gone by; return the recall of the latest that were scored."""
        hits: deque[bool] = deque(maxlen=LEVEL_WINDOW)
        while self.n_events < until:
            hits.extend(self._take(scored=self._n_batches % SCORED_EVERY == 0))
            self._tell(hits)
        return _mean(hits)

    def recover(self, level: float, until: int) -> int | None:
        """Go on until recall is back; return how many events that took, None where it was not."""
        start = self.n_events
        hits: deque[bool] = deque(maxlen=WINDOW)
        while self.n_events < until:
            hits.extend(self._take(scored=True))
            self._tell(hits)
            if len(hits) == WINDOW and _mean(hits) >= RECOVERED * level:
                return self.n_events - start
        return None

    def _take(self, *, scored: bool) -> list[bool]:
        (batch,) = islice(self._batches, 1)
        hits: list[bool] = []
        if scored:
            known = [example for example in batch if example.context.history]
            requests = [Request(example.context) for example in known]
            hits = [0 < rank <= 20 for rank in self._learner.rank(requests, [example.item or "" for example in known])]
        self._learner.learn(batch)
        self._n_batches += 1
        self.n_events += len(batch)
        return hits

    def _tell(self, hits: deque[bool]) -> None:
        if self._n_batches % TOLD_EVERY == 0 and hits:
            self._on_events(self.n_events, _mean(hits))


def _mean(hits: deque[bool]) -> float:
    return sum(hits) / max(1, len(hits))
