"""Panels about what is learned: quality by arm, and the trainer."""

from monitoring.dashboards.panels import AGREEMENT, FULL_WIDTH, Panel, Query, graph, number
from monitoring.dashboards.promql import (
    advantage,
    brier,
    brier_of_share,
    calibration_error,
    mean_by_arm,
    quantile,
    rate,
    series,
    share,
)


def quality() -> list[Panel]:
    """Return how well each arm foretold what people did next."""
    late = share(
        rate("prequential_late_lists_total", window="$window"),
        rate("prequential_scored_total", window="$window", arm="live"),
    )
    return [
        graph(
            "Recall at 20",
            "Share of organic scored events whose item stood in the list of 20, by arm. " + AGREEMENT,
            "percentunit",
            [Query(mean_by_arm("hits", "$window"), "{{arm}}")],
        ),
        graph(
            "Mean reciprocal rank at 20",
            "Mean of 1/rank of what came next, 0 beyond the 20th, by arm.",
            "none",
            [Query(mean_by_arm("reciprocal_rank", "$window"), "{{arm}}")],
        ),
        graph(
            "Live better than nightly, with its 95% interval",
            "Points of recall at 20, paired on the same organic events.",
            "suffix: points",
            [
                Query(advantage("nightly", "$window"), "difference"),
                Query(advantage("nightly", "$window", bound=1), "at most"),
                Query(advantage("nightly", "$window", bound=-1), "at least"),
            ],
            band=("at most", "at least"),
        ),
        graph(
            "Live better than each arm",
            "Points of recall at 20, paired on the same organic events.",
            "suffix: points",
            [Query(advantage(arm, "$window"), arm) for arm in ("frozen", "nightly", "popularity")],
        ),
        graph(
            "Scored and unscored events",
            "Events of the measured users: those with a list to compare with, and the others by the reason.",
            "eps",
            [
                Query(rate("prequential_scored_total", arm="live"), "scored"),
                Query(rate("prequential_unscored_total", by="reason"), "{{reason}}"),
            ],
            stacked=True,
        ),
        graph(
            "Lists that came too late",
            "Share of scored events whose list reached the topic only after the event: many while catching up, none in "
            "a healthy live stream.",
            "percentunit",
            [Query(late, "late lists")],
        ),
        number(
            "Recall at 20 since the beginning",
            "Exact totals over everything learned, restarts included; organic events.",
            [
                Query(
                    f"sum by (arm) ({series('prequential_hits', origin='organic')}) / "
                    f"(sum by (arm) ({series('prequential_scored', origin='organic')}) > 0)",
                    "{{arm}}",
                )
            ],
            unit="percentunit",
            steps=[("blue", None)],
            decimals=1,
            width=FULL_WIDTH,
            no_value="nothing scored yet",
        ),
    ]


def learning() -> list[Panel]:
    """Return what the trainer does."""
    return [
        graph(
            "Examples by outcome",
            "Each distinct example ends in exactly one of learned, sampled_out and quarantined.",
            "eps",
            [
                Query(rate("examples_total", by="outcome"), "{{outcome}}"),
                Query(rate("learned_examples_total"), "taken"),
            ],
        ),
        graph(
            "Loss",
            "Mean loss over the targets of the last mini-batch.",
            "none",
            [Query(series("learn_loss"), "{{instance}}")],
        ),
        graph(
            "Are probabilities right?",
            "Calibration error: mean distance between stated probabilities and how often it happened, over bins. Brier "
            "score: their mean squared difference; it should be below that of stating the mean share every time.",
            "none",
            [
                Query(calibration_error("$window"), "calibration error"),
                Query(brier("$window"), "Brier"),
                Query(brier_of_share("$window"), "Brier of the mean share"),
            ],
        ),
        graph(
            "Learning step",
            "Time of one step of the trainer.",
            "s",
            [Query(quantile(q, "learn_step"), f"p{q * 100:.0f}") for q in (0.5, 0.99)],
        ),
        graph(
            "Freshness",
            "From an event to the first serving weights that know of it; the oldest event of each update.",
            "s",
            [Query(quantile(q, "freshness"), f"p{q * 100:.0f}") for q in (0.5, 0.99)],
        ),
        graph(
            "Model version",
            "Version of the weights that serve, by process; a flat line learns nothing.",
            "none",
            [Query(series("model_version"), "{{instance}}")],
        ),
        graph(
            "Updates refused, rollbacks",
            "Weights that were not finite or not sane never serve.",
            "short",
            [
                Query(f"sum by (reason) (increase({series('updates_refused_total')}[$window]))", "{{reason}}"),
                Query(f"sum(increase({series('rollbacks_total')}[$window]))", "rollbacks"),
            ],
        ),
    ]
