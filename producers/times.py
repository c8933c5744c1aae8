"""Times in people's files: seconds, milliseconds or RFC 3339 text, made integer milliseconds since the epoch."""

import math
from collections.abc import Iterable
from datetime import UTC, date, datetime
from enum import StrEnum

from producers.events import EARLIEST_TIMESTAMP_MS, LATEST_TIMESTAMP_MS


class TimeUnit(StrEnum):
    """What the numbers of a time column count."""

    AUTO = "auto"
    SECONDS = "s"
    MILLISECONDS = "ms"


class TimeUnitUnclear(ValueError):
    """The times of a file do not say what they count; the message says what to do."""


def to_milliseconds(value: object, unit: TimeUnit) -> int:
    """Convert one time.

    Args:
        value: A number or its text, in `unit`; RFC 3339 text with an offset; or a datetime (without a zone it is UTC,
            as columnar files mean it).
        unit: Seconds or milliseconds.

    Raises:
        ValueError: It is none of these, or a moment that no event has.

    >>> to_milliseconds("1506826800.026", TimeUnit.SECONDS)
    1506826800026
    >>> to_milliseconds("2017-10-01T05:00:00+02:00", TimeUnit.SECONDS)
    1506826800000
    """
    number = _number(value)
    if number is None:
        return _moment(value)
    if isinstance(number, float) and not math.isfinite(number):
        raise ValueError(f"timestamp {value!r} is not finite")
    result = round(number * 1000) if unit is TimeUnit.SECONDS else round(number)
    if not EARLIEST_TIMESTAMP_MS <= result <= LATEST_TIMESTAMP_MS:
        raise ValueError(f"timestamp {value!r} is not in {_NAMES[unit]} since the epoch")
    return result


def choose_unit(values: Iterable[object]) -> tuple[TimeUnit, str]:
    """Find out what times count.

    Args:
        values: The first times of a file; what is no time at all is left out.

    Returns:
        The unit, and why it was chosen, in words.

    Raises:
        TimeUnitUnclear: They are of several kinds, or neither seconds nor milliseconds.

    >>> choose_unit(["1506826800.026", "1506826801.7"])[0]
    <TimeUnit.SECONDS: 's'>
    """
    numbers = [n for n in map(_number, values) if n is not None and math.isfinite(n)]
    if not numbers:
        return TimeUnit.MILLISECONDS, "the times are dates with their offset"
    ordered = sorted(numbers)
    # A few broken values must not decide: nine in ten do.
    low, high = ordered[len(ordered) // 20], ordered[-1 - len(ordered) // 20]
    span = f"most of the first {len(numbers)} lie between {low} and {high}"
    if high < EARLIEST_TIMESTAMP_MS:
        return TimeUnit.SECONDS, f"{span}; as milliseconds that would be before March 1973"
    if low >= EARLIEST_TIMESTAMP_MS and high <= LATEST_TIMESTAMP_MS:
        return TimeUnit.MILLISECONDS, f"{span}; as seconds that would be after the year 5000"
    if low > LATEST_TIMESTAMP_MS:
        raise TimeUnitUnclear(f"the times look like microseconds or less ({span}): convert them to milliseconds")
    raise TimeUnitUnclear(f"some times look like seconds, some like milliseconds ({span}): say --time-unit s or ms")


_NAMES = {TimeUnit.SECONDS: "seconds", TimeUnit.MILLISECONDS: "milliseconds", TimeUnit.AUTO: "milliseconds"}


def _number(value: object) -> int | float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return value
    if not isinstance(value, str):
        return None
    try:
        return int(value)
    except ValueError:
        pass
    try:
        return float(value)
    except ValueError:
        return None


def _moment(value: object) -> int:
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(f"timestamp {value!r} is neither a number nor a date") from None
        if moment.tzinfo is None:
            raise ValueError(f"timestamp {value!r} needs an offset such as Z or +01:00")
    elif isinstance(value, datetime):
        moment = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    elif isinstance(value, date):
        raise ValueError(f"timestamp {value!r} is a day, not a moment")
    else:
        raise ValueError(f"timestamp {value!r} is neither a number nor a date")
    result = round(moment.timestamp() * 1000)
    if not EARLIEST_TIMESTAMP_MS <= result <= LATEST_TIMESTAMP_MS:
        raise ValueError(f"timestamp {value!r} lies before March 1973 or after the year 5000")
    return result
