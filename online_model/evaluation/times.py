"""Times as people's files have them: numbers that count from 1970, RFC 3339, and the common ways to write a date."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from itertools import pairwise
from typing import Literal, TypeAlias

Unit: TypeAlias = Literal["s", "ms", "us", "ns"]

UNITS: dict[Unit, str] = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_PER_MS: dict[Unit, float] = {"s": 1e-3, "ms": 1.0, "us": 1e3, "ns": 1e6}
_DAYS = ("%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%d-%m-%Y", "%Y/%m/%d", "%m/%d/%y", "%d/%m/%y", "%Y%m%d")
_HOURS = ("", " %H:%M", " %H:%M:%S", " %I:%M:%S %p", " %I:%M %p")
_PATTERNS = (
    *(day + hour for day in _DAYS for hour in _HOURS),
    "%d/%b/%Y:%H:%M:%S %z",  # access logs
    "%a %b %d %H:%M:%S %z %Y",
    "%a, %d %b %Y %H:%M:%S %z",
)
# Dates are slow to read, and patterns are many.
_N_LOOKED_AT = 500
# A few broken values must not decide.
_SHARE = 0.95
_LEAST_MS = datetime(1990, 1, 1, tzinfo=UTC).timestamp() * 1000
_MOST_MS = datetime(2100, 1, 1, tzinfo=UTC).timestamp() * 1000


@dataclass(frozen=True, slots=True)
class TimeFormat:
    """How the times of a file are written.

    Attributes:
        unit: What numbers count; None for text.
        pattern: Of text, as `datetime.strptime` has it; empty for ISO 8601 and RFC 3339.
    """

    unit: Unit | None = None
    pattern: str = ""

    def milliseconds(self, value: object) -> int:
        """Convert one time; text without an offset is UTC.

        Raises:
            ValueError: It is not written like that, or lies before 1970 or after 2100.

        >>> TimeFormat("s").milliseconds("1506826800.026")
        1506826800026
        >>> TimeFormat().milliseconds("2019-10-01 00:00:00 UTC")
        1569888000000
        """
        result = self._moment(value) if self.unit is None else _number(value) / _PER_MS[self.unit]
        if not 0 <= result < _MOST_MS:
            raise ValueError(f"{value!r:.80} is no time between 1970 and 2100 in {self}")
        return round(result)

    def _moment(self, value: object) -> float:
        if isinstance(value, datetime):
            moment = value
        elif isinstance(value, date):
            moment = datetime.combine(value, time())
        elif isinstance(value, int | str) and not isinstance(value, bool):
            text = str(value).strip()
            if text.endswith(" UTC"):
                text = text.removesuffix(" UTC") + "+00:00"
            moment = datetime.strptime(text, self.pattern) if self.pattern else datetime.fromisoformat(text)
        else:
            raise ValueError(f"{value!r:.80} is no date")
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000

    def __str__(self) -> str:
        if self.unit is not None:
            return f"unix {UNITS[self.unit]}"
        return f"dates like {self.pattern}" if self.pattern else "ISO dates"


def guess_format(values: Sequence[object], *, sure: bool = True) -> TimeFormat | None:
    """Return how times are written; None where they are no times.

    Args:
        values: The first times of a file.
        sure: That they are times is known; small numbers are then seconds since whatever moment.

    >>> guess_format([1506826800, 1506826801])
    TimeFormat(unit='s', pattern='')
    >>> guess_format(["13/1/2010 8:26", "2/2/2010 8:28"]).pattern
    '%d/%m/%Y %H:%M'
    """
    values = [value for value in values if value is not None and value != ""][:_N_LOOKED_AT]
    if not values:
        return None
    for unit in UNITS:
        if _fits(TimeFormat(unit), values, least_ms=_LEAST_MS):
            return TimeFormat(unit)
    patterns = [TimeFormat(None, pattern) for pattern in _PATTERNS]
    fitting = [form for form in (TimeFormat(), *patterns) if _fits(form, values, least_ms=0)]
    if fitting:
        # 1/2 is a day in January or in February: files are mostly in the order of time.
        return min(fitting, key=lambda form: _disorder(form, values))
    return TimeFormat("s") if sure and _fits(TimeFormat("s"), values, least_ms=0) else None


def _fits(form: TimeFormat, values: Iterable[object], least_ms: float) -> bool:
    found = [_try(form, value) for value in values]
    return sum(ms is not None and ms >= least_ms for ms in found) >= _SHARE * len(found)


def _disorder(form: TimeFormat, values: Sequence[object]) -> int:
    found = [ms for ms in (_try(form, value) for value in values) if ms is not None]
    return sum(later < earlier for earlier, later in pairwise(found))


def _try(form: TimeFormat, value: object) -> int | None:
    try:
        return form.milliseconds(value)
    except ValueError:
        return None


def _number(value: object) -> float:
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise ValueError(f"{value!r:.80} is no number")
    try:
        number = float(value)
    except OverflowError as error:
        raise ValueError(str(error)) from error
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is not finite")
    return number
