"""How every benchmark ends: a table, one JSON object, and a look back at what the same benchmark found here last.

A run is kept as one line of a file of its own for each benchmark, machine and set of settings, so that only like is
compared with like. The files are the user's, outside of the repository.
"""

import hashlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from rich.console import Console
from rich.table import Table

from stream.settings import Settings

Rows: TypeAlias = Mapping[str, Mapping[str, float]]
"""What one repetition found: by row (a rate, a rival, a size) and by figure, whose name ends in its unit."""

STDOUT = Path("-")
FILE_WIDTH = 200
_SETTINGS = {"model", "trainer", "intake", "lists", "sequence", "measure", "device"}
"""The settings that a figure depends on; addresses and names do not make another run."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a benchmark found.

    Attributes:
        benchmark: Its name.
        runs: One `Rows` a repetition.
        parameters: What was asked for: rates, numbers of events. Another value is another benchmark.
        details: What is for the JSON object alone.
        notes: Lines below the table.
    """

    benchmark: str
    runs: Sequence[Rows]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def summary(self, summarise: Callable[[list[float]], float] = statistics.median) -> dict[str, dict[str, float]]:
        """Return one value for each row and figure: the median over the repetitions, unless told otherwise.

        >>> Measured("b", [{"x": {"ms": 1.0}}, {"x": {"ms": 5.0}}, {"x": {"ms": 2.0}}]).summary()
        {'x': {'ms': 2.0}}
        """
        values: dict[str, dict[str, list[float]]] = {}
        for run in self.runs:
            for row, figures in run.items():
                for name, value in figures.items():
                    values.setdefault(row, {}).setdefault(name, []).append(value)
        return {row: {name: summarise(found) for name, found in figures.items()} for row, figures in values.items()}


def repeated(what: str, n: int, measure: Callable[[], Rows]) -> list[Rows]:
    """Measure so many times, and say which one is under way."""
    console = _console(stderr=True)
    runs = []
    for number in range(1, n + 1):
        console.print(f"{what}: repetition {number} of {n} ...")
        runs.append(measure())
    return runs


def conclude(measured: Measured, settings: Settings, json_path: Path | None = None, folder: Path | None = None) -> None:
    """Print the table, write the JSON object where one is asked for, and keep the run for the next one.

    Args:
        measured: What was found.
        settings: What it was found with.
        json_path: Where the JSON object goes; `-` is standard output, and the table then goes to standard error.
        folder: Where runs are kept; the user's own folder of states by default.
    """
    place = (folder or default_folder()) / f"{measured.benchmark}-{_key(measured, settings)}.jsonl"
    last = last_run(place)
    run = _as_json(measured, settings)
    before = None if last is None else {"date": last["date"], "medians": last["medians"]}
    console = write_json(json_path, {**run, "last": before})
    console.print(_table(measured, last))
    for note in measured.notes:
        console.print(note)
    _keep(place, run, console)


def write_json(path: Path | None, result: Mapping[str, Any]) -> Console:
    """Write one JSON object where one is asked for; `-` is standard output.

    Returns:
        Where the table goes: to standard error, where the object stands on standard output.
    """
    text = json.dumps(result, indent=2) + "\n"
    if path == STDOUT:
        sys.stdout.write(text)
    elif path is not None:
        path.write_text(text)
    return _console(stderr=path == STDOUT)


def default_folder() -> Path:
    """Return where runs are kept unless somebody says otherwise: `$XDG_STATE_HOME/millstream/benchmarks`."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "millstream" / "benchmarks"


def last_run(place: Path) -> dict[str, Any] | None:
    """Return the newest run of a file, None where there is none; a line that was cut short is passed over."""
    try:
        lines = place.read_text().splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        try:
            run = json.loads(line)
        except ValueError:
            continue
        if isinstance(run, dict) and {"date", "medians"} <= run.keys():
            return run
    return None


def machine() -> str:
    """Say in words what this machine computes with."""
    model = platform.machine()
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            model += ", " + line.partition(":")[2].strip()
            break
    words = [f"{os.cpu_count()} cores, {model}"]
    if shutil.which("nvidia-smi"):
        asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        found = subprocess.run(asked, capture_output=True, text=True, check=False)
        words += found.stdout.split("\n")[:1] if found.returncode == 0 else []
    return ", ".join(words)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _key(measured: Measured, settings: Settings) -> str:
    what = [machine(), measured.parameters, settings.model_dump(mode="json", include=_SETTINGS)]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]


def _as_json(measured: Measured, settings: Settings) -> dict[str, Any]:
    return {
        "benchmark": measured.benchmark,
        "machine": machine(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%MZ"),
        "parameters": dict(measured.parameters),
        "settings": settings.model_dump(mode="json", include=_SETTINGS),
        "repetitions": len(measured.runs),
        "medians": measured.summary(),
        "runs": list(measured.runs),
        "details": dict(measured.details),
    }


def _keep(place: Path, run: Mapping[str, Any], console: Console) -> None:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("a") as file:
            file.write(json.dumps(run) + "\n")
    except OSError as error:  # the figures are on the terminal: no reason to fail after minutes of work
        console.print(f"this run is not kept for comparison: {error}")


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False)
    # In a file a table is as wide as it needs to be.
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=FILE_WIDTH)


def _table(measured: Measured, last: Mapping[str, Any] | None) -> Table:
    medians = measured.summary()
    n = len(measured.runs)
    title = f"{measured.benchmark} on {machine()}" + (f"; medians of {n} runs" if n > 1 else "")
    if last is not None:
        title += f"\nbehind x: times the last run's, of {last['date']}"
    table = Table(title=title, title_justify="left")
    earlier: Rows = {} if last is None else last["medians"]
    if len(medians) == 1:
        _fill_single(table, measured, earlier)
    else:
        _fill_rows(table, medians, earlier)
    return table


def _fill_single(table: Table, measured: Measured, earlier: Rows) -> None:
    """One row stands upright, with the spread of its repetitions."""
    ((row, figures),) = measured.summary().items()
    least, most = measured.summary(min)[row], measured.summary(max)[row]
    for heading in ("", row, *(("least", "most") if len(measured.runs) > 1 else ())):
        table.add_column(heading, justify="right" if heading else "left")
    for name, value in figures.items():
        spread = [number(least[name]), number(most[name])] if len(measured.runs) > 1 else []
        table.add_row(_words(name), _compared(value, earlier.get(row, {}).get(name)), *spread)


def _fill_rows(table: Table, medians: Rows, earlier: Rows) -> None:
    names = list(dict.fromkeys(name for figures in medians.values() for name in figures))
    table.add_column("", no_wrap=True)
    for name in names:
        table.add_column(_words(name), justify="right")
    group = None
    for row, figures in medians.items():
        cells = (_compared(figures[name], earlier.get(row, {}).get(name)) if name in figures else "" for name in names)
        # `200/s` and then `200/s wait`: the second belongs to the first.
        part = None if group is None else row.removeprefix(f"{group} ")
        if part in (None, row):
            group, part = row, row
        else:
            part = f"  {part}"
        table.add_row(part, *cells)


def _compared(value: float, before: float | None) -> str:
    return number(value) + (f" x{value / before:.2f}" if before else "")


def _words(name: str) -> str:
    return name.replace("_", " ")


def number(value: float) -> str:
    """Write a figure for people.

    >>> number(1234.56), number(12.3456), number(0.012344), number(3.0)
    ('1,235', '12.35', '0.01234', '3')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
