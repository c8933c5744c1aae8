"""Passes over a stream as pictures; matplotlib is needed only when one is drawn."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from online_model.evaluation.bootstrap import Interval
from online_model.evaluation.calibration import Calibration
from online_model.evaluation.metrics import Accuracy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Tenths = Sequence[float | None]
_FIGURES = {"recall": "recall at 20", "mrr": "MRR at 20"}


def draw_course(path: Path, courses: Mapping[str, Accuracy], title: str) -> None:
    """Draw recall by tenth of the stream, one line for each model, and write it to a file.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        ValueError: The file's ending is of no known kind of picture.
        OSError: The file cannot be written.
    """
    figure, (axes,) = _figure(1, 8, title)
    for name, accuracy in courses.items():
        _draw_tenths(axes, name, accuracy.recall_tenths)
    _finish(axes, "recall at 20")
    _name(figure, axes)
    figure.savefig(path, dpi=150)


def draw_learning(path: Path, courses: Mapping[str, Mapping[str, Tenths]], title: str) -> None:
    """Draw recall and MRR by tenth of the stream, side by side; raises as `draw_course` does.

    Args:
        path: Where to.
        courses: For each model "recall" and "mrr", by tenth.
        title: What stream it was.
    """
    figure, panels = _figure(2, 12, title)
    for axes, (key, label) in zip(panels, _FIGURES.items(), strict=True):
        for name, course in courses.items():
            _draw_tenths(axes, name, course[key])
        _finish(axes, label)
    _name(figure, panels[0])
    figure.savefig(path, dpi=150)


def draw_gains(
    path: Path, gains: Mapping[str, Mapping[str, Sequence[Interval | None]]], first: str, title: str
) -> None:
    """Draw what one model has over each rival by tenth, with 95% intervals; raises as `draw_course` does.

    Args:
        path: Where to.
        gains: For each rival "recall" and "mrr", by tenth; above 0 where the one model is ahead.
        first: The one model.
        title: What stream it was.
    """
    figure, panels = _figure(2, 12, title)
    for axes, (key, label) in zip(panels, _FIGURES.items(), strict=True):
        for place, (name, gain) in enumerate(gains.items()):
            # Side by side, so that no interval hides another.
            shift = 1.2 * (place - (len(gains) - 1) / 2)
            points = [(10 * part + 5 + shift, at) for part, at in enumerate(gain[key]) if at is not None]
            errors = [[at.difference - at.low for _, at in points], [at.high - at.difference for _, at in points]]
            xs, ys = [x for x, _ in points], [at.difference for _, at in points]
            # A rival has the colour that it has among the learning curves, where the one model comes first.
            color = f"C{(place + 1) % 10}"
            axes.errorbar(xs, ys, errors, color=color, marker="o", markersize=4, capsize=3, label=f"over {name}")
        axes.axhline(0, color="black", linewidth=1)
        _finish(axes, f"gain of {first}, {label}", from_zero=False)
    _name(figure, panels[0])
    figure.savefig(path, dpi=150)


def draw_calibration(path: Path, curves: Mapping[str, Calibration], title: str) -> None:
    """Draw how often what was called probable happened, both axes logarithmic; raises as `draw_course` does."""
    figure, (axes,) = _figure(1, 7, title)
    numbers = [value for curve in curves.values() for value in (*curve.predicted, *curve.happened) if value > 0]
    ends = [min(numbers, default=0.001) / 1.5, min(1.0, max(numbers, default=1.0) * 1.5)]
    axes.plot(ends, ends, color="grey", linestyle="--", linewidth=1, label="as often as stated")
    for name, curve in curves.items():
        points = [(p, h) for p, h in zip(curve.predicted, curve.happened, strict=True) if p > 0 and h > 0]
        label = f"{name} (error {curve.calibration_error:.4f}, Brier {curve.brier:.4f})"
        axes.plot([p for p, _ in points], [h for _, h in points], marker="o", label=label)
    axes.set(xscale="log", yscale="log", xlabel="stated probability, mean of a bin", ylabel="share that happened")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)


def _figure(n_panels: int, width: float, title: str) -> "tuple[Figure, list[Axes]]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 4.8), layout="constrained")
    figure.suptitle(title)
    return figure, [figure.add_subplot(1, n_panels, panel + 1) for panel in range(n_panels)]


def _draw_tenths(axes: "Axes", name: str, tenths: Tenths) -> None:
    points = [(10 * part + 5, value) for part, value in enumerate(tenths) if value is not None]
    axes.plot([x for x, _ in points], [y for _, y in points], marker="o", markersize=4, label=name)


def _finish(axes: "Axes", label: str, *, from_zero: bool = True) -> None:
    axes.set(xlabel="share of the stream, %", ylabel=label, xlim=(0, 100))
    if from_zero:
        axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)


def _name(figure: "Figure", axes: "Axes") -> None:
    """Say what the lines of all panels are, beside them: among them it would hide some."""
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
