"""What live learning is worth on a stream: one pass with the learner, copies of it that stop, and simple rivals."""

import time
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

import numpy as np

from online_model.evaluation.arms import in_sample
from online_model.evaluation.batches import Batch, Batches
from online_model.evaluation.bootstrap import Interval, paired_bootstrap
from online_model.evaluation.contestant import Contestant
from online_model.evaluation.metrics import DEPTH, Accuracy, RankLog
from online_model.evaluation.sequences import Step
from online_model.evaluation.streams import StreamEvent
from online_model.protocol import Learner, Recommender

TrialArm: TypeAlias = Literal["live", "nightly", "frozen", "markov", "popularity"]
CopyArm: TypeAlias = Literal["nightly", "frozen"]

TRIAL_ARMS: tuple[TrialArm, ...] = get_args(TrialArm)
FROZEN_AT = 0.3
REFRESH_HOURS = 24.0
MOST_MEASURED = 100_000
"""Events of about so many are measured at most: more would cost minutes and narrow nothing that is read."""

_HOUR_MS = 3_600_000
_SHORT_MS = 3 * 24 * _HOUR_MS
_N_REFRESHES = 10


@dataclass(frozen=True, slots=True)
class TrialPlan:
    """When copies are taken, and who is measured.

    Attributes:
        n_events: Events in the stream.
        frozen_after: Events before the frozen copy is taken, once.
        refresh_events: Events between two refreshes of the other copy; None where event time decides.
        sample: Share of users whose events are measured, of all arms alike.
    """

    n_events: int
    frozen_after: int
    refresh_events: int | None
    sample: float

    @classmethod
    def of(cls, events: Sequence[StreamEvent]) -> "TrialPlan":
        """Return the plan for a stream that is in the order of time.

        A copy is refreshed every 24 hours of event time; on less than three days, every tenth of the stream instead.
        """
        n_events = len(events)
        span_ms = events[-1].time - events[0].time if events else 0
        short = span_ms < _SHORT_MS
        return cls(
            n_events,
            round(FROZEN_AT * n_events),
            max(1, n_events // _N_REFRESHES) if short else None,
            min(1.0, MOST_MEASURED / max(1, n_events)),
        )


@dataclass(frozen=True, slots=True)
class TrialOutcome:
    """What one pass gave.

    Attributes:
        courses: Of each arm, over every event that it could answer: for the course over the stream.
        compared: Of each arm, on the same events: those from when both copies exist.
        compared_from: The place in the stream from which arms are compared; None where that never came.
        difference: Recall of live less that of the refreshed copy, on the compared events; None without any.
        events_per_second: Events that the live learner alone answers and learns in a second by the clock.
        seconds: How long the whole pass took.
    """

    courses: dict[TrialArm, Accuracy]
    compared: dict[TrialArm, Accuracy]
    compared_from: int | None
    difference: Interval | None
    events_per_second: float
    seconds: float


class Trial:
    """One pass over a stream with all arms.

    Live is measured as it is served: an event against the list that was made at the user's previous event. All other
    arms answer when the event arrives, from the same history, which favours them a little.

    Args:
        plan: When copies are taken, and who is measured.
        live: The learner.
        copy: Returns an equal of it that nothing changes any more.
        rivals: Markov and popularity, which learn all along.
        batch_size: Events in a mini-batch.
    """

    def __init__(
        self,
        plan: TrialPlan,
        live: Learner,
        copy: Callable[[], Recommender],
        rivals: dict[TrialArm, Learner],
        batch_size: int,
    ) -> None:
        self._plan = plan
        self._copy = copy
        self._batches = Batches(batch_size)
        self._live = Contestant("live", live, served=True)
        self._rivals = {arm: Contestant(arm, learner) for arm, learner in rivals.items()}
        self._copies: dict[CopyArm, Recommender] = {}
        self._copy_logs: dict[CopyArm, RankLog] = {"nightly": RankLog(), "frozen": RankLog()}
        self._compared = {arm: RankLog() for arm in TRIAL_ARMS}
        self._compared_from: int | None = None
        self._users: dict[str, int] = {}
        self._pairs = array("i"), array("b")
        self._refreshed_ms: int | None = None
        self._refreshed_at = 0

    def run(self, steps: Iterable[Step], on_batch: Callable[[int], None] = lambda n_events: None) -> TrialOutcome:
        """Put the stream through all arms.

        Args:
            steps: The stream, in the order of time.
            on_batch: Told the number of events so far after each mini-batch.
        """
        begin = time.perf_counter()
        done = 0
        for batch in self._batches.cut(steps):
            self._take_copies(done, batch.examples[0].context.now)
            self._take(self._measured(batch))
            done += len(batch.steps)
            on_batch(done)
        courses: dict[TrialArm, RankLog] = {"live": self._live.log}
        courses.update((arm, log) for arm, log in self._copy_logs.items())
        courses.update((arm, rival.log) for arm, rival in self._rivals.items())
        return TrialOutcome(
            {arm: courses[arm].accuracy(done) for arm in TRIAL_ARMS},
            {arm: log.accuracy(done) for arm, log in self._compared.items()},
            self._compared_from,
            self._difference(),
            done / max(1e-9, self._live.cost.wall_seconds),
            time.perf_counter() - begin,
        )

    def _take_copies(self, done: int, now: int) -> None:
        plan = self._plan
        if "frozen" not in self._copies and done >= plan.frozen_after:
            self._copies["frozen"] = self._copy()
        if self._refreshed_ms is None:
            self._refreshed_ms = now
        if plan.refresh_events is None:
            due = now - self._refreshed_ms >= REFRESH_HOURS * _HOUR_MS
        else:
            due = done - self._refreshed_at >= plan.refresh_events
        if due:
            self._copies["nightly"] = self._copy()
            self._refreshed_ms, self._refreshed_at = now, done

    def _measured(self, batch: Batch) -> Batch:
        """The same mini-batch, with only the events of the sample to be scored."""
        if self._plan.sample >= 1:
            return batch
        chosen = [
            index for index, place in enumerate(batch.scored) if in_sample(batch.steps[place].key, self._plan.sample)
        ]
        return replace(
            batch,
            scored=[batch.scored[index] for index in chosen],
            requests=[batch.requests[index] for index in chosen],
            targets=[batch.targets[index] for index in chosen],
        )

    def _take(self, batch: Batch) -> None:
        # Copies first: what they answer from is older than this mini-batch whatever the others do with it.
        ranks: dict[TrialArm, list[int]] = {}
        for arm, copy in self._copies.items():
            ranks[arm] = copy.rank(batch.requests, batch.targets)
            for place, rank in zip(batch.scored, ranks[arm], strict=True):
                self._copy_logs[arm].add(batch.start + place, rank)
        ranks["live"] = self._live.take(batch).ranks
        for name, rival in self._rivals.items():
            ranks[name] = rival.take(batch).ranks
        if len(self._copies) == len(self._copy_logs):
            self._compare(batch, ranks)

    def _compare(self, batch: Batch, ranks: dict[TrialArm, list[int]]) -> None:
        if self._compared_from is None:
            self._compared_from = batch.start
        users, differences = self._pairs
        for index, place in enumerate(batch.scored):
            for arm in TRIAL_ARMS:
                self._compared[arm].add(batch.start + place, ranks[arm][index])
            users.append(self._users.setdefault(batch.steps[place].key, len(self._users)))
            differences.append(_hit(ranks["live"][index]) - _hit(ranks["nightly"][index]))

    def _difference(self) -> Interval | None:
        users, differences = (np.array(values, np.int64) for values in self._pairs)
        return paired_bootstrap(users, differences[:, None].astype(np.float64))[0] if len(users) else None


def _hit(rank: int) -> bool:
    return 1 <= rank <= DEPTH
