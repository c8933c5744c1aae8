"""PromQL for the dashboard, as text; `$job`, `$window`, `$__range` and `$__rate_interval` are Grafana's to fill in."""

from online_model.evaluation.tally import Arm

Z_95 = 1.96
"""Standard deviations that a two-sided 95% interval reaches to."""


def series(name: str, **labels: str) -> str:
    """Return a selector of the chosen jobs' series.

    >>> series("ready")
    'millstream_ready{job=~"$job"}'
    """
    matchers = ['job=~"$job"', *(f'{label}="{value}"' for label, value in labels.items())]
    return f"millstream_{name}{{{','.join(matchers)}}}"


def rate(name: str, by: str = "", window: str = "$__rate_interval", **labels: str) -> str:
    """Return the rate of a counter over all processes, by one label where one is named.

    >>> rate("events_total", by="outcome")
    'sum by (outcome) (rate(millstream_events_total{job=~"$job"}[$__rate_interval]))'
    """
    grouping = f" by ({by})" if by else ""
    return f"sum{grouping} (rate({series(name, **labels)}[{window}]))"


def quantile(q: float, histogram: str, by: str = "", window: str = "$__rate_interval") -> str:
    """Return a quantile of a histogram of seconds."""
    grouping = f"{by}, le" if by else "le"
    return f"histogram_quantile({q}, {rate(f'{histogram}_seconds_bucket', by=grouping, window=window)})"


def mean_by_arm(numerator: str, window: str) -> str:
    """Return a total of the live measure for each organic scored event, by arm."""
    scored = rate("prequential_scored_total", by="arm", window=window, origin="organic")
    return f"{rate(f'prequential_{numerator}_total', by='arm', window=window, origin='organic')} / {scored}"


def share(part: str, whole: str) -> str:
    """Return what share `part` is of `whole`, and nothing where there is no whole."""
    return f"{part} / ({whole} > 0)"


def advantage(against: Arm, window: str, bound: int = 0) -> str:
    """Return by how many points of recall at 20 `live` is better than another arm, on the same events.

    Paired: each event both arms were asked about gives +1 (only live had it), -1 (only the other had it) or 0. With n
    events, mean m and share s that differ, the standard error is sqrt((s - m²) / n). Events of one user are taken as
    independent, which makes the interval a little narrow.

    Args:
        against: The other arm.
        window: Over which time.
        bound: 0 for the difference, -1 and +1 for the ends of its 95% interval.
    """

    def pairs(outcome: str = "") -> str:
        labels = {"against": str(against), **({"outcome": outcome} if outcome else {})}
        return f"sum(increase({series('prequential_pairs_total', **labels)}[{window}]))"

    n = f"({pairs()} > 0)"
    live, other = pairs("live_only"), pairs("other_only")
    mean = f"(({live} - {other}) / {n})"
    if bound == 0:
        return f"100 * {mean}"
    sign = "+" if bound > 0 else "-"
    return f"100 * ({mean} {sign} {Z_95} * sqrt((({live} + {other}) / {n} - {mean}^2) / {n}))"


def calibration_error(window: str) -> str:
    """Return how far stated probabilities are from what happened, averaged over bins by what they hold."""
    predicted = rate("probability_predicted_total", by="bin", window=window)
    happened = rate("probability_happened_total", by="bin", window=window)
    return share(f"sum(abs({predicted} - {happened}))", rate("probability_stated_total", window=window))


def brier(window: str) -> str:
    """Return the mean squared difference between stated probabilities and what happened."""
    return share(
        rate("probability_squared_error_total", window=window), rate("probability_stated_total", window=window)
    )


def brier_of_share(window: str) -> str:
    """Return the Brier score of who states the mean share every time: what knowing nothing scores."""
    happened = share(rate("probability_happened_total", window=window), rate("probability_stated_total", window=window))
    return f"({happened}) * (1 - ({happened}))"


def grown(name: str, window: str, **labels: str) -> str:
    """Return how much a counter grew, what it held when first scraped included.

    A worker finds what it missed while it starts, before anyone has scraped it: `increase` alone would not see that.
    """
    selector = series(name, **labels)
    fresh = f"(max_over_time({selector}[{window}]) unless {selector} offset {window})"
    return f"sum({fresh} or increase({selector}[{window}]))"
