"""Search over the settings of models that are compared, on the beginning of the stream, the same budget for each."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stream.entrants import NIGHTLY, Entrant, refuse_batch_size, split_change
from stream.errors import StartupError
from stream.markdown import table
from stream.recorded import Reading, parse_setting, progress, setting_type

if TYPE_CHECKING:
    from online_model.evaluation.search import Range, TrialLog
    from online_model.evaluation.sequences import Step

Spaces = dict[str, dict[str, "Sequence[Any] | Range"]]


@dataclass(frozen=True, slots=True)
class Budget:
    """How much is searched, and what counts.

    Attributes:
        n_trials: Trials of each model, its defaults among them; None for the whole grid.
        seed: Of random draws; None for the grid in order.
        share: Of the stream, from its beginning, that trials see.
        n_folds: Runs of it that figures are told by.
        objective: "recall" or "mrr", mean over the folds.
    """

    n_trials: int | None
    seed: int | None
    share: float
    n_folds: int
    objective: str


def spaces(grids: Iterable[str], file: Path | None, taking_part: Sequence[Entrant]) -> Spaces:
    """Return for each model the values that its settings may take.

    Args:
        grids: MODEL.SETTING=VALUE,VALUE,... or MODEL.SETTING=LOW..HIGH.
        file: The same as JSON: {model: {setting: [values] or "LOW..HIGH"}}.
        taking_part: The models.

    Raises:
        StartupError: A model, setting or value is none.
    """
    names = [entrant.name for entrant in taking_part if not entrant.nightly]
    found: Spaces = {name: {} for name in names}
    for option, grid in [*(("--search", grid) for grid in _from_file(file)), *(("--grid", grid) for grid in grids)]:
        label, rest = split_change(option, grid, names)
        setting, values = _values(option, rest)
        refuse_batch_size(option, setting)
        found[label][setting] = values
    if not any(found.values()):
        raise StartupError("a search needs settings to try: give --grid MODEL.SETTING=VALUE,VALUE,...")
    return found


def _from_file(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        content = json.loads(path.read_text())
        return [
            f"{model}.{setting}=" + (values if isinstance(values, str) else ",".join(_text(value) for value in values))
            for model, settings in content.items()
            for setting, values in settings.items()
        ]
    except OSError as error:
        raise StartupError(f"--search: cannot read {path}: {error.strerror}") from error
    except (ValueError, AttributeError, TypeError) as error:
        raise StartupError(f"--search: {path} must hold {{model: {{setting: [values]}}}}: {error}") from error


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def _values(option: str, text: str) -> "tuple[str, Sequence[Any] | Range]":
    from online_model.evaluation.search import Range

    name, equals, values = text.partition("=")
    low, dots, high = values.partition("..")
    if not (equals and dots):
        return name, [parse_setting(option, f"{name}={value}")[1] for value in values.split(",")]
    kind = setting_type(option, name)
    if kind not in (int, float):
        raise StartupError(f"{option}: {name} is no number, so that it has no range: give its values")
    try:
        return name, Range(float(low), float(high), integer=kind is int)
    except ValueError as error:
        raise StartupError(f"{option}: {name}: {error}") from error


class Search:
    """Tries settings of each model on the beginning of a stream.

    Args:
        taking_part: The models; offline rivals are not searched, and take the settings of their live ones.
        found: For each model the values of its settings.
        budget: How much is searched.
        how: How the stream is read and scored.
        stream: What tells the file from others.
        log: Finished trials.
    """

    def __init__(
        self,
        taking_part: Sequence[Entrant],
        found: Spaces,
        budget: Budget,
        how: Reading,
        stream: Mapping[str, Any],
        log: "TrialLog",
    ) -> None:
        self._taking_part = taking_part
        self._budget = budget
        self._how = how
        self._stream = dict(stream)
        self._log = log
        self._plan = [
            (entrant, settings)
            for entrant in taking_part
            if not entrant.nightly
            for settings in _trials(entrant, found[entrant.name], budget)
        ]
        self._records: dict[str, list[dict[str, Any]]] = {}

    def uneven(self) -> str | None:
        """Say so where models do not have the same number of trials; None where they do."""
        counts = {entrant.name: 0 for entrant, _ in self._plan}
        for entrant, _ in self._plan:
            counts[entrant.name] += 1
        if len(set(counts.values())) == 1:
            return None
        told = ", ".join(f"{name} {n}" for name, n in counts.items())
        return f"not the same number of trials for every model: {told} (a larger grid or --random with ranges evens it)"

    def run(self, read: "Callable[[], Iterator[Step]]", n_events: int) -> None:
        """Make all trials that are not in the log yet.

        Args:
            read: Returns the stream from its beginning.
            n_events: Events of it that trials see.
        """
        with progress(len(self._plan) * n_events, "searching") as on_batch:
            for number, (entrant, settings) in enumerate(self._plan):
                begin = number * n_events
                record = self._trial(entrant, settings, read, n_events, partial(_shifted, on_batch, begin))
                self._records.setdefault(entrant.name, []).append({**record, "settings": settings})

    def best(self) -> list[Entrant]:
        """Return the models with the settings that did best; offline rivals with those of their live ones."""
        chosen = {
            name: max(records, key=lambda record: record[self._budget.objective] or 0.0)["settings"]
            for name, records in self._records.items()
        }
        return [
            entrant.with_settings(chosen.get(entrant.name.removeprefix(NIGHTLY), {})) for entrant in self._taking_part
        ]

    def page(self) -> str:
        """Return a Markdown page: every trial of every model, the best first."""
        objective, share = self._budget.objective, self._budget.share
        sections = [
            f"# Search on the first {share:.0%} of {self._stream['file']}\n\n"
            f"Mean and standard deviation over {self._budget.n_folds} folds that follow each other, each predicted "
            f"with what was learned before it. The best {objective} first."
        ]
        for name, records in self._records.items():
            ordered = sorted(records, key=lambda record: -(record[objective] or 0.0))
            rows = [
                [
                    " ".join(f"{setting}={value}" for setting, value in record["settings"].items()) or "defaults",
                    _spread(record, "recall"),
                    _spread(record, "mrr"),
                    f"{record['cpu_seconds']:.1f}",
                ]
                for record in ordered
            ]
            head = ["settings", "recall@20", "MRR@20", "CPU s"]
            options = " ".join(f"--set {name}.{key}={value}" for key, value in ordered[0]["settings"].items())
            best = f"\n\nBest: `{options}`" if options else ""
            sections.append(f"## {name}, {len(records)} trials\n\n{table(head, rows)}{best}")
        return "\n\n".join(sections) + "\n"

    def _trial(
        self,
        entrant: Entrant,
        settings: dict[str, Any],
        read: "Callable[[], Iterator[Step]]",
        n_events: int,
        on_batch: Callable[[int], None],
    ) -> dict[str, Any]:
        """A finished trial: from the log, or made now and put there."""
        from online_model.evaluation.search import identity

        tried = entrant.with_settings(settings)
        facts = {
            **self._stream,
            **asdict(self._how),
            "events": n_events,
            "folds": self._budget.n_folds,
            "learner": tried.kind,
            "config": tried.config.to_mapping(),
        }
        name = identity(facts)
        known = self._log.get(name)
        if known is not None:
            return known
        record = {"id": name, **self._figures(tried, read, n_events, on_batch), **facts}
        self._log.add(record)
        return record

    def _figures(
        self,
        tried: Entrant,
        read: "Callable[[], Iterator[Step]]",
        n_events: int,
        on_batch: Callable[[int], None],
    ) -> dict[str, Any]:
        from online_model.evaluation.folds import evaluate
        from online_model.protocol import ModelDiverged

        try:
            learner = tried.build(read, n_events, 1)
            folds, cost = evaluate(
                learner,
                islice(read(), n_events),
                n_events,
                self._budget.n_folds,
                batch_size=tried.config.batch_size,
                served=self._how.served,
                repeats=self._how.repeats,
                on_batch=on_batch,
            )
        except ModelDiverged as error:
            # Settings under which a model falls apart are a result, and used up a trial.
            return {"recall": None, "mrr": None, "failed": str(error), "cpu_seconds": 0.0}
        figures: dict[str, Any] = {
            key: round(value, 6)
            for key, value in (
                ("recall", folds.mean("recall")),
                ("recall_std", folds.std("recall")),
                ("mrr", folds.mean("mrr")),
                ("mrr_std", folds.std("mrr")),
            )
        }
        by_fold = {"recall_folds": folds.recall, "mrr_folds": folds.mrr}
        return {**figures, **by_fold, "cpu_seconds": round(cost.answer_seconds + cost.learn_seconds, 3)}


def _trials(entrant: Entrant, space: "dict[str, Sequence[Any] | Range]", budget: Budget) -> list[dict[str, Any]]:
    from online_model.evaluation.search import trials

    try:
        return trials(space, entrant.config.to_mapping(), budget.n_trials, budget.seed)
    except ValueError as error:
        raise StartupError(f"search of {entrant.name}: {error} (--random)") from error


def _shifted(on_batch: Callable[[int], None], begin: int, done: int) -> None:
    on_batch(begin + done)


def _spread(record: Mapping[str, Any], figure: str) -> str:
    if record[figure] is None:
        return "diverged"
    return f"{record[figure]:.4f} ± {record[figure + '_std']:.4f}"
