"""The event that goes out: its fields, their limits, and the one check before it is sent."""

import math
from collections.abc import Set as AbstractSet
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta, Struct

EARLIEST_TIMESTAMP_MS = 10**11
LATEST_TIMESTAMP_MS = 10**14
"""Integers outside are not milliseconds of our time: below lie seconds, beyond micro- and nanoseconds."""
MAX_CONTEXT_BYTES = 4_096
MAX_EVENT_BYTES = 65_536
ITEMLESS: frozenset[str] = frozenset({"search", "unsubscribe"})
"""Behaviours that concern no item."""

Scalar: TypeAlias = str | int | float | bool | None
Id: TypeAlias = Annotated[str, Meta(min_length=1, max_length=256)]


class EventInvalid(ValueError):
    """The event would be rejected by its reader; the message names the field."""


class Event(Struct, kw_only=True, omit_defaults=True):
    """Something that a user did with an item.

    Attributes:
        user_id: 1 to 256 characters; also the record's key.
        item_id: 1 to 256 characters; None for behaviours that concern no item, such as a search.
        behavior: view, play, like, cart, buy, share, dislike, hide, return, uncart, impression, search, ...
        timestamp: When it happened, in milliseconds since the epoch.
        event_id: Your own id; a repetition among the user's last events is not applied again.
        session_id: Your own id of the sitting.
        recommendation_id: Of the list that the event answers.
        position: Place of the item in what was shown, 0 is the first.
        surface: Where it happened: home, search, mail, ...
        dwell_seconds: How long the user stayed.
        value: A number that goes with the behaviour: a price, a rating.
        query: What was searched for.
        context: Anything else, flat, at most 4 KB as JSON.
        items: Items of an impression in the order shown, at most 100.
    """

    user_id: Id
    behavior: Annotated[str, Meta(min_length=1, max_length=64)]
    timestamp: int
    item_id: Id | None = None
    event_id: Id | None = None
    session_id: Id | None = None
    recommendation_id: Annotated[str, Meta(max_length=128)] | None = None
    position: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    surface: Annotated[str, Meta(max_length=64)] | None = None
    dwell_seconds: Annotated[float, Meta(ge=0)] | None = None
    value: float | None = None
    query: Annotated[str, Meta(max_length=1024)] | None = None
    context: dict[str, Scalar] | None = None
    items: Annotated[list[Id], Meta(max_length=100)] | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Event).decode


def encode(event: Event, itemless: AbstractSet[str] = ITEMLESS) -> bytes:
    """Return the record's value, checked by reading it back as its reader will.

    Args:
        event: What to send.
        itemless: Behaviours that may come without an item.

    Raises:
        EventInvalid: A field is missing, of the wrong type, or beyond its limit.

    >>> encode(Event(user_id="u1", item_id="i1", behavior="view", timestamp=1_700_000_000_000))
    b'{"user_id":"u1","behavior":"view","timestamp":1700000000000,"item_id":"i1"}'
    """
    try:
        value = _encode(event)
        _decode(value)
    except UnicodeEncodeError as error:
        raise EventInvalid("a text is not valid Unicode") from error
    except (msgspec.MsgspecError, TypeError, OverflowError, RecursionError) as error:
        raise EventInvalid(str(error)) from error
    _check_time(event.timestamp)
    _check_item(event, itemless)
    if len(value) > MAX_EVENT_BYTES:
        raise EventInvalid(f"expected at most {MAX_EVENT_BYTES} bytes, got {len(value)}")
    if event.context is not None and (size := len(_encode(event.context))) > MAX_CONTEXT_BYTES:
        raise EventInvalid(f"context: expected at most {MAX_CONTEXT_BYTES} bytes, got {size}")
    # JSON has no word for these: they would arrive as null.
    for name, number in (("value", event.value), ("dwell_seconds", event.dwell_seconds)):
        if number is not None and not math.isfinite(number):
            raise EventInvalid(f"{name}: expected a finite number, got {number}")
    return value


def _check_time(timestamp: int) -> None:
    if timestamp < EARLIEST_TIMESTAMP_MS:
        raise EventInvalid(f"timestamp: expected milliseconds since the epoch, {timestamp} looks like seconds")
    if timestamp > LATEST_TIMESTAMP_MS:
        raise EventInvalid(f"timestamp: expected milliseconds since the epoch, {timestamp} looks like microseconds")


def _check_item(event: Event, itemless: AbstractSet[str]) -> None:
    if event.item_id is not None or event.behavior in itemless:
        return
    if event.behavior == "impression":
        if not event.items:
            raise EventInvalid("an impression names item_id, or items in the order shown")
        return
    raise EventInvalid(f"behavior {event.behavior!r} needs an item_id")
