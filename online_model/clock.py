"""The stream's own clock: what time it is by the events, not by the wall, so that history can be replayed."""

from bisect import bisect_left, insort
from collections import deque

import torch

from online_model.protocol import State

SPAN = 1_001
"""Events whose times are taken; an odd number has a middle one."""


class StreamClock:
    """The median event time of the last 1,001 events: a few events with a wrong time do not move it.

    Of an even number of times, while there are not yet 1,001, the earlier middle one is taken.

    >>> clock = StreamClock()
    >>> for time in (10, 99_999, 20):
    ...     clock.observe(time)
    >>> clock.now
    20
    """

    def __init__(self) -> None:
        self._recent: deque[int] = deque()
        # A sorted list of 1,001 numbers: finding a place takes 10 steps, making room moves 8 KB at most.
        self._ordered: list[int] = []

    @property
    def now(self) -> int | None:
        """Milliseconds since the epoch; None before the first event."""
        return self._ordered[(len(self._ordered) - 1) // 2] if self._ordered else None

    def observe(self, time: int) -> None:
        """Take the time of one more event, in milliseconds since the epoch."""
        if len(self._recent) == SPAN:
            del self._ordered[bisect_left(self._ordered, self._recent.popleft())]
        self._recent.append(time)
        insort(self._ordered, time)

    def state(self) -> State:
        """Return the times, oldest event first: `times` int64 [events]."""
        return State({"times": torch.tensor(list(self._recent), dtype=torch.int64)})

    def load_state(self, state: State) -> None:
        """Become the clock that `state` was taken from."""
        self._recent = deque(state.tensors["times"].tolist())
        self._ordered = sorted(self._recent)
