"""The course of a pass over a stream as a picture."""

from collections.abc import Mapping
from pathlib import Path

from online_model.evaluation.metrics import Accuracy


def draw_course(path: Path, courses: Mapping[str, Accuracy], title: str) -> None:
    """Draw recall by tenth of the stream, one line for each model, and write it to a file.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        ValueError: The file's ending is of no known kind of picture.
        OSError: The file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for name, accuracy in courses.items():
        points = [(10 * part + 5, recall) for part, recall in enumerate(accuracy.recall_tenths) if recall is not None]
        axes.plot([x for x, _ in points], [y for _, y in points], marker="o", label=name)
    axes.set(title=title, xlabel="share of the stream, %", ylabel="recall at 20", xlim=(0, 100))
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)
