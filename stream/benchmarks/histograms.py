"""What happened between two readings of a worker's `/metrics`: counters and histograms, by their difference."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from stream.benchmarks.rig import Metrics

_LE = re.compile(r'(?:^|,)le="([^"]+)"')


@dataclass(frozen=True, slots=True)
class Histogram:
    """Observations by cumulative bucket, as Prometheus keeps them.

    Attributes:
        bounds: Upper bounds, ascending; the last is infinite.
        counts: Observations at or below each bound.
        total: Sum of all values.
    """

    bounds: tuple[float, ...]
    counts: tuple[float, ...]
    total: float

    @property
    def n(self) -> float:
        """Number of observations."""
        return self.counts[-1] if self.counts else 0.0

    def quantile(self, share: float) -> float:
        """Return a quantile as Prometheus does: evenly spread within a bucket, the last bound for what lies beyond.

        >>> Histogram((1.0, 2.0, math.inf), (2.0, 4.0, 4.0), 5.0).quantile(0.75)
        1.5
        """
        wanted = share * self.n
        below, lower = 0.0, 0.0
        for bound, count in zip(self.bounds, self.counts, strict=True):
            if count >= wanted and count > below:
                return lower if math.isinf(bound) else lower + (bound - lower) * (wanted - below) / (count - below)
            below, lower = count, bound
        return 0.0

    def figures(self, seconds: float) -> dict[str, float]:
        """Return what a table shows of values in seconds that were observed within so many seconds."""
        quantiles = {f"p{share}_ms": self.quantile(share / 100) * 1000 for share in (50, 95, 99)}
        return {"per_second": self.n / seconds, **quantiles, "busy_cores": self.total / seconds}


def between(before: Metrics, after: Metrics, name: str, labels: str = "") -> Histogram:
    """Return what a histogram took up between two readings.

    Args:
        before: The earlier reading.
        after: The later one.
        name: Without its suffix.
        labels: Other than `le`, as text: `stage="publish"`.
    """
    buckets = {
        float(le[1]): value - before.get(key, 0.0)
        for key, value in after.items()
        if key[0] == f"{name}_bucket" and (le := _LE.search(key[1])) and _without_le(key[1]) == labels
    }
    bounds = tuple(sorted(buckets))
    key = f"{name}_sum", labels
    return Histogram(bounds, tuple(buckets[bound] for bound in bounds), after.get(key, 0.0) - before.get(key, 0.0))


def _without_le(labels: str) -> str:
    return _LE.sub("", labels).strip(",")


def stages(before: Metrics, after: Metrics, seconds: float, names: Iterable[str]) -> Mapping[str, Mapping[str, float]]:
    """Return the figures of a worker's stages between two readings; those that did not happen are left out."""
    found = {name: between(before, after, "millstream_stage_seconds", f'stage="{name}"') for name in names}
    return {name: histogram.figures(seconds) for name, histogram in found.items() if histogram.n}
