"""Recorded streams of events: CSV or JSON lines, compressed or not, broken lines told by their numbers."""

import csv
import gzip
import json
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from _csv import Reader

TimeUnit: TypeAlias = Literal["auto", "s", "ms"]

FIELDS = ("user_id", "item_id", "behavior", "timestamp")
# Below it, a number of milliseconds would lie before 1973: it must be seconds.
_LEAST_MS = 1e11
# Beyond it, a number of milliseconds would lie after the year 5138: it must be micro- or nanoseconds.
_MOST_MS = 1e14
_SAMPLE = 100
_N_EXAMPLES = 5


class StreamError(ValueError):
    """A file that cannot be read as a stream of events; the message says where and why."""


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One line of a recorded stream.

    Attributes:
        line: Its number in the file, from 1.
        key: Who acted: the user, or whatever column sequences are kept for.
        item: The item; None where the event concerns none.
        behavior: What was done, as the file says it.
        time: Milliseconds since the epoch.
        group: Value of the column that figures are told by; empty where there is none.
    """

    line: int
    key: str
    item: str | None
    behavior: str
    time: int
    group: str = ""


@dataclass(slots=True)
class BadLines:
    """Lines that are no events.

    Attributes:
        count: How many.
        first: The first few, with their numbers and what is wrong.
    """

    count: int = 0
    first: list[str] = field(default_factory=list)


def csv_rows(reader: "Reader", width: int) -> Iterator[tuple[int, list[str] | str]]:
    """Yield number and values of each row after the header, or what is wrong with it; empty lines are passed over."""
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            yield reader.line_num, str(error)
            continue
        if row is None:
            return
        if len(row) == width:
            yield reader.line_num, row
        elif row:
            yield reader.line_num, f"{len(row)} columns where the header has {width}"


class EventFile:
    """A file of events that can be read several times.

    Attributes:
        bad: The broken lines of the latest reading.
        unit: What timestamps that are numbers count: seconds or milliseconds.
    """

    def __init__(
        self,
        path: Path,
        *,
        columns: Mapping[str, str] | None = None,
        key: str = "user_id",
        unit: TimeUnit = "auto",
        strict: bool = False,
        group: str | None = None,
    ) -> None:
        """Open the file far enough to know its columns and its unit of time.

        Args:
            path: `.csv`, `.jsonl` or `.ndjson`, with or without `.gz`.
            columns: For fields that are named differently, the column of each field.
            key: The field or column that sequences are kept for.
            unit: What numbers in the time column count; "auto" tells by their size.
            strict: Stop at the first broken line instead of skipping it.
            group: A column that figures are told by.

        Raises:
            StreamError: The file cannot be read, lacks a column, or does not tell its unit of time.
        """
        columns = dict(columns or {})
        unknown = sorted(set(columns) - set(FIELDS))
        if unknown:
            raise StreamError(f"cannot map to {', '.join(unknown)}: the fields are {', '.join(FIELDS)}")
        self.path = path
        self.bad = BadLines()
        self._strict = strict
        self._json = _is_json(path)
        self._columns = {name: columns.get(name, name) for name in FIELDS}
        self._columns["user_id"] = self._columns.get(key, key)
        if group is not None:
            self._columns["group"] = group
        self.unit: Literal["s", "ms"] = self._guess_unit() if unit == "auto" else unit

    def read(self) -> Iterator[StreamEvent]:
        """Yield the events in the order of the file.

        Raises:
            StreamError: The file ends torn, or a line is broken and the reading strict.
        """
        self.bad = BadLines()
        scale = 1000.0 if self.unit == "s" else 1.0
        for number, values in self._lines():
            try:
                if isinstance(values, str):
                    raise ValueError(values)
                yield _event(number, values, scale)
            except ValueError as error:
                self.refuse(number, str(error))

    def refuse(self, line: int, reason: str) -> None:
        """Count a line that is no event, or that whoever reads the events cannot use.

        Raises:
            StreamError: The reading is strict.
        """
        message = f"{self.path}, line {line}: {reason}"
        if self._strict:
            raise StreamError(message)
        self.bad.count += 1
        if len(self.bad.first) < _N_EXAMPLES:
            self.bad.first.append(message)

    def _lines(self) -> Iterator[tuple[int, list[object] | str]]:
        """Numbers and the values of each line, or what is wrong with it."""
        try:
            with _open(self.path) as file:
                yield from self._json_lines(file) if self._json else self._csv_lines(file)
        except (OSError, EOFError) as error:
            raise StreamError(f"cannot read {self.path}: {getattr(error, 'strerror', None) or error}") from error

    def _csv_lines(self, file: IO[str]) -> Iterator[tuple[int, list[object] | str]]:
        reader = csv.reader(file)
        header = next(reader, [])
        if header:
            header[0] = header[0].removeprefix("\ufeff")
        missing = [column for name, column in self._columns.items() if column not in header and name != "behavior"]
        if missing:
            raise StreamError(
                f"{self.path} has no column {', '.join(missing)}; its columns are {', '.join(header) or 'none'} "
                "(name others with --map COLUMN=FIELD)"
            )
        places = [header.index(column) if column in header else -1 for column in self._columns.values()]
        for number, row in csv_rows(reader, len(header)):
            yield number, row if isinstance(row, str) else [row[place] if place >= 0 else "view" for place in places]

    def _json_lines(self, file: IO[str]) -> Iterator[tuple[int, list[object] | str]]:
        columns = list(self._columns.values())
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield number, f"no JSON: {error}"
                continue
            if not isinstance(record, dict):
                yield number, "no JSON object"
                continue
            record.setdefault(self._columns["behavior"], "view")
            yield number, [record.get(column) for column in columns]

    def _guess_unit(self) -> Literal["s", "ms"]:
        numbers = []
        for (_, values), _ in zip(self._lines(), range(_SAMPLE), strict=False):
            number = math.nan if isinstance(values, str) else _number(values[3])
            if math.isfinite(number):
                numbers.append(number)
        if any(number >= _MOST_MS for number in numbers):
            raise StreamError(f"{self.path}: timestamps like {max(numbers):.0f} are neither seconds nor milliseconds")
        units = {"s" if number < _LEAST_MS else "ms" for number in numbers}
        if len(units) == 2:
            raise StreamError(
                f"{self.path}: timestamps from {min(numbers):.0f} to {max(numbers):.0f} may be either unit: "
                "say which with --time-unit"
            )
        return "s" if units == {"s"} else "ms"


def _event(number: int, values: list[object], scale: float) -> StreamEvent:
    key, item, behavior, time, *group = values
    return StreamEvent(
        number,
        _text(key, "user_id"),
        None if item is None or item == "" else _text(item, "item_id"),
        _text(behavior, "behavior"),
        _milliseconds(time, scale),
        sys.intern(str(group[0])) if group else "",
    )


def _text(value: object, name: str) -> str:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not 1 <= len(text) <= 256:
        raise ValueError(f"{name} must be text of 1 to 256 characters, not {value!r:.80}")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{name} is not valid UTF-8") from error
    return text


def _number(value: object) -> float:
    """The number that a value is or spells, NaN for none."""
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def _milliseconds(value: object, scale: float) -> int:
    number = _number(value) * scale
    if 0 <= number < _MOST_MS:
        return round(number)
    if isinstance(value, str) and math.isnan(number):
        time = datetime.fromisoformat(value)
        if time.tzinfo is None:
            raise ValueError(f"timestamp {value!r} has no offset from UTC")
        return round(time.timestamp() * 1000)
    raise ValueError(f"timestamp must be a time since 1970, not {value!r:.80}")


def _is_json(path: Path) -> bool:
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    kind = suffixes[-1] if suffixes else ""
    if kind not in (".csv", ".jsonl", ".ndjson"):
        raise StreamError(f"{path} must end in .csv, .jsonl or .ndjson, with or without .gz")
    return kind != ".csv"


def _open(path: Path) -> IO[str]:
    # What is no UTF-8 becomes surrogates, which ids refuse: one broken line does not end the reading.
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", errors="surrogateescape", newline="")
    return path.open(encoding="utf-8", errors="surrogateescape", newline="")
