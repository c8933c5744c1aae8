"""What every learner and baseline speaks: contexts in, lists out, examples in, reports out.

Ids are strings here; rows of weight tables never leave a learner.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:  # whoever only needs the types of records should not wait for torch
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

Visit: TypeAlias = tuple[str, str, int]
"""One step of a user's sequence: item id, behaviour, event time in milliseconds since the epoch."""

Role: TypeAlias = Literal["interest", "strong", "negative", "exposure", "signal"]


class ModelDiverged(ArithmeticError):
    """A loss, gradient or weight is not finite: the process must end before anything of it is published or saved."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a list is made from, or what a target was served with.

    Attributes:
        history: The user's last visits, oldest first, in the order (event time, source offset).
        sitting: Index in `history` at which the current sitting starts; `len(history)` when none has started.
        now: Event time of the request in milliseconds since the epoch.
    """

    history: Sequence[Visit] = ()
    sitting: int = 0
    now: int = 0


@dataclass(frozen=True, slots=True)
class Example:
    """One applied event: what serving saw, and what happened.

    `item` is None for events that concern no item (a search). Roles other than interest and strong are no targets.

    Attributes:
        weight: What it counts for everywhere.
        importance: Factor of its weight in gradients alone. Where a sample is learned, 1 over the sample's share; 0 for
            who is not in it: that one is still counted, which costs next to nothing.
    """

    context: Context
    item: str | None
    role: Role = "interest"
    weight: float = 1.0
    value: float | None = None
    importance: float = 1.0


@dataclass(frozen=True, slots=True)
class Request:
    """A list is wanted for `context`; no id in `exclude` may stand in it."""

    context: Context
    exclude: AbstractSet[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Ranked:
    """A list, best first.

    Attributes:
        items: Item ids, no id twice.
        scores: One finite number for each item, descending within one source.
        sources: Where each item came from: recurrent, transitions, popular, ...
        n_candidates: How many items were ranked.
        probabilities: Calibrated chance that each item is the user's next target, given that there is one in this
            sitting; None where it cannot be told yet.
        signals: What was known about each item, float32 [n_items, n_signals]; None where nothing but a score is.
    """

    items: list[str]
    scores: list[float]
    sources: list[str]
    n_candidates: int
    probabilities: list[float] | None = None
    signals: "npt.NDArray[np.float32] | None" = field(default=None, compare=False)

    def cut(self, k: int) -> "Ranked":
        """Return the first `k` places."""
        return Ranked(
            self.items[:k],
            self.scores[:k],
            self.sources[:k],
            self.n_candidates,
            None if self.probabilities is None else self.probabilities[:k],
            None if self.signals is None else self.signals[:k],
        )


FORECAST_BOUNDS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Upper bounds of the bins of `Forecasts`: most places of a list have small chances, so bins widen."""


@dataclass(frozen=True, slots=True)
class Forecasts:
    """Probabilities that lists stated and what happened, summed over their places: those of several batches add up.

    Attributes:
        stated: Probabilities in each bin of `FORECAST_BOUNDS`; one on a bound belongs to the bin below it.
        predicted: Their sum, in each bin.
        happened: How many of these items came next, in each bin.
        squared_error: Sum of squared differences to what happened, 1 or 0, over all bins.
    """

    stated: list[int]
    predicted: list[float]
    happened: list[int]
    squared_error: float


@dataclass(frozen=True, slots=True)
class LearnReport:
    """What one mini-batch did.

    Attributes:
        n_examples: Examples taken, targets or not.
        n_targets: Examples that gave a gradient.
        loss: Mean loss over the targets; None where there was none.
        n_new_items: Items that entered the vocabulary.
        n_items: Live items after the step.
        forecasts: What lists stated about these examples' targets before they were learned; None where none did, or
            where nobody looked.
    """

    n_examples: int
    n_targets: int
    loss: float | None
    n_new_items: int
    n_items: int
    forecasts: Forecasts | None = None


@dataclass(slots=True)
class State:
    """Everything that a learner is, as plain tensors and JSON values: what a checkpoint holds."""

    tensors: "dict[str, Tensor]" = field(default_factory=dict)
    metadata: dict[str, object] = field(default_factory=dict)


@runtime_checkable
class Recommender(Protocol):
    """Answers requests; answering changes nothing."""

    def recommend(self, requests: Sequence[Request], k: int) -> list[Ranked]:
        """Return for each request the best `k` items, fewer only when the catalogue allows no more.

        A context without a known item gets what is popular now, and `sources` says so.
        """
        ...

    def rank(self, requests: Sequence[Request], targets: Sequence[str]) -> list[int]:
        """Return the 1-based rank of each target among all that may be listed; 0 for one that may not, or is unknown.

        Ties count against the target. Exact over the whole catalogue.
        """
        ...


class Learner(Recommender, Protocol):
    """Answers requests and learns from what happened next."""

    def learn(self, examples: Sequence[Example]) -> LearnReport:
        """Learn from one mini-batch, in the order given; all of it or, when it raises, nothing.

        Raises:
            ValueError: An example is malformed.
            ModelDiverged: The loss or a gradient is not finite; the weights are as before.
        """
        ...

    def state(self) -> State:
        """Return a copy of everything: weights, optimizer, vocabulary, counts, random state."""
        ...

    def load_state(self, state: State) -> None:
        """Become the learner that `state` was taken from.

        Raises:
            ValueError: The state is that of another kind or size of model; the message names both.
        """
        ...
