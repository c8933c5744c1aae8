"""What a comparison says at its end: a Markdown page, figures for programs, pictures."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from online_model.evaluation.bootstrap import Interval
from online_model.evaluation.calibration import Calibration
from online_model.evaluation.metrics import CUTOFFS, DEPTH
from online_model.evaluation.plots import draw_calibration, draw_gains, draw_learning
from stream.markdown import interval, table

_TITLES = {"all": "All events", "last_70": "The last 70% of the stream"}
_SEGMENTS = (
    "Recall@20 / MRR@20. A user is new until the sequence's key comes back after a pause of half an hour. An item is "
    "unseen where the stream had not brought it (a sure miss), new within 10,000 events of its first. The position "
    "counts the items of the sitting before the target."
)
_Cell = Callable[[Mapping[str, Any]], float | None]


@dataclass(frozen=True, slots=True)
class CompareReport:
    """A finished comparison.

    Attributes:
        figures: What `online_model.evaluation.summary.summarise` returned.
        stream: What the stream is called.
        command: What was run.
        settings: How the file was read, and each model's settings.
    """

    figures: dict[str, Any]
    stream: str
    command: str
    settings: dict[str, Any]

    def write(self, folder: Path) -> list[Path]:
        """Write page, figures and pictures into a folder that exists; return their paths.

        Raises:
            OSError: A file cannot be written.
        """
        page, data = folder / "compare.md", folder / "compare.json"
        data.write_text(
            json.dumps({**self.figures, "command": self.command, "settings": self.settings}, indent=1) + "\n"
        )
        pictures = self._draw(folder)
        page.write_text(self.page(pictures))
        return [page, data, *pictures]

    def page(self, pictures: Sequence[Path] = ()) -> str:
        """Return the Markdown page."""
        sections = [
            f"# {', '.join(self._models)} on {self.stream}\n\n`{self.command}`\n\n"
            f"{self.figures['events']:,} events, {self.figures['scored']:,} scored. Every model predicts each event "
            "with what it learned from the mini-batches before it, and then learns it.",
            *(f"## {title}\n\n{self._window(window)}" for window, title in _TITLES.items()),
            *self._gains(),
            f"## By tenth of the stream\n\n{self._tenths()}",
            f"## By segment\n\n{self._segments()}",
            f"## Cost\n\n{self._cost()}",
            *(f"![{picture.stem}]({picture.name})" for picture in pictures),
        ]
        return "\n\n".join(sections) + "\n"

    def headline(self) -> str:
        """Return a small table: what matters most."""
        columns: dict[str, _Cell] = {
            "recall@20": lambda model: _at(model["all"], DEPTH, "recall"),
            "MRR@20": lambda model: _at(model["all"], DEPTH, "mrr"),
            "recall@20, last 70%": lambda model: _at(model["last_70"], DEPTH, "recall"),
            "MRR@20, last 70%": lambda model: _at(model["last_70"], DEPTH, "mrr"),
        }
        rows = [
            [name, *(_figure(cell(model)) for cell in columns.values()), _count(model["cost"]["events_per_second"])]
            for name, model in self._models.items()
        ]
        return table(["model", *columns, "events/s"], rows)

    @property
    def _models(self) -> dict[str, dict[str, Any]]:
        models: dict[str, dict[str, Any]] = self.figures["models"]
        return models

    def _window(self, window: str) -> str:
        """Every figure, one row each, one column a model."""
        cells = _window_cells()
        rows = [[label, *(_figure(cell(model[window])) for model in self._models.values())] for label, cell in cells]
        return table(["figure", *self._models], [row for row in rows if set(row[1:]) != {"-"}])

    def _gains(self) -> list[str]:
        """What the first model has over each other one, with 95% intervals."""
        if not self.figures["gains"]:
            return []
        rows = []
        for rival, gain in self.figures["gains"].items():
            for window, title in _TITLES.items():
                for figure, label in (("recall", "recall@20"), ("mrr", "MRR@20")):
                    if gain[window] is not None:
                        rows.append([rival, title.lower(), label, interval(gain[window][figure])])
        first = next(iter(self._models))
        about = "Paired bootstrap by user, 1,000 resamples: difference and 95% interval."
        gains = table(["over", "events", "figure", "gain"], rows)
        return [f"## Gain of {first} over each rival\n\n{about}\n\n{gains}"]

    def _tenths(self) -> str:
        rows = [
            [name, label, *(_figure(_at(tenth, DEPTH, figure)) for tenth in model["tenths"])]
            for name, model in self._models.items()
            for figure, label in (("recall", "recall@20"), ("mrr", "MRR@20"))
        ]
        return table(["model", "figure", *(str(tenth + 1) for tenth in range(10))], rows)

    def _segments(self) -> str:
        first = next(iter(self._models.values()))
        rows = []
        for division, parts in first["segments"].items():
            for label, part in parts.items():
                found = [model["segments"][division][label] for model in self._models.values()]
                cells = [f"{_figure(_at(one, DEPTH, 'recall'))} / {_figure(_at(one, DEPTH, 'mrr'))}" for one in found]
                rows.append([division, label, f"{part['scored']:,}", *cells])
        return _SEGMENTS + "\n\n" + table(["by", "segment", "scored", *self._models], rows)

    def _cost(self) -> str:
        head = ["model", "CPU s, answering", "CPU s, learning", "CPU s, lists for figures", "events/s", "events/CPU-s"]
        rows = []
        for name, model in self._models.items():
            cost = model["cost"]
            seconds = [f"{cost[part]:.1f}" for part in ("answer_seconds", "learn_seconds", "list_seconds")]
            rows.append([name, *seconds, _count(cost["events_per_second"]), _count(cost["events_per_cpu_second"])])
        return table(head, rows)

    def _draw(self, folder: Path) -> list[Path]:
        courses = {
            name: {key: [_at(tenth, DEPTH, key) for tenth in model["tenths"]] for key in ("recall", "mrr")}
            for name, model in self._models.items()
        }
        pictures = [folder / "learning.png"]
        draw_learning(pictures[0], courses, self.stream)
        if self.figures["gains"]:
            pictures.append(folder / "gains.png")
            gains = {name: _by_tenth(gain["tenths"]) for name, gain in self.figures["gains"].items()}
            draw_gains(pictures[-1], gains, next(iter(self._models)), f"{self.stream}, with 95% intervals")
        stated = {name: model["all"].get("probability") for name, model in self._models.items()}
        curves = {name: Calibration(**curve) for name, curve in stated.items() if curve is not None}
        if curves:
            pictures.append(folder / "calibration.png")
            draw_calibration(pictures[-1], curves, f"{self.stream}, calibration")
        return pictures


def _window_cells() -> list[tuple[str, _Cell]]:
    def at(k: int, figure: str) -> _Cell:
        return lambda window: _at(window, k, figure)

    def within(group: str, figure: str) -> _Cell:
        return lambda window: (window.get(group) or {}).get(figure)

    cells = [("accuracy (recall@1)", at(1, "recall"))]
    for figure, label in (("recall", "recall"), ("mrr", "MRR"), ("ndcg", "NDCG")):
        cells += [(f"{label}@{k}", at(k, figure)) for k in CUTOFFS if k > 1]
    further = (("precision", "precision"), ("recall", "recall"), ("f1", "F1"))
    cells += [(f"{label}@20, further items of the sitting", within("further", key)) for key, label in further]
    cells += [
        ("catalogue coverage", within("lists", "coverage")),
        ("places held by the most popular 1%", within("lists", "popular_share")),
        ("places held by items new in the last 10,000 events", within("lists", "new_share")),
        ("Brier of `probability`", within("probability", "brier")),
        ("Brier of stating the mean", within("probability", "brier_of_share")),
        ("log-loss of `probability`", within("probability", "log_loss")),
        ("calibration error of `probability`", within("probability", "calibration_error")),
    ]
    return cells


def _by_tenth(tenths: Iterable[dict[str, Any] | None]) -> dict[str, list[Interval | None]]:
    found = list(tenths)
    return {key: [None if tenth is None else Interval(**tenth[key]) for tenth in found] for key in ("recall", "mrr")}


def _at(window: Mapping[str, Any], k: int, figure: str) -> float | None:
    value: float | None = window["at"].get(str(k), {}).get(figure)
    return value


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _count(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"
