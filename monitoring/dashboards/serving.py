"""Panels about events and answers: the headline, traffic, latency, health.

What stands under "events lost": records that the broker deleted (its retention) before the worker had read them, the
one way in which an event can leave the system unseen. Everything that was read is applied, or lies with its reason on
the rejected topic; a batch that was not committed is read again.
"""

from monitoring.dashboards.panels import AGREEMENT, Panel, Query, graph, number
from monitoring.dashboards.promql import advantage, grown, quantile, rate, series, share

_LATENCY = "event_to_recommendation"


def headline() -> list[Panel]:
    """Return the three numbers of the top row."""
    return [
        number(
            "Answered in",
            "From an event's Kafka timestamp to its delivered answer, over the time shown: half of all events were "
            "answered faster than p50, all but one in a hundred faster than p99.",
            [Query(quantile(q, _LATENCY, window="$__range"), f"p{q * 100:.0f}") for q in (0.5, 0.99)],
            unit="s",
            steps=[("green", None), ("orange", 0.1), ("red", 1.0)],
            decimals=0,
        ),
        number(
            "Better than nightly by",
            "How many more of 100 next events stood in the live list of 20 than in that of a copy refreshed every 24 "
            "hours of event time; organic events, both asked about the same ones, over the time shown, with the ends "
            "of the 95% interval. Live learning is worth it when the lower end is above 0. " + AGREEMENT,
            [
                Query(advantage("nightly", "$__range"), "points"),
                Query(advantage("nightly", "$__range", bound=-1), "at least"),
                Query(advantage("nightly", "$__range", bound=1), "at most"),
            ],
            unit="suffix: points",
            steps=[("red", None), ("green", 0.0)],
            decimals=1,
            no_value="no pairs yet",
        ),
        number(
            "Events lost",
            "Events that the broker deleted before they were read (the worker was away for longer than the topic's "
            "retention), over the time shown. Every event that was read is applied, or lies on the rejected topic with "
            "its reason.",
            [Query(grown("expired_total", "$__range", topic="user-events"), "events")],
            unit="locale",
            steps=[("green", None), ("red", 0.5)],
            decimals=0,
        ),
    ]


def traffic() -> list[Panel]:
    """Return what comes in, goes out and waits."""
    return [
        graph(
            "Events by outcome",
            "Records taken from the events topic. Replayed and duplicate ones were applied before.",
            "eps",
            [Query(rate("events_total", by="outcome"), "{{outcome}}")],
            stacked=True,
        ),
        graph(
            "Answers",
            "Lists acknowledged by the broker, and events that the list of a later one answers too (under overload); "
            "fewer than accepted events where roles are not answered.",
            "eps",
            [
                Query(rate("recommendations_total"), "lists"),
                Query(rate("coalesced_total"), "coalesced"),
                Query(rate("events_total", outcome="accepted"), "accepted"),
            ],
        ),
        graph(
            "Rejected by reason",
            "Records sent to the rejected topic; they lie there byte for byte.",
            "eps",
            [Query(rate("rejected_events_total", by="reason"), "{{reason}}")],
            stacked=True,
        ),
        graph(
            "Records not yet read",
            "How far the readers are behind the end of their topics.",
            "short",
            [Query(f"sum by (topic) ({series('consumer_lag')})", "{{topic}}")],
        ),
        graph(
            "Lag",
            "Age of the oldest record that is being worked on or waits. Below a second in a healthy live stream, "
            "perhaps months where a backlog is worked off.",
            "s",
            [Query(f"max by (topic) ({series('lag_seconds')})", "{{topic}}")],
        ),
        graph(
            "Overload level",
            "What has given way to live events that wait. Answers: 1 larger batches, 2 one list for several events of "
            "a user. Learning: 1 larger steps, 2 a sample of the examples. A backlog does not count.",
            "none",
            [Query(f"max by (part) ({series('overload_level')})", "{{part}}")],
        ),
        number(
            "Answered within half a second",
            "Service level: share of the events answered over the time shown whose answer was delivered within half a "
            "second of their Kafka timestamp. A backlog that was worked off counts too.",
            [
                Query(
                    share(
                        rate(f"{_LATENCY}_seconds_bucket", window="$__range", le="0.5"),
                        rate(f"{_LATENCY}_seconds_count", window="$__range"),
                    ),
                    "of all answers",
                )
            ],
            unit="percentunit",
            steps=[("red", None), ("orange", 0.95), ("green", 0.99)],
            decimals=2,
            no_value="nothing answered yet",
        ),
        graph(
            "Expired before they were read",
            "Records below the start of their log, by topic, in each window.",
            "short",
            [Query(f"sum by (topic) (increase({series('expired_total')}[$window]))", "{{topic}}")],
        ),
        graph(
            "Batches discarded",
            "Published, and not committed because their partitions had moved; they are read again by their new owner.",
            "short",
            [Query(f"sum by (instance) (increase({series('discarded_batches_total')}[$window]))", "{{instance}}")],
        ),
    ]


def latency() -> list[Panel]:
    """Return how long an answer takes, and where."""
    return [
        graph(
            "Event to recommendation",
            "From the event's Kafka timestamp to the delivered answer; rises with the lag while catching up.",
            "s",
            [Query(quantile(q, _LATENCY), f"p{q * 100:.0f}") for q in (0.5, 0.95, 0.99)],
        ),
        graph(
            "Stages, 99th percentile",
            "Time that one batch (or snapshot, or checkpoint) takes in each stage.",
            "s",
            [Query(quantile(0.99, "stage", by="stage"), "{{stage}}")],
        ),
        graph(
            "Stages, share of time",
            "Seconds spent in each stage per second; 1 is one thread that is always busy with it.",
            "percentunit",
            [Query(rate("stage_seconds_sum", by="stage"), "{{stage}}")],
            stacked=True,
        ),
    ]


def health() -> list[Panel]:
    """Return whether it runs, and on what."""
    return [
        graph(
            "Ready",
            "1 when partitions are assigned, users recovered and a model serves.",
            "none",
            [Query(series("ready"), "{{instance}}")],
        ),
        graph(
            "Age of the newest checkpoint",
            "What a restart has to learn again.",
            "s",
            [Query(series("checkpoint_age_seconds"), "{{instance}}")],
        ),
        graph(
            "Users and items",
            "What is held; both are bounded.",
            "short",
            [
                Query(f"sum({series('users')})", "users"),
                Query(f"max({series('vocabulary_items')})", "items"),
                Query(f"sum by (kind) (increase({series('evicted_total')}[$window]))", "{{kind}} evicted"),
            ],
        ),
        graph(
            "Memory",
            "Resident memory of each process.",
            "bytes",
            [Query('process_resident_memory_bytes{job=~"$job"}', "{{instance}}")],
        ),
        graph(
            "Processor",
            "Cores in use by each process.",
            "none",
            [Query('rate(process_cpu_seconds_total{job=~"$job"}[$__rate_interval])', "{{instance}}")],
        ),
        number(
            "Running",
            "Processes by version and role.",
            [Query(f"count by (version, role) ({series('build_info')})", "{{version}} {{role}}")],
            unit="none",
            steps=[("blue", None)],
            decimals=0,
        ),
    ]
