"""The live measure: what people did next, against what was served and what would have been served without learning."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal, Protocol, TypeAlias, cast

from online_model.evaluation.tally import DEPTH, Arm, Origin, Tally, Totals
from online_model.protocol import Context, Example, Learner, Recommender, Request, State

CopyArm: TypeAlias = Literal["frozen", "nightly"]
_HOUR_MS = 3_600_000


class ModelCopy(Recommender, Protocol):
    """A learned model that learns no more."""

    def state(self) -> State:
        """Return everything that the copy answers from."""
        ...


@dataclass(frozen=True, slots=True)
class MeasuredEvent:
    """An event of a target role, and how the list served before it did.

    Attributes:
        user: Who; only a hash of it is used.
        context: What the served list was made from.
        item: What the user turned to.
        live_rank: Its 1-based place in the list last published; 0 when it was not in it.
        unscored: Why the event does not count; None when it does.
        attributed: The event says which list it answers.
        late_list: The list reached the topic only after the event.
    """

    user: str
    context: Context
    item: str
    live_rank: int
    unscored: str | None
    attributed: bool = False
    late_list: bool = False


@dataclass(frozen=True, slots=True)
class MeasurePlan:
    """What is measured and when copies are taken.

    Attributes:
        sample: Share of users whose events are measured.
        frozen_after: Learned examples after which the frozen copy is taken, once.
        nightly_hours: Event time between two refreshes of the nightly copy; also from the first event to its first.
        depth: Places of a list that count.
    """

    sample: float = 0.1
    frozen_after: int = 50_000
    nightly_hours: float = 24.0
    depth: int = DEPTH


class LiveMeasure:
    """A fold over the examples: every mini-batch is measured before it is learned.

    The copies' answers are computed when the next event arrives, from the history that serving saw. An arm without a
    copy yet does not take part.

    Args:
        plan: What is measured and when copies are taken.
        copy: Returns a copy of everything learned so far.
        restore: Returns the copy that a state was taken from.
        popularity: Learns the same examples; an arm of its own.
        exclude: Items that may not stand in a list made from a context.
    """

    def __init__(
        self,
        plan: MeasurePlan,
        copy: Callable[[], ModelCopy],
        restore: Callable[[State], ModelCopy],
        popularity: Learner,
        exclude: Callable[[Context], AbstractSet[str]],
    ) -> None:
        self._plan = plan
        self._copy = copy
        self._restore = restore
        self._popularity = popularity
        self._exclude = exclude
        self._copies: dict[CopyArm, ModelCopy] = {}
        self._tally = Tally(plan.depth)
        self._nightly_from: int | None = None

    def observe(self, events: Iterable[MeasuredEvent]) -> None:
        """Measure the events of one mini-batch; call it before the mini-batch is learned."""
        sampled = [event for event in events if in_sample(event.user, self._plan.sample)]
        for event in sampled:
            if event.unscored is not None:
                self._tally.count_unscored(event.unscored)
        scored = [event for event in sampled if event.unscored is None]
        if not scored:
            return
        answers = self._answers(scored)
        for index, event in enumerate(scored):
            origin: Origin = "attributed" if event.attributed else "organic"
            ranks: dict[Arm, int] = {"live": event.live_rank, **{arm: ranks[index] for arm, ranks in answers.items()}}
            self._tally.count(origin, ranks, late_list=event.late_list)

    def learned(self, examples: Sequence[Example], n_learned: int, now: int | None) -> None:
        """Take notice of a mini-batch that was learned: popularity learns it too, and copies that are due are taken.

        Args:
            examples: The mini-batch.
            n_learned: Examples learned so far, this mini-batch included.
            now: The stream's clock in milliseconds; None before the first event.
        """
        self._popularity.learn(examples)
        if "frozen" not in self._copies and n_learned >= self._plan.frozen_after:
            self._copies["frozen"] = self._copy()
        if now is None:
            return
        if self._nightly_from is None:
            self._nightly_from = now
        elif now - self._nightly_from >= self._plan.nightly_hours * _HOUR_MS:
            self._copies["nightly"] = self._copy()
            self._nightly_from = now

    def totals(self) -> Totals:
        """Return the exact totals over everything measured."""
        return self._tally.totals()

    def alone(self, rival: CopyArm) -> tuple[int, int]:
        """Return how many measured pairs the live arm foretold alone, and how many the rival did."""
        return self._tally.alone(rival)

    def states(self) -> dict[str, State]:
        """Return everything, for a checkpoint: the totals, popularity and each copy under its arm."""
        copies = {str(arm): copy.state() for arm, copy in self._copies.items()}
        facts = {"totals": self._tally.facts(), "nightly_from": self._nightly_from}
        return {
            "measure": State({}, cast("dict[str, object]", facts)),
            "popularity": self._popularity.state(),
            **copies,
        }

    def load_states(self, states: Mapping[str, State]) -> None:
        """Become the measure that `states` were taken from.

        Raises:
            ValueError: A copy is of another kind or size.
        """
        facts = cast("dict[str, Any]", states["measure"].metadata)
        self._tally.load_facts(facts["totals"])
        self._nightly_from = facts["nightly_from"]
        self._popularity.load_state(states["popularity"])
        arms: tuple[CopyArm, ...] = ("frozen", "nightly")
        self._copies = {arm: self._restore(states[arm]) for arm in arms if arm in states}

    def _answers(self, events: Sequence[MeasuredEvent]) -> dict[Arm, list[int]]:
        requests = [Request(event.context, frozenset(self._exclude(event.context))) for event in events]
        items = [event.item for event in events]
        arms: dict[Arm, Recommender] = {"popularity": self._popularity}
        arms.update((arm, copy) for arm, copy in self._copies.items())
        return {arm: recommender.rank(requests, items) for arm, recommender in arms.items()}


def in_sample(user: str, share: float) -> bool:
    """Return whether the user's events are measured: the same answer in every process and at every time.

    A user who is in a sample is in every larger one.

    >>> sum(in_sample(f"user-{n}", 0.1) for n in range(1000))
    108
    """
    digest = blake2b(user.encode(), digest_size=8, person=b"measure").digest()
    return int.from_bytes(digest, "little") < share * 2.0**64
