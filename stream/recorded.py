"""A recorded stream and a model as a command line names them: what the offline commands share."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from stream.errors import StartupError
from stream.settings import Settings

if TYPE_CHECKING:
    from online_model.config import ModelConfig
    from online_model.evaluation.sequences import Step
    from online_model.evaluation.streams import EventFile


class Unit(StrEnum):
    """What numbers in the time column count."""

    AUTO = "auto"
    SECONDS = "s"
    MILLISECONDS = "ms"


@dataclass(frozen=True, slots=True)
class Reading:
    """How the file is read as a stream, and which of its events are scored."""

    key: str
    session_gap: float | None
    no_repeats: bool
    limit: int | None
    repeats: bool = False
    by: str | None = None

    @property
    def served(self) -> bool:
        """Whether an event is measured against the list that was served before it, instead of when it arrives."""
        return not (self.no_repeats or self.repeats)


def reading(
    settings: Settings, key: str, session_gap: float | None, no_repeats: bool, repeats: bool, limit: int | None
) -> Reading:
    """Return how to read a file; a sequence without a gap given ends at a pause only in the live measure.

    Raises:
        StartupError: The options do not go together.
    """
    if session_gap is not None and session_gap <= 0:
        raise StartupError(f"--session-gap must be above 0 seconds, not {session_gap:g}")
    if no_repeats and repeats:
        raise StartupError("--repeats keeps what --no-repeats leaves out: give one of them")
    default_gap = None if no_repeats or repeats else float(settings.sequence.sitting_gap_seconds)
    return Reading(key, default_gap if session_gap is None else session_gap, no_repeats, limit, repeats)


def open_stream(
    settings: Settings, file: Path, reading: Reading, mapping: Iterable[str], unit: Unit, strict: bool
) -> "tuple[Callable[[], Iterator[Step]], EventFile]":
    """Return a stream that can be read several times, and the file behind it.

    Raises:
        StartupError: The file cannot be read, or a column is not there.
    """
    from online_model.evaluation.sequences import Sequences
    from online_model.evaluation.streams import EventFile, StreamError
    from stream.behaviors import behavior_table

    columns = parse_columns(mapping)
    roles = {name: (behavior.name, behavior.role) for name, behavior in behavior_table(settings.behaviors).items()}
    try:
        events = EventFile(file, columns=columns, key=reading.key, unit=unit.value, strict=strict, group=reading.by)
    except StreamError as error:
        raise StartupError(str(error)) from error
    gap_ms = None if reading.session_gap is None else round(reading.session_gap * 1000)

    def read() -> "Iterator[Step]":
        sequences = Sequences(roles, gap_ms, drop_repeats=reading.no_repeats, refuse=events.refuse)
        return islice(sequences.follow(events.read()), reading.limit)

    return read, events


def parse_columns(pairs: Iterable[str]) -> dict[str, str]:
    """Return the column of each field that COLUMN=FIELD pairs name; a column's own name may hold an equals sign.

    Raises:
        StartupError: A pair is malformed, or a field is named twice.

    >>> parse_columns(["visitor=user_id", "utm=a=item_id"])
    {'user_id': 'visitor', 'item_id': 'utm=a'}
    """
    columns: dict[str, str] = {}
    for pair in pairs:
        column, equals, field = pair.rpartition("=")
        if not (column and equals and field):
            raise StartupError(f"--map must be COLUMN=FIELD, not {pair!r}")
        if field in columns:
            raise StartupError(f"--map names two columns for {field}: {columns[field]} and {column}")
        columns[field] = column
    return columns


def refuse_empty(file: Path, n_events: int, events: "EventFile") -> None:
    """Say what is wrong with a file without a single event.

    Raises:
        StartupError: There is none.
    """
    if not n_events:
        first = "".join(f"; {bad}" for bad in events.bad.first[:1])
        raise StartupError(f"{file} holds no event that can be used{first}")


def count_events(read: "Callable[[], Iterator[Step]]", events: "EventFile") -> int:
    """Return the length of a stream.

    Raises:
        StartupError: It cannot be read, or there is no event in it.
    """
    from online_model.evaluation.streams import StreamError

    try:
        n_events = sum(1 for _ in read())
    except StreamError as error:
        raise StartupError(str(error)) from error
    refuse_empty(events.path, n_events, events)
    return n_events


def warn_of_bad_lines(events: "EventFile") -> None:
    """Tell on standard error which lines were no events."""
    for message in events.bad.first:
        print(f"skipped {message}", file=sys.stderr)
    if events.bad.count > len(events.bad.first):
        print(f"skipped {events.bad.count - len(events.bad.first)} more broken lines", file=sys.stderr)


def need_folder(option: str, path: Path) -> None:
    """Fail before the work, not after it, where a file could not be written.

    Raises:
        StartupError: Its folder is not there.
    """
    if not path.parent.is_dir():
        raise StartupError(f"{option}: there is no folder {path.parent}")


def need_matplotlib(option: str) -> None:
    """Fail before the work where no picture can be drawn.

    Raises:
        StartupError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise StartupError(f"{option} needs matplotlib: install millstream with its extra `plot`") from error


