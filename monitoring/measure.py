"""The live measure as Prometheus sees it: exact totals that survive a restart, and counters of this process.

One fold over the log of examples feeds both. The totals are gauges under the counters' names without `_total`
(`millstream_prequential_scored` beside `millstream_prequential_scored_total`).
"""

from collections.abc import Iterator, Mapping
from itertools import product
from typing import TypeAlias

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from online_model.evaluation.tally import ARMS, ORIGINS, PAIR_OUTCOMES, RIVALS, UNSCORED_REASONS

MeasureTotals: TypeAlias = Mapping[str, Mapping[tuple[str, ...], float]]
"""For each of `scored`, `hits`, `reciprocal_rank`, `pairs`, `unscored`, `late_lists` a total by its labels' values, in
the order of `LABELS`; `late_lists` has none, its key is `()`."""

LABELS: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "scored": (("arm", ARMS), ("origin", ORIGINS)),
    "hits": (("arm", ARMS), ("origin", ORIGINS)),
    "reciprocal_rank": (("arm", ARMS), ("origin", ORIGINS)),
    "pairs": (("against", RIVALS), ("outcome", PAIR_OUTCOMES)),
    "unscored": (("reason", UNSCORED_REASONS),),
    "late_lists": (),
}
"""What is measured: for each quantity its labels and their values."""

_HELP = {
    "scored": "Events for which a list was made from what came before them",
    "hits": "Scored events whose item stood among the first 20",
    "reciprocal_rank": "Sum of 1/rank over scored events, 0 beyond the first 20",
    "pairs": "Organic scored events by which of two arms had the item among its first 20",
    "unscored": "Events of the sample that are not scored, by the reason",
    "late_lists": "Scored events whose list reached the topic only after the event's Kafka timestamp",
}


def cells(quantity: str) -> Iterator[tuple[str, ...]]:
    """Yield every combination of label values that `quantity` is counted by.

    >>> list(cells("unscored"))[:2]
    [('first',), ('repeat',)]
    """
    return product(*(values for _, values in LABELS[quantity]))


class PrequentialMetrics(Collector):
    """Counters and exact totals of the live measure.

    The gauges come out of this collector, which describes no names: the registry keeps a counter's name without
    `_total` for the counter. The text format 0.0.4 knows the two as different metrics; OpenMetrics would not, so
    `/metrics` has to be answered with `Metrics.exposition`.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._totals = {quantity: dict.fromkeys(cells(quantity), 0.0) for quantity in LABELS}
        self.counters = {quantity: _counter(quantity, registry) for quantity in LABELS}
        registry.register(self)

    def resume(self, totals: MeasureTotals) -> None:
        """Start from totals out of a checkpoint: gauges take them, the counters count only what this process sees.

        Raises:
            ValueError: As `observe` does.
        """
        _check(totals)
        for quantity, values in totals.items():
            for key, total in values.items():
                self._replace(quantity, key, total)

    def observe(self, totals: MeasureTotals) -> None:
        """Set the exact totals, and move the counters by what is new in them.

        Totals that went down (a return to an earlier checkpoint) leave their counters where they are.

        Raises:
            ValueError: A quantity or a combination of labels that is not measured; nothing is counted then.
        """
        _check(totals)
        for quantity, values in totals.items():
            counter = self.counters[quantity]
            for key, total in values.items():
                if (growth := total - self._replace(quantity, key, total)) > 0:
                    (counter.labels(*key) if key else counter).inc(growth)

    def describe(self) -> list[Metric]:
        """Return no names; see the class."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the exact totals as gauges."""
        for quantity, values in self._totals.items():
            family = GaugeMetricFamily(
                f"millstream_prequential_{quantity}",
                f"{_HELP[quantity]}; exact over everything learned",
                labels=[name for name, _ in LABELS[quantity]],
            )
            for key, total in values.items():
                family.add_metric(key, total)
            yield family

    def _replace(self, quantity: str, key: tuple[str, ...], total: float) -> float:
        before = self._totals[quantity][key]
        self._totals[quantity][key] = total
        return before


def _counter(quantity: str, registry: CollectorRegistry) -> Counter:
    counter = Counter(
        f"millstream_prequential_{quantity}",
        f"{_HELP[quantity]}; in this process",
        [name for name, _ in LABELS[quantity]],
        registry=registry,
    )
    for key in cells(quantity):
        if key:
            counter.labels(*key)
    return counter


def _check(totals: MeasureTotals) -> None:
    for quantity, values in totals.items():
        if quantity not in LABELS:
            raise ValueError(f"expected one of {', '.join(LABELS)}, got {quantity!r}")
        if strangers := set(values) - set(cells(quantity)):
            raise ValueError(f"{quantity} is not counted by {sorted(strangers)[0]!r}")
