"""What a replay says at its end: figures for programs, a table and a picture for people."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from online_model.evaluation.metrics import Accuracy, GroupAccuracy, by_group
from online_model.evaluation.plots import draw_course
from online_model.evaluation.prequential import Outcome
from online_model.evaluation.summary import at_json, model_figures
from online_model.evaluation.watch import Watch


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """A finished replay.

    Attributes:
        outcome: What it gave.
        model: The name of what was put to the test.
        settings: Everything that decided the figures, plain JSON values.
        skipped_lines: Lines of the file that were no events.
        watch: What was noted of every list, where that was asked for.
    """

    outcome: Outcome
    model: str
    settings: dict[str, object]
    skipped_lines: int
    watch: Watch | None = None

    def figures(self) -> dict[str, object]:
        """Return everything as one JSON object."""
        figures: dict[str, object] = {
            "events": self.outcome.events,
            **_accuracy(self.outcome.accuracy),
            "seconds": round(self.outcome.seconds, 3),
            "model": self.model,
            "settings": self.settings,
            "unscored": self.outcome.unscored,
            "skipped_lines": self.skipped_lines,
        }
        comparison = self.outcome.comparison
        if comparison is not None:
            figures["comparison"] = {
                "after": comparison.after,
                "live": _accuracy(comparison.live),
                "frozen": _accuracy(comparison.frozen),
            }
        if self.settings.get("by") is not None:
            figures["by"] = [asdict(group) for group in self._groups()]
        if self.watch is not None:
            figures["details"] = model_figures(self.watch, "model", self.outcome.ranks)
        return figures

    def write_json(self, path: Path) -> None:
        """Write the figures to a file.

        Raises:
            OSError: It cannot be written.
        """
        path.write_text(json.dumps(self.figures(), indent=1) + "\n")

    def draw(self, path: Path, title: str) -> None:
        """Draw recall over the stream; raises as `draw_course` does."""
        courses = {self.model: self.outcome.accuracy}
        if self.outcome.comparison is not None:
            courses["frozen"] = self.outcome.comparison.frozen
        draw_course(path, courses, title)

    def print_table(self) -> None:
        """Print a small table to standard output."""
        outcome = self.outcome
        table = Table("model", "scored", "recall@20", "MRR@20", "last tenth")
        rows = [(self.model, outcome.accuracy)]
        if outcome.comparison is not None:
            share = f"after event {outcome.comparison.after}"
            rows.append((f"{self.model}, {share}", outcome.comparison.live))
            rows.append((f"frozen, {share}", outcome.comparison.frozen))
        for name, accuracy in rows:
            last = f"{_figure(accuracy.recall_tenths[-1])} / {_figure(accuracy.mrr_tenths[-1])}"
            table.add_row(name, f"{accuracy.scored:,}", _figure(accuracy.recall), _figure(accuracy.mrr), last)
        console = Console()
        console.print(table)
        if self.settings.get("by") is not None:
            console.print(self._table_by_group())
        per_second = outcome.events / outcome.seconds if outcome.seconds else 0.0
        console.print(f"{outcome.events:,} events in {outcome.seconds:.1f} s ({per_second:,.0f} a second)")

    def _groups(self) -> list[GroupAccuracy]:
        return by_group(self.outcome.ranks, self.outcome.groups)

    def _table_by_group(self) -> Table:
        table = Table(str(self.settings["by"]), "scored", "recall@20", "MRR@20", "seen before", "recall@20", "MRR@20")
        groups = self._groups()
        for group in groups:
            known = (f"{group.seen:,}", _figure(group.recall_seen), _figure(group.mrr_seen))
            table.add_row(group.name, f"{group.scored:,}", _figure(group.recall), _figure(group.mrr), *known)
        seen = [group for group in groups if group.seen]
        means = [_mean(group.recall for group in groups), _mean(group.mrr for group in groups)]
        means_seen = [_mean(group.recall_seen for group in seen), _mean(group.mrr_seen for group in seen)]
        table.add_section()
        table.add_row(f"mean of {len(groups)}", "", *map(_figure, means), "", *map(_figure, means_seen))
        return table


def _mean(values: Iterable[float | None]) -> float | None:
    """The mean of those that are there."""
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None


def _accuracy(accuracy: Accuracy) -> dict[str, object]:
    return {
        "scored": accuracy.scored,
        "recall": _tidy(accuracy.recall),
        "mrr": _tidy(accuracy.mrr),
        "recall_tenths": [_tidy(value) for value in accuracy.recall_tenths],
        "mrr_tenths": [_tidy(value) for value in accuracy.mrr_tenths],
        "at": at_json(accuracy.at),
    }


def _tidy(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
