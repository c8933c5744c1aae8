"""What `probability` in recommendations is worth, as Prometheus sees it: sums by bin, which PromQL makes figures of."""

from prometheus_client import CollectorRegistry, Counter

from monitoring.labels import PROBABILITY_BINS
from online_model.protocol import Forecasts


class ProbabilityMetrics:
    """Counters of what lists stated about the next item, and of what came."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def by_bin(name: str, text: str) -> Counter:
            counter = Counter(f"millstream_probability_{name}", text, ["bin"], registry=registry)
            for label in PROBABILITY_BINS:
                counter.labels(label)
            return counter

        self.stated = by_bin("stated", "Probabilities of listed items that were compared with what came next")
        self.predicted = by_bin("predicted", "Sum of these probabilities")
        self.happened = by_bin("happened", "How many of these items came next")
        self.squared_error = Counter(
            "millstream_probability_squared_error",
            "Sum of squared differences between these probabilities and what came next, 1 or 0",
            registry=registry,
        )

    def observe(self, forecasts: Forecasts) -> None:
        """Add what some lists stated."""
        for place, label in enumerate(PROBABILITY_BINS):
            self.stated.labels(label).inc(forecasts.stated[place])
            self.predicted.labels(label).inc(forecasts.predicted[place])
            self.happened.labels(label).inc(forecasts.happened[place])
        self.squared_error.inc(forecasts.squared_error)
