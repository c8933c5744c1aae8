"""What gives way when live events come faster than they can be answered or learned. No Kafka, and no clock of its own.

Overload is about live events alone: those that Kafka received after the worker had caught up with the topic, and that
happened shortly before. What is older is a backlog: a first start on months of history, the hours that a worker was
away, a file that is replayed into the topic. Nobody waits for it, so it is worked off whole, however long that takes.
`docs/protocol.md` says what happens at each level.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

from online_model.ledger import Source
from stream.settings import OverloadSettings

HISTORY_MS = 600_000
"""An event that reached Kafka so long after it happened is history that somebody puts in, or came from a device that
was offline: nobody waits for its answer."""
MAX_GROWTH = 8
"""Batches and steps grow to so many times their usual size, at most: memory, and weights that go stale meanwhile."""
RELEASE = 0.5
"""A level is left at this share of the lag that it was reached at: a lag on the edge must not switch back and forth."""
MAX_HALVINGS = 4
"""At least one example in 16 is learned."""
RESUME_SECONDS = 120.0
"""Who starts within this time of the last sign of life goes on being live: a kill in an overload must not end it."""

_HASHES = 2**64


class Regime(NamedTuple):
    """How a batch is to be worked on.

    Attributes:
        live_since: What Kafka received before is a backlog, ms; None while everything is.
        coalesce: Let one list answer several live events of a user.
    """

    live_since: int | None = None
    coalesce: bool = False

    def is_live(self, logged_at: int, happened_at: int) -> bool:
        """Return whether somebody waits for the answer to an event: Kafka timestamp and own time, ms.

        >>> Regime(1_000_000).is_live(1_000_001, 999_000), Regime(1_000_000).is_live(999_999, 999_000)
        (True, False)
        """
        return self.live_since is not None and logged_at >= self.live_since and logged_at - happened_at <= HISTORY_MS


class Levels:
    """A level that rises as soon as the lag passes a threshold, and falls well below it.

    >>> levels = Levels((1.0, 5.0))
    >>> [levels.observe(lag) for lag in (0.5, 2.0, 6.0, 3.0, 2.0, 0.7, 0.4)]
    [0, 1, 2, 2, 1, 1, 0]
    """

    def __init__(self, thresholds: Sequence[float]) -> None:
        self.level = 0
        self._thresholds = thresholds

    def observe(self, lag_seconds: float) -> int:
        """Take a lag; return the level that follows."""
        while self.level < len(self._thresholds) and lag_seconds > self._thresholds[self.level]:
            self.level += 1
        while self.level and lag_seconds < self._thresholds[self.level - 1] * RELEASE:
            self.level -= 1
        return self.level


class AnswerPressure:
    """Of the scorer: how far its answers are behind live events, how large its batches may be, whether it coalesces.

    Level 1: batches grow until one takes as long as the deadline says. Level 2: lists are coalesced too.

    Args:
        settings: The thresholds.
        max_batch: Events in a batch while all is well.
    """

    def __init__(self, settings: OverloadSettings, max_batch: int) -> None:
        self.live_since: int | None = None
        self.batch_limit = max_batch
        self._settings = settings
        self._max_batch = max_batch
        self._levels = Levels((settings.grow_after_seconds, settings.coalesce_after_seconds))

    @property
    def level(self) -> int:
        """0 while all is well, 1: larger batches, 2: coalesced lists."""
        return self._levels.level

    @property
    def regime(self) -> Regime:
        """How the next batch is to be worked on."""
        return Regime(self.live_since, self.level >= 2)

    def caught_up(self, now_ms: int) -> bool:
        """Note that nothing to speak of waits; return whether that is new: what comes from now on is live."""
        if self.live_since is not None:
            return False
        self.live_since = now_ms
        return True

    def observe(self, n_events: int, seconds: float, lag_seconds: float) -> None:
        """Take notice of a batch.

        Args:
            n_events: In it.
            seconds: From taking it to its delivered answers.
            lag_seconds: How old its oldest live event was when it was taken; 0 where it had none, or nothing was left
                waiting behind it.
        """
        if self._levels.observe(lag_seconds) == 0:
            self.batch_limit = self._max_batch
            return
        affordable = int(n_events / max(seconds, 1e-6) * self._settings.batch_deadline_ms / 1000)
        # At most doubled at once: a small batch says little about what a large one takes.
        ceiling = min(2 * self.batch_limit, MAX_GROWTH * self._max_batch)
        self.batch_limit = max(self._max_batch, min(affordable, ceiling))


class LearningPressure:
    """Of the trainer: how far it is behind live examples, how large its steps are, how many examples it learns.

    Level 1: larger steps. Level 2: of the examples only a sample is learned, half of them, and with each doubling of
    the lag half of those.

    Args:
        settings: The thresholds.
        batch_size: Examples in a step while all is well.
    """

    def __init__(self, settings: OverloadSettings, batch_size: int) -> None:
        self.live_since: int | None = None
        self._settings = settings
        self._batch_size = batch_size
        self._levels = Levels((settings.larger_steps_after_seconds, settings.sample_after_seconds))
        self._lag = 0.0

    @property
    def level(self) -> int:
        """0 while all is well, 1: larger steps, 2: a sample of the examples."""
        return self._levels.level

    @property
    def step_size(self) -> int:
        """Examples that the next step may take."""
        return self._batch_size * MAX_GROWTH if self.level else self._batch_size

    @property
    def share(self) -> float:
        """Share of the live examples that is learned: 1, 1/2, 1/4, ... 1/16."""
        if self.level < 2:
            return 1.0
        halvings, lag = 1, self._lag / self._settings.sample_after_seconds
        while halvings < MAX_HALVINGS and lag >= 2.0:
            halvings, lag = halvings + 1, lag / 2
        return 0.5**halvings

    def caught_up(self, now_ms: int) -> None:
        """Note that nothing to speak of waits: what is logged from now on is live."""
        if self.live_since is None:
            self.live_since = now_ms

    def resume(self, live_since: int | None, away_seconds: float) -> None:
        """Take over what an earlier run knew, unless it ended long ago: what came meanwhile is a backlog then."""
        if away_seconds <= RESUME_SECONDS:
            self.live_since = live_since

    def is_live(self, logged_at: int, *, backlog: bool) -> bool:
        """Return whether an example counts as overload where it waits: `logged_at` is its own Kafka timestamp, ms."""
        return not backlog and self.live_since is not None and logged_at >= self.live_since

    def observe(self, lag_seconds: float) -> None:
        """Take the age of the oldest live example that is not learned; 0 where there is none."""
        self._lag = lag_seconds
        self._levels.observe(lag_seconds)


def is_sampled(source: Source, offset: int, share: float) -> bool:
    """Return whether an example is among the share that is learned.

    It depends on the place of its event alone: every run says the same. Who is in a share is in every larger one.

    >>> [is_sampled(("t", 0), offset, 0.25) for offset in range(8)]
    [False, True, False, False, False, False, False, False]
    """
    if share >= 1.0:
        return True
    digest = blake2b(f"{source[0]}/{source[1]}/{offset}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") < share * _HASHES
