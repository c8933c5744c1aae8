"""A record cannot make memory or time explode: what is refused, what is bounded, and that the work is.

Bounds are of memory and of what is kept, never of a clock.
"""

import json
import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.labels import REJECT_REASONS
from stream.behaviors import behavior_table
from stream.records import (
    MAX_CONTEXT_BYTES,
    MAX_DETAIL_CHARACTERS,
    MAX_EVENT_BYTES,
    MAX_SHOWN_BYTES,
    Event,
    Rejection,
    event_decoder,
)
from stream.settings import BehaviorSettings, FieldSettings

DECODE = event_decoder(FieldSettings(), behavior_table(BehaviorSettings()))
GOOD = {"user_id": "u", "item_id": "i", "behavior": "view", "timestamp": 1_700_000_000_000}
MOST_BYTES = 4_000_000
"""That reading one record may take at its height: sixty times the largest record."""


def with_raw(field: str, raw: str) -> bytes:
    """A good event in which one field is written just so."""
    fields = {name: json.dumps(value) for name, value in GOOD.items()} | {field: raw}
    return ("{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}").encode()


def nested(opening: str, closing: str, depth: int) -> str:
    return opening * depth + "1" + closing * depth


REFUSED = {
    "arrays in an unknown field": (with_raw("x", nested("[", "]", 30_000)), "not-json"),
    "objects in an unknown field": (with_raw("x", nested('{"a":', "}", 9_000)), "not-json"),
    "arrays that never end": (b'{"x":' + b"[" * 60_000, "not-json"),
    "objects in the context": (with_raw("context", nested('{"a":', "}", 9_000)), "schema"),
    "one object in the context": (with_raw("context", '{"a":{"b":1}}'), "schema"),
    "a megabyte of text": (with_raw("query", '"' + "q" * 1_000_000 + '"'), "too-large"),
    "a megabyte of blanks": (b" " * 1_000_000, "too-large"),
    "a number beyond floats": (with_raw("value", "1e309"), "schema"),
    "a number far beyond floats": (with_raw("value", "1e99999999999999999999"), "schema"),
    "a number of 60,000 digits": (with_raw("value", "9" * 60_000), "schema"),
    "an id of 60,000 digits": (with_raw("user_id", "9" * 60_000), "schema"),
    "a time of 60,000 digits": (with_raw("timestamp", "1" * 60_000), "schema"),
    "a position of 30 digits": (with_raw("position", "9" * 30), "schema"),
    "not a number": (with_raw("value", "NaN"), "not-json"),
    "infinity": (with_raw("dwell_seconds", "Infinity"), "not-json"),
    "infinity by overflow in the context": (with_raw("context", '{"a":1e400}'), "schema"),
    "an id of 257 characters": (with_raw("item_id", json.dumps("i" * 257)), "schema"),
    "an id of 60,000 characters": (with_raw("item_id", json.dumps("i" * 60_000)), "schema"),
    "an empty id": (with_raw("item_id", '""'), "schema"),
    "a lone surrogate": (with_raw("user_id", r'"\ud800"'), "not-json"),
    "two high surrogates": (with_raw("user_id", r'"\ud800\ud800"'), "not-json"),
    "a surrogate in UTF-8": (with_raw("user_id", '"?"').replace(b"?", b"\xed\xa0\x80"), "not-json"),
    "an overlong encoding": (with_raw("user_id", '"?"').replace(b"?", b"\xc0\xaf"), "not-json"),
    "UTF-16": (json.dumps(GOOD).encode("utf-16"), "not-json"),
    "6,000 keys of context": (with_raw("context", json.dumps({f"k{n}": 1 for n in range(6_000)})), "too-large"),
    "12,000 items": (with_raw("items", json.dumps(["i"] * 12_000)), "schema"),
    "100 items of the longest ids": (with_raw("items", json.dumps(["ü" * 256] * 100, ensure_ascii=False)), "too-large"),
}


def decoded(value: bytes) -> tuple[Event | Rejection, int]:
    """Decode, and say how much memory that took at its height."""
    tracemalloc.start()
    try:
        outcome = DECODE(value)
        return outcome, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("value", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_bomb_is_rejected_and_takes_little(value: bytes, reason: str) -> None:
    """Seen red without the check of the length before the decoding, and without `max_length`.

    Red without the limits on bytes, on ids shown, on their length and number, and where depth is no reason.
    """
    outcome, peak = decoded(value)
    assert isinstance(outcome, Rejection)
    assert outcome.reason == reason
    assert outcome.reason in REJECT_REASONS
    assert peak < MOST_BYTES


def test_a_field_that_stands_twice_has_its_last_value_and_counts_once() -> None:
    twice = b'{"user_id":"a","user_id":"b","item_id":"i","behavior":"view","timestamp":1700000000000}'
    outcome, _ = decoded(twice)
    assert isinstance(outcome, Event)
    assert outcome.user_id == "b"
    many, peak = decoded(with_raw("context", "{" + ",".join(['"k":1'] * 8_000) + "}"))
    assert isinstance(many, Event)
    assert many.record.context == {"k": 1}
    assert peak < MOST_BYTES


def size_kept(event: Event) -> int:
    """What an event can bring into an example, in bytes."""
    return len(msgspec.msgpack.encode(event.record))


json_values: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300) | st.just("9" * 400),
    lambda inner: st.lists(inner, max_size=120) | st.dictionaries(st.text(max_size=80), inner, max_size=60),
    max_leaves=150,
)
field_names = st.sampled_from([*FieldSettings.model_fields, "unknown", "", "v"])


@given(st.lists(st.tuples(field_names, json_values), max_size=6))
def test_whatever_comes_what_is_kept_of_it_is_bounded(changes: list[tuple[str, Any]]) -> None:
    """Fuzzed with names that are there, values of all kinds, and NaN, infinity, long integers and surrogates."""
    value = json.dumps({**GOOD, **dict(changes)}).encode()
    outcome = DECODE(value)
    if isinstance(outcome, Rejection):
        assert outcome.reason in REJECT_REASONS
        return
    assert len(value) <= MAX_EVENT_BYTES
    assert 1 <= len(outcome.user_id) <= 256
    assert outcome.item_id is None or 1 <= len(outcome.item_id) <= 256
    assert len(msgspec.json.encode(outcome.record.context or {})) <= MAX_CONTEXT_BYTES
    assert size_kept(outcome) <= MAX_CONTEXT_BYTES + MAX_SHOWN_BYTES + 12_000
    (outcome.user_id + (outcome.item_id or "")).encode()  # no surrogate has come through


@given(st.binary(max_size=400))
def test_any_bytes_are_an_event_or_a_rejection(value: bytes) -> None:
    outcome = DECODE(value)
    assert isinstance(outcome, Event | Rejection)
    if isinstance(outcome, Rejection):
        assert len(outcome.detail.encode(errors="replace")) <= 4 * MAX_DETAIL_CHARACTERS
