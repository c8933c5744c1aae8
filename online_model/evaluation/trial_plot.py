"""The course of a trial as a picture: recall by tenth of the stream, one line for each arm."""

from collections.abc import Mapping
from pathlib import Path

from online_model.evaluation.metrics import N_PARTS
from online_model.evaluation.trial import TRIAL_ARMS, TrialArm, TrialOutcome

_COLOURS: Mapping[TrialArm, str] = {
    "live": "tab:red",
    "nightly": "tab:orange",
    "frozen": "tab:blue",
    "markov": "tab:green",
    "popularity": "tab:gray",
}


def draw_trial(path: Path, outcome: TrialOutcome, n_events: int, title: str, names: Mapping[TrialArm, str]) -> None:
    """Draw the arms and write the picture to a file.

    Args:
        path: Its ending tells what kind of picture.
        outcome: Of the trial.
        n_events: Events in the stream.
        title: Above the picture.
        names: What each arm is called.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        ValueError: The file's ending is of no known kind of picture.
        OSError: The file cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.add_subplot()
    middle = 100 / N_PARTS / 2
    for arm in TRIAL_ARMS:
        recalls = [recall for recall in enumerate(outcome.courses[arm].recall_tenths) if recall[1] is not None]
        axes.plot(
            [100 / N_PARTS * part + middle for part, _ in recalls],
            [100 * (recall or 0.0) for _, recall in recalls],
            marker="o",
            color=_COLOURS[arm],
            linewidth=2.5 if arm == "live" else 1.5,
            zorder=3 if arm == "live" else 2,
            label=names[arm],
        )
    if outcome.compared_from is not None:
        axes.axvline(100 * outcome.compared_from / n_events, color="black", alpha=0.4, linestyle=":")
        axes.annotate(
            " compared from here",
            (100 * outcome.compared_from / n_events, 0.96),
            xycoords=("data", "axes fraction"),
            fontsize="small",
            alpha=0.7,
        )
    axes.set(title=title, xlabel=f"share of the stream ({n_events:,} events)", ylabel="next item in the top 20")
    axes.set(xlim=(0, 100))
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter(PercentFormatter())
    axes.yaxis.set_major_formatter(PercentFormatter())
    axes.grid(alpha=0.3)
    # Beside the lines, which may run anywhere.
    figure.legend(loc="outside right upper", frameon=False)
    figure.savefig(path, dpi=150)
