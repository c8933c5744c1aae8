"""Decides when learning has done harm, and how far to go back. Nothing here touches a model, a file or a log.

A level that falls is no proof of harm: people change their taste, and then learning is the cure. So a fall only opens
a trial, in which an earlier checkpoint answers the same events as the model of now; only where the checkpoint answers
them better is the model sent back to it. A model that a trial has found worse than a checkpoint cannot be made worse
by becoming that checkpoint.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias, cast

from online_model.falls import FallWatch, LeadWatch
from online_model.protocol import State

Reason: TypeAlias = Literal["hit-rate", "loss", "frozen", "non-finite"]
Verdict: TypeAlias = Literal["open", "harmful", "harmless"]

CHUNK = 32
"""Scored events, or targets, whose mean is one value of a level."""
HARM = math.log(1e6)
"""Evidence that a checkpoint must have against the model; also the frozen copy's, before it is a suspicion."""
CURE = math.log(1e3)
"""Evidence that the model must have against a checkpoint to end a trial early."""
MATERIAL = 0.05
"""A checkpoint that has not at least this share more hits than the model is not worth what a return leaves out."""
TRIAL_PAIRS = 5_000
"""Events that one or both foretold, after which a trial without a verdict ends."""
TRIAL_EXAMPLES = 1_000_000
"""Records of the log after which a trial ends in any case."""
REST = 50_000
"""Records of the log between a trial that the frozen copy opened in vain and its next one."""
PROBATION = 10_000
"""Records of the log, at least, over which steps are halved after a return."""
_REMEMBERED = 256


@dataclass(frozen=True, slots=True)
class Observed:
    """What one mini-batch showed, before it was learned.

    Attributes:
        start: Log offset of its first record.
        end: Log offset after its last one.
        n_scored: Scored events, no item and no user counted twice: a flood of one item says nothing about the others.
        n_hits: Those of them whose item stood in the list that was served.
        loss: Mean loss over its targets; None where it had none.
        n_targets: Targets.
        live_only: Measured pairs that the live arm foretold and the frozen copy did not.
        frozen_only: The other way round.
    """

    start: int
    end: int
    n_scored: int = 0
    n_hits: int = 0
    loss: float | None = None
    n_targets: int = 0
    live_only: int = 0
    frozen_only: int = 0


@dataclass(frozen=True, slots=True)
class Suspicion:
    """Learning may have done harm.

    Attributes:
        reason: Which watch says so.
        since: Log offset where it seems to have begun; None for long ago.
    """

    reason: Reason
    since: int | None


@dataclass(slots=True)
class Trial:
    """A checkpoint against the model of now, on the same events.

    Attributes:
        reason: Of the suspicion.
        since: Log offset from which on examples would be left out.
        reference: Name of the checkpoint.
        opened: Log offset at which the trial began.
        both: Events that both foretold.
        live_only: Those that only the model of now did.
        other_only: Those that only the checkpoint did.
        harm: Evidence for the checkpoint.
        cure: Evidence for the model.
    """

    reason: Reason
    since: int
    reference: str
    opened: int
    both: int = 0
    live_only: int = 0
    other_only: int = 0
    harm: LeadWatch = field(default_factory=LeadWatch)
    cure: LeadWatch = field(default_factory=LeadWatch)

    def compare(self, live: Sequence[bool], reference: Sequence[bool]) -> None:
        """Take which of the same events each of the two foretold."""
        pairs = list(zip(live, reference, strict=True))
        live_only, other_only = pairs.count((True, False)), pairs.count((False, True))
        self.both += pairs.count((True, True))
        self.live_only += live_only
        self.other_only += other_only
        self.harm.observe(other_only, live_only)
        self.cure.observe(live_only, other_only)

    def verdict(self, position: int) -> Verdict:
        """Return what is proven so far."""
        live_hits = self.both + self.live_only
        if self.harm.log_evidence >= HARM and self.other_only - self.live_only >= MATERIAL * live_hits:
            return "harmful"
        over = live_hits + self.other_only >= TRIAL_PAIRS or position - self.opened >= TRIAL_EXAMPLES
        return "harmless" if over or self.cure.log_evidence >= CURE else "open"


