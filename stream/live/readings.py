"""From what `/metrics` answers to readings, and what changed between two of them."""

import math
from collections import deque
from collections.abc import Callable

from prometheus_client.parser import text_string_to_metric_families

from stream.live.facts import Histogram, Readings

ORIGIN = "organic"
"""Arms are compared on events that nobody was led to by a list."""


def read_exposition(text: str, at: float) -> Readings:
    r"""Take the readings out of an exposition in the text format.

    >>> read_exposition("# TYPE millstream_users gauge\nmillstream_users 3.0\n", at=1.0).users
    3
    """
    events: dict[str, float] = {}
    histograms: dict[str, dict[float, float]] = {"event_to_recommendation": {}, "freshness": {}}
    arms: dict[str, dict[str, float]] = {"scored": {}, "hits": {}}
    plain: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = sample.name.removeprefix("millstream_")
            if name == "events_total":
                events[sample.labels["outcome"]] = sample.value
            elif (arm := arms.get(name.removeprefix("prequential_"))) is not None and "arm" in sample.labels:
                if sample.labels["origin"] == ORIGIN:
                    arm[sample.labels["arm"]] = sample.value
            elif (buckets := histograms.get(name.removesuffix("_seconds_bucket"))) is not None:
                buckets[float(sample.labels["le"])] = sample.value
            elif not sample.labels:
                plain[name] = sample.value
    loss = plain.get("learn_loss", math.nan)
    return Readings(
        at=at,
        events=events,
        answers=plain.get("recommendations_total", 0.0) + plain.get("coalesced_total", 0.0),
        latency=histograms["event_to_recommendation"],
        freshness=histograms["freshness"],
        scored=arms["scored"],
        hits=arms["hits"],
        learned=plain.get("learned_examples_total", 0.0),
        loss=None if math.isnan(loss) else loss,
        model_version=int(plain.get("model_version", 0)),
        vocabulary=int(plain.get("vocabulary_items", 0)),
        users=int(plain.get("users", 0)),
    )


class Window:
    """The readings of the last while.

    Args:
        keep_seconds: How far it reaches back.
    """

    def __init__(self, keep_seconds: float = 60.0) -> None:
        self._keep_seconds = keep_seconds
        self._readings: deque[Readings] = deque()

    def add(self, readings: Readings) -> None:
        """Take the newest readings."""
        self._readings.append(readings)
        # The one that stays in front may be older: a difference over the whole while needs where it began.
        while len(self._readings) > 2 and readings.at - self._readings[1].at >= self._keep_seconds:
            self._readings.popleft()

    @property
    def newest(self) -> Readings | None:
        """The last readings."""
        return self._readings[-1] if self._readings else None

    def before(self, seconds: float) -> Readings | None:
        """Return the readings of so many seconds before the newest; the oldest where they do not reach back so far."""
        if len(self._readings) < 2:
            return None
        end = self._readings[-1].at - seconds
        older = [readings for readings in self._readings if readings.at <= end]
        return older[-1] if older else self._readings[0]

    def rate(self, count: Callable[[Readings], float], seconds: float) -> float | None:
        """Return how fast a count grew over the last seconds, in 1/s."""
        new, old = self.newest, self.before(seconds)
        if new is None or old is None or new.at <= old.at:
            return None
        return max(0.0, count(new) - count(old)) / (new.at - old.at)

    def quantile(self, histogram: Callable[[Readings], Histogram], q: float, seconds: float) -> float | None:
        """Return a quantile of what was observed in the last seconds."""
        new, old = self.newest, self.before(seconds)
        if new is None or old is None:
            return None
        now, then = histogram(new), histogram(old)
        return quantile({bound: count - then.get(bound, 0.0) for bound, count in now.items()}, q)

    def hit_rate(self, arm: str, seconds: float | None) -> float | None:
        """Return an arm's hit rate at 20 over the last seconds, or over all; None where nothing was scored."""
        new = self.newest
        if new is None:
            return None
        old = Readings(at=0.0) if seconds is None else self.before(seconds)
        if old is None:
            return None
        scored = new.scored.get(arm, 0.0) - old.scored.get(arm, 0.0)
        return (new.hits.get(arm, 0.0) - old.hits.get(arm, 0.0)) / scored if scored > 0 else None


def quantile(histogram: Histogram, q: float) -> float | None:
    """Return the value that a share `q` of the observations lies below, as Prometheus estimates it.

    >>> quantile({0.1: 5.0, 0.2: 10.0, float("inf"): 10.0}, 0.75)
    0.15
    """
    bounds = sorted(histogram)
    total = histogram[bounds[-1]] if bounds else 0.0
    if total <= 0:
        return None
    wanted, lower, below = q * total, 0.0, 0.0
    for bound in bounds:
        count = histogram[bound]
        if count >= wanted:
            if math.isinf(bound) or count == below:
                return lower
            return round(lower + (bound - lower) * (wanted - below) / (count - below), 9)
        lower, below = bound, count
    return lower
