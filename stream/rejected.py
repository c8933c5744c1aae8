"""Rejected events as they stand in their topic."""

from collections.abc import Sequence
from typing import NamedTuple

from confluent_kafka import Message

from stream.topics.reading import as_bytes, headers_of

_ADDED_HEADERS = (
    "reason",
    "detail",
    "source-topic",
    "source-partition",
    "source-offset",
    "source-timestamp",
    "cut-from-bytes",
)
Headers = Sequence[tuple[str, bytes | None]]


class Rejected(NamedTuple):
    """A rejected event as it stands in its topic.

    Attributes:
        partition: Of the topic of rejects; `offset` too.
        key: As it came; `value` too, unless `is_cut`.
        headers: Those that it came with.
        source: Topic that it came from; None where the header is missing.
        is_cut: The value was too long for the topic of rejects, and is not whole.
    """

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    reason: str
    detail: str
    source: str | None
    is_cut: bool


def read_rejected(message: Message) -> Rejected:
    """Take a record of the topic of rejects apart: its own headers are the last of their names."""
    original, added = split_headers(headers_of(message))
    source = added.get("source-topic")
    return Rejected(
        partition=int(message.partition() or 0),
        offset=int(message.offset() or 0),
        key=as_bytes(message.key()),
        value=as_bytes(message.value()),
        headers=original,
        reason=_text(added.get("reason")) or "unknown",
        detail=_text(added.get("detail")),
        source=None if source is None else _text(source),
        is_cut="cut-from-bytes" in added,
    )


def split_headers(headers: Headers) -> tuple[Headers, dict[str, bytes | None]]:
    """Tell the headers that came with an event from those that rejecting it added behind them.

    >>> split_headers([("reason", b"mine"), ("a", b"1"), ("reason", b"schema"), ("detail", b"x")])
    ([('reason', b'mine'), ('a', b'1')], {'detail': b'x', 'reason': b'schema'})
    """
    original, added = list(headers), {}
    while original and original[-1][0] in _ADDED_HEADERS and original[-1][0] not in added:
        name, content = original.pop()
        added[name] = content
    return original, added


def _text(content: bytes | None) -> str:
    return "" if content is None else content.decode(errors="backslashreplace")