def default_model() -> str:
    """Return the name of the learner that measured best."""
    from online_model.learners import DEFAULT

    return DEFAULT


def check_model(option: str, name: str) -> str:
    """Return the name of a learner.

    Raises:
        StartupError: There is none of that name; the message lists those there are.
    """
    from online_model.learners import LEARNERS

    if name not in LEARNERS:
        raise StartupError(f"{option} must be one of {', '.join(LEARNERS)}, not {name!r}")
    return name


def model_config(settings: Settings, given: dict[str, Any]) -> "ModelConfig":
    """Return the settings of the model with some of them given.

    Raises:
        StartupError: One is out of range.
    """
    try:
        device = settings.device if settings.model.device == "auto" else settings.model.device
        config: ModelConfig = replace(settings.model, **{"device": device, **given})
    except ValueError as error:
        raise StartupError(f"model settings: {error}") from error
    return config


def parse_setting(option: str, pair: str) -> tuple[str, Any]:
    """Return name and value of NAME=VALUE, the value typed as the field of ModelConfig is.

    Raises:
        StartupError: There is no such setting, or the text is no such value.

    >>> parse_setting("--model-setting", "learning_rate=0.1")
    ('learning_rate', 0.1)
    """
    name, equals, text = pair.partition("=")
    if not (name and equals):
        raise StartupError(f"{option} must be NAME=VALUE, not {pair!r}")
    kind = setting_type(option, name)
    try:
        return name, _value(kind, text)
    except ValueError as error:
        raise StartupError(f"{option}: {name} must be {_described(kind)}, not {text!r}") from error


def setting_type(option: str, name: str) -> Any:
    """Return the type of a field of ModelConfig.

    Raises:
        StartupError: There is no such field.
    """
    from online_model.config import ModelConfig

    kinds = get_type_hints(ModelConfig)
    names = [field for field in ModelConfig.__dataclass_fields__ if field in kinds]
    if name not in names:
        raise StartupError(f"{option}: there is no model setting {name!r}; there are {', '.join(names)}")
    return kinds[name]


def _value(kind: Any, text: str) -> Any:
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(text)
        return text.lower() == "true"
    if kind in (int, float, str):
        return kind(text)
    if get_origin(kind) is Literal:
        if text not in get_args(kind):
            raise ValueError(text)
        return text
    if get_origin(kind) is tuple:
        return tuple(_value(get_args(kind)[0], part) for part in text.split("+") if part)
    if type(None) in get_args(kind):
        (inner,) = (part for part in get_args(kind) if part is not type(None))
        return None if text.lower() == "none" else _value(inner, text)
    raise ValueError(f"a setting of type {kind} cannot be given as text")


def _described(kind: Any) -> str:
    words = {bool: "true or false", int: "an integer", float: "a number", str: "text"}
    if kind in words:
        return words[kind]
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, get_args(kind)))
    if get_origin(kind) is tuple:
        return f"{_described(get_args(kind)[0])}, several joined by +"
    if type(None) in get_args(kind):
        return " or ".join("none" if part is type(None) else _described(part) for part in get_args(kind))
    return str(kind)


@contextmanager
def progress(total: int | None, text: str) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, nothing in a pipe; give it the number of events that are done."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(text, total=total)
        yield lambda done: bar.update(task, completed=done)