@dataclass(frozen=True, slots=True)
class Return:
    """One return to an earlier checkpoint.

    Attributes:
        reason: What was found.
        reference: Name of the checkpoint.
        start: Log offset of the first record that is left out.
        end: Log offset after the last one that is.
        until: Log offset up to which steps are halved, and up to which this return counts against the limit.
    """

    reason: Reason
    reference: str
    start: int
    end: int
    until: int


class Guard:
    """Watches learning, judges it, and remembers what was left out; its state belongs to the checkpoint's cut.

    Attributes:
        suspicion: What was noticed and not yet answered by `open_trial` or `dismiss`.
        trial: The one that runs.
        returns: What was decided so far, oldest first.
        n_returns: How many there were, those that are forgotten included.

    Args:
        max_returns: Returns that may be on probation at once; beyond it the guard stands aside.
    """

    def __init__(self, max_returns: int) -> None:
        self.suspicion: Suspicion | None = None
        self.trial: Trial | None = None
        self.returns: tuple[Return, ...] = ()
        self.n_returns = 0
        self._max_returns = max_returns
        self._position = 0
        self._hit_rate, self._loss = FallWatch(), FallWatch()
        self._frozen = LeadWatch(most=2 * HARM)
        self._rest_until = 0
        self._hits = _Chunk()
        self._losses = _Chunk()

    @property
    def position(self) -> int:
        """Log offset up to which it has watched."""
        return self._position

    @property
    def exhausted(self) -> bool:
        """Whether so many returns are on probation that there will be no other one now."""
        return sum(self._position < past.until for past in self.returns) >= self._max_returns

    @property
    def behind_frozen(self) -> bool:
        """Whether the frozen copy foretells more than the model that learns."""
        return self._frozen.log_evidence >= HARM

    def leaves_out(self, offset: int) -> bool:
        """Return whether the record at this log offset must not be learned."""
        return any(past.start <= offset < past.end for past in self.returns)

    def pace(self, position: int) -> float:
        """Return the share of its usual length that a step has there: halved by each return on probation."""
        return 0.5 ** sum(past.end <= position < past.until for past in self.returns)

    def observe(self, seen: Observed) -> None:
        """Take notice of a mini-batch."""
        self._position = seen.end
        found: list[Suspicion] = []
        if (chunk := self._hits.add(seen.n_hits, seen.n_scored, seen.start)) and self._hit_rate.observe(*chunk):
            found.append(Suspicion("hit-rate", self._hit_rate.since))
        loss = None if seen.loss is None else -seen.loss * seen.n_targets
        if loss is not None and (chunk := self._losses.add(loss, seen.n_targets, seen.start)):
            if self._loss.observe(*chunk):
                found.append(Suspicion("loss", self._loss.since))
        self._frozen.observe(seen.frozen_only, seen.live_only)
        if self.behind_frozen and seen.end >= self._rest_until:
            found.append(Suspicion("frozen", None))
        if found and self.trial is None and not self.exhausted:
            self.suspicion = found[0]

    def open_trial(self, reference: str, position: int) -> None:
        """Answer the suspicion by a trial of a checkpoint that stood at a log offset.

        Raises:
            RuntimeError: There is no suspicion.
        """
        if self.suspicion is None:
            raise RuntimeError("a trial needs a suspicion")
        since = position if self.suspicion.since is None else max(position, self.suspicion.since)
        self.trial = Trial(self.suspicion.reason, since, reference, self._position)
        self.suspicion = None

    def dismiss(self) -> None:
        """Go on without a return: what is now becomes what levels are measured against."""
        self.suspicion = self.trial = None
        self._hit_rate, self._loss = FallWatch(), FallWatch()
        self._rest_until = self._position + REST

    def sentence(self) -> Return:
        """Return what follows from a trial that found harm.

        Raises:
            RuntimeError: There is no trial.
        """
        if self.trial is None:
            raise RuntimeError("there is no trial to decide")
        return _returned(self.trial.reason, self.trial.reference, self.trial.since, self._position)

    def escape(self, reference: str, start: int, end: int) -> Return:
        """Return what follows from weights that are broken: the records that broke them lie from `start` to `end`."""
        return _returned("non-finite", reference, start, end)

    def after(self, decided: Return, then: State) -> State:
        """Return the state to go on with after a return: that of the checkpoint, and the memory of all returns."""
        earlier = Guard(self._max_returns)
        earlier.load_state(then)
        earlier.suspicion = earlier.trial = None
        for watch in (earlier._hit_rate, earlier._loss):
            watch.forgive()
        earlier._frozen = LeadWatch(most=2 * HARM)
        earlier.returns, earlier.n_returns = (*self.returns, decided)[-_REMEMBERED:], self.n_returns + 1
        return earlier.state()

    def state(self) -> State:
        """Return everything, for a checkpoint."""
        return State(
            {},
            {
                "position": self._position,
                "hit_rate": self._hit_rate.facts(),
                "loss": self._loss.facts(),
                "frozen": self._frozen.facts(),
                "rest_until": self._rest_until,
                "hits": asdict(self._hits),
                "losses": asdict(self._losses),
                "suspicion": None if self.suspicion is None else asdict(self.suspicion),
                "trial": None if self.trial is None else asdict(self.trial),
                "returns": [asdict(past) for past in self.returns],
                "n_returns": self.n_returns,
            },
        )

    def load_state(self, state: State) -> None:
        """Become the guard that `state` was taken from; nothing in it is a new guard.

        Raises:
            ValueError: A part is missing.
        """
        if not state.metadata:
            self.__dict__.update(Guard(self._max_returns).__dict__)
            return
        facts = cast("dict[str, Any]", state.metadata)
        try:
            self._position, self._rest_until = facts["position"], facts["rest_until"]
            self._hit_rate, self._loss = _watches(state)
            self._frozen = LeadWatch(facts["frozen"], most=2 * HARM)
            self._hits, self._losses = _Chunk(**facts["hits"]), _Chunk(**facts["losses"])
            self.suspicion = None if facts["suspicion"] is None else Suspicion(**facts["suspicion"])
            self.trial = _trial(facts["trial"])
            self.returns = tuple(Return(**past) for past in facts["returns"])
            self.n_returns = facts["n_returns"]
        except (KeyError, TypeError) as error:
            raise ValueError(f"the saved guard cannot be read: {error}") from error


@dataclass(slots=True)
class _Chunk:
    """Sums that become one value of a level."""

    total: float = 0.0
    n: int = 0
    start: int = 0

    def add(self, total: float, n: int, start: int) -> tuple[float, int] | None:
        """Add to it; return its mean and where it began when it is full, and begin anew."""
        if self.n == 0:
            self.start = start
        self.total += total
        self.n += n
        if self.n < CHUNK:
            return None
        value, began = self.total / self.n, self.start
        self.total, self.n = 0.0, 0
        return value, began


def _returned(reason: Reason, reference: str, start: int, end: int) -> Return:
    return Return(reason, reference, start, end, end + max(PROBATION, end - start))


def _watches(state: State) -> tuple[FallWatch, FallWatch]:
    facts = cast("dict[str, Any]", state.metadata)
    if not facts:
        return FallWatch(), FallWatch()
    return FallWatch(**facts["hit_rate"]), FallWatch(**facts["loss"])


def _trial(facts: dict[str, Any] | None) -> Trial | None:
    if facts is None:
        return None
    watches = {name: LeadWatch(**facts[name]) for name in ("harm", "cure")}
    return Trial(**facts | watches)
