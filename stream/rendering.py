"""Records as text for people: whatever a topic holds, on a terminal, harmlessly."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

MAX_SHOWN_ITEMS = 20
ELLIPSIS = "…"


class Shown(NamedTuple):
    """A record to show. `timestamp` is in milliseconds, below 0 for none."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()


def decode_value(value: bytes | None) -> Any:
    r"""Read JSON, else a msgpack map or list, else give the bytes as they are.

    >>> decode_value(b'{"a":1}'), decode_value(b"\x81\xa1a\x01"), decode_value(b"\xff\x00"), decode_value(None)
    ({'a': 1}, {'a': 1}, b'\xff\x00', None)
    """
    if value is None:
        return None
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        decoded = msgspec.msgpack.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError):
        return value
    # Any byte below 0x80 is a whole msgpack integer: only structures are taken for msgpack.
    return decoded if isinstance(decoded, dict | list) else value


def as_line(record: Shown, width: int | None = None) -> str:
    """Write a record as one line: time, place, key, and what it says.

    Args:
        record: The record.
        width: The line is cut to so many characters; None leaves it whole.

    >>> as_line(Shown("t", 3, 17, 0, b"u1", b'{"item_id": "i1"}'))
    '1970-01-01 00:00:00.000  3:17  u1  {"item_id":"i1"}'
    """
    parts = [_time(record.timestamp), f"{record.partition}:{record.offset}", _text(record.key), _says(record)]
    line = printable("  ".join(parts))
    return line if width is None or len(line) <= width else line[: max(width - 1, 0)] + ELLIPSIS


def as_object(record: Shown) -> dict[str, Any]:
    """Give a record as an object that JSON can hold; bytes that are no text are written as escapes."""
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp if record.timestamp >= 0 else None,
        "key": None if record.key is None else _text(record.key),
        "headers": [[name, None if value is None else _text(value)] for name, value in record.headers],
        "value": _plain(decode_value(record.value)),
    }


def printable(text: str) -> str:
    r"""Write what a terminal would act on as an escape: records are other people's text.

    >>> printable("a\x1b[31mb\n")
    'a\\x1b[31mb\\x0a'
    """
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def _time(timestamp_ms: int) -> str:
    if timestamp_ms < 0:
        return "-"
    try:
        moment = datetime.fromtimestamp(timestamp_ms / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return str(timestamp_ms)
    return moment.strftime("%Y-%m-%d %H:%M:%S.") + f"{timestamp_ms % 1000:03d}"


def _text(data: bytes | None) -> str:
    return "-" if data is None else data.decode(errors="backslashreplace")


def _says(record: Shown) -> str:
    value = decode_value(record.value)
    headers = " ".join(f"{name}={_text(content)}" for name, content in record.headers)
    if value is None:
        said = "(null)"
    elif isinstance(value, Mapping) and "recommendation_id" in value and isinstance(value.get("items"), list):
        said = _recommendation(value)
    elif isinstance(value, bytes):
        said = _text(value)
    else:
        said = json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"))
    return f"[{headers}] {said}" if headers else said


def _recommendation(value: Mapping[str, Any]) -> str:
    items = [item for item in value["items"] if isinstance(item, Mapping)]
    shown = ", ".join(str(item.get("item_id")) for item in items[:MAX_SHOWN_ITEMS])
    more = f" {ELLIPSIS}" if len(items) > MAX_SHOWN_ITEMS else ""
    earlier = value.get("also_answers")
    events = f", for {len(earlier) + 1} events" if isinstance(earlier, list) and earlier else ""
    return f"{len(items)} items (model {value.get('model_version')}, {value.get('policy')}{events}): {shown}{more}"


def _plain(value: Any) -> Any:
    """Replace what JSON has no word for."""
    if isinstance(value, Mapping):
        return {str(_plain(key)): _plain(content) for key, content in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(content) for content in value]
    if isinstance(value, bytes):
        return _text(value)
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(value)
