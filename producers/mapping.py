"""Lines of people's files made events: columns to fields, texts to numbers, times to milliseconds."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from producers.events import Event, Scalar
from producers.files import Line
from producers.times import TimeUnit, to_milliseconds

REQUIRED = ("user_id", "item_id", "behavior", "timestamp")
CONTEXT_PREFIX = "context."
_MAX_LEFT_OUT = 50


class MappingInvalid(ValueError):
    """The columns of the file and what was said about them do not make events."""


class LineInvalid(ValueError):
    """This line makes no event; the message says why."""


def parse_mapping(pairs: Iterable[str]) -> dict[str, str]:
    """Read `column=field` pairs; an empty field leaves the column out, `context.name` puts it into the context.

    Raises:
        MappingInvalid: A pair is malformed, names no field, or a field is named twice.

    >>> parse_mapping(["visitor=user_id", "period=context.period", "session_id="])
    {'visitor': 'user_id', 'period': 'context.period', 'session_id': ''}
    """
    mapping: dict[str, str] = {}
    for pair in pairs:
        column, separator, name = (part.strip() for part in pair.rpartition("="))
        if not separator or not column:
            raise MappingInvalid(f"expected column=field, got {pair!r}")
        if name and name not in _CONVERTERS and not name.startswith(CONTEXT_PREFIX):
            raise MappingInvalid(f"{name!r} is no field of an event; fields are {', '.join(_CONVERTERS)}, context.NAME")
        if name and name in mapping.values():
            raise MappingInvalid(f"two columns are mapped to {name}")
        mapping[column] = name
    return mapping


@dataclass
class EventMapper:
    """Makes events of lines.

    Attributes:
        mapping: Columns that are named differently, as `parse_mapping` returns them.
        unit: What the numbers of the time column count.
        behavior: Of every event whose line has none.
        id_prefix: An event without an id gets `<prefix>:<line>`, the same each time; None leaves it without.
        shift_ms: Added to every time.
        left_out: Columns that no field takes, as they are met.
    """

    mapping: Mapping[str, str]
    unit: TimeUnit = TimeUnit.MILLISECONDS
    behavior: str | None = None
    id_prefix: str | None = None
    shift_ms: int = 0
    left_out: dict[str, None] = field(default_factory=dict)
    _fields: dict[str, str] = field(default_factory=dict)

    def check_columns(self, columns: Iterable[str]) -> None:
        """Check that a file with these columns can make events at all.

        Raises:
            MappingInvalid: A mapped column is not there, or a required field has none.
        """
        names = list(columns)
        if absent := [column for column in self.mapping if column not in names]:
            raise MappingInvalid(f"no column {absent[0]!r}; there are {', '.join(names)}")
        fields = {self._field(column) for column in names}
        wanted = [name for name in REQUIRED if name != "behavior" or self.behavior is None]
        if missing := [name for name in wanted if name not in fields]:
            hint = " or give every event one with --behavior" if missing == ["behavior"] else ""
            raise MappingInvalid(
                f"no column for {', '.join(missing)}; there are {', '.join(names)}: "
                f"say which with --map COLUMN={missing[0]}{hint}"
            )

    def time_of(self, line: Line) -> object:
        """Return the time of a line as it stands there; None where it has none."""
        return next((value for column, value in line.values.items() if self._field(column) == "timestamp"), None)

    def event(self, line: Line) -> Event:
        """Make an event of a line.

        Raises:
            LineInvalid: The line is broken, or lacks what an event needs.
        """
        if line.problem:
            raise LineInvalid(line.problem)
        values: dict[str, object] = {}
        context: dict[str, Scalar] = {}
        for column, value in line.values.items():
            name = self._fields.get(column) or self._field(column)
            if not name or value is None or value == "":
                continue
            if name == "timestamp":
                values[name] = self._time(value)
            elif name.startswith(CONTEXT_PREFIX):
                context[name.removeprefix(CONTEXT_PREFIX)] = _scalar(value)
            else:
                values[name] = _converted(name, value)
        self._complete(values, context, line.number)
        return Event(**values)  # type: ignore[arg-type]  # every converter returns its field's type

    def _complete(self, values: dict[str, object], context: dict[str, Scalar], number: int) -> None:
        if self.behavior is not None:
            values.setdefault("behavior", self.behavior)
        for name in ("user_id", "behavior", "timestamp"):
            if name not in values:
                raise LineInvalid(f"no {name}")
        if self.id_prefix is not None and "event_id" not in values:
            values["event_id"] = f"{self.id_prefix}:{number}"
        if context:
            own = values.get("context")
            values["context"] = {**own, **context} if isinstance(own, dict) else context

    def _time(self, value: object) -> int:
        try:
            return to_milliseconds(value, self.unit) + self.shift_ms
        except (ValueError, OverflowError) as error:
            raise LineInvalid(str(error)) from error

    def _field(self, column: str) -> str:
        """Return the field that a column goes to; empty where it goes nowhere."""
        if (known := self._fields.get(column)) is not None:
            return known
        name = self.mapping.get(column)
        if name is None:
            # A field that another column was mapped to is not taken from the column of its own name.
            name = column if column in _CONVERTERS and column not in self.mapping.values() else ""
        # Bounded: lines of JSON may each bring other names.
        if len(self._fields) < 1000:
            self._fields[column] = name
        if not name and len(self.left_out) < _MAX_LEFT_OUT:
            self.left_out[column] = None
        return name


def _converted(name: str, value: object) -> object:
    try:
        return _CONVERTERS[name](value)
    except (ValueError, TypeError, OverflowError) as error:
        raise LineInvalid(f"{name}: {error}") from error


def _text(value: object) -> str:
    """Ids and names: text stays, whole numbers are taken as their decimal text."""
    if type(value) is str:
        return value
    if type(value) is int:
        return str(value)
    # Columnar files hold whole numbers as floats where some are missing.
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    raise ValueError(f"expected text or a whole number, got {value!r}")


def _float(value: object) -> float:
    if not isinstance(value, (int, float, str)) or isinstance(value, bool) or not math.isfinite(number := float(value)):
        raise ValueError(f"expected a number, got {value!r}")
    return number


def _int(value: object) -> int:
    number = _float(value)
    if not number.is_integer():
        raise ValueError(f"expected a whole number, got {value!r}")
    return int(number)


def _object(value: object) -> dict[str, object]:
    return msgspec.json.decode(value, type=dict[str, object]) if isinstance(value, str) else dict(value)  # type: ignore[call-overload]


def _ids(value: object) -> list[str]:
    if isinstance(value, str):
        value = msgspec.json.decode(value) if value.startswith("[") else value.replace("|", " ").split()
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"expected a list of items, got {value!r}")
    return [_text(item) for item in value]


def _scalar(value: object) -> Scalar:
    if value is None or isinstance(value, (str, int, bool)):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise LineInvalid(f"context: expected text, a number or a truth value, got {value!r}")


_CONVERTERS: dict[str, Callable[[object], object]] = {
    "user_id": _text,
    "item_id": _text,
    "behavior": _text,
    "timestamp": _text,
    "event_id": _text,
    "session_id": _text,
    "recommendation_id": _text,
    "position": _int,
    "surface": _text,
    "dwell_seconds": _float,
    "value": _float,
    "query": _text,
    "context": _object,
    "items": _ids,
}
