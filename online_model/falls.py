"""Notices that a level fell below its own past, or that one of two falls behind the other: sums after Page.

Source: Page 1954, Continuous Inspection Schemes, Biometrika 41.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

MEMORY = 500
"""Values after which the past of a level counts for about a third."""
WARM_UP = 40
"""Values before a level has a past to fall below."""
SLACK = 0.5
"""Standard deviations below its mean that a level may stay for ever."""
PATIENCE = 10.0
"""Standard deviations that may add up beyond the slack; a steady level gets there once in some ten thousand values."""
_FARTHEST = 4.0
_LEAST_DEVIATION = 1e-3

STAKE = 0.2
"""What each pair wins or loses of the evidence: who is better in fewer than 55% of the pairs that differ loses it."""


@dataclass(slots=True)
class FallWatch:
    """Tells when a level stays below what its own history says, and where it began to.

    Attributes:
        n: Values so far.
        mean: Of the past, recent values more.
        variance: Of the past.
        depth: Standard deviations that have added up since `since`.
        since: Mark of the first value of the present fall; None while there is none.
    """

    n: int = 0
    mean: float = 0.0
    variance: float = 0.0
    depth: float = 0.0
    since: int | None = None

    def observe(self, value: float, mark: int) -> bool:
        """Take the next value, larger is better; return whether the level has fallen."""
        if self.n >= WARM_UP:
            deviation = max(math.sqrt(self.variance), _LEAST_DEVIATION)
            below = min(_FARTHEST, max(-_FARTHEST, (self.mean - value) / deviation))
            self.depth = max(0.0, self.depth + below - SLACK)
            if self.depth == 0.0:
                self.since = None
            elif self.since is None:
                self.since = mark
        share = max(1.0 / (self.n + 1), 1.0 / MEMORY)
        error = value - self.mean
        self.mean += share * error
        self.variance = (1.0 - share) * (self.variance + share * error * error)
        self.n += 1
        return self.depth > PATIENCE

    def forgive(self) -> None:
        """Forget the present fall, and keep the past."""
        self.depth, self.since = 0.0, None

    def facts(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)


@dataclass(slots=True)
class LeadWatch:
    """Evidence that one of two is ahead of the other, from pairs in which exactly one of them was right.

    Each pair stakes a share of the evidence on the one that is watched; it never falls below 1, so what was long ago
    does not protect. Where both are equal, evidence of x comes about once in x pairs at the most.

    Attributes:
        log_evidence: Its natural logarithm, from 0 to `most`.
        most: Where it stops to grow, so that it can fall again.
    """

    log_evidence: float = 0.0
    most: float = 100.0

    def observe(self, n_ahead: int, n_behind: int) -> None:
        """Take pairs in which the watched one was right alone, and pairs in which the other one was."""
        grown = self.log_evidence + n_ahead * math.log1p(STAKE) + n_behind * math.log1p(-STAKE)
        self.log_evidence = min(self.most, max(0.0, grown))

    def facts(self) -> float:
        """Return everything as a JSON value."""
        return self.log_evidence
