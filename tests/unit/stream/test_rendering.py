import json

import msgspec
import pytest

from stream.rendering import Shown, as_line, as_object, decode_value, printable


def record(
    value: bytes | None, key: bytes | None = b"u1", headers: list[tuple[str, bytes | None]] | None = None
) -> Shown:
    return Shown("t", 1, 2, 1_700_000_000_123, key, value, headers or [])


def test_a_recommendation_shows_its_items() -> None:
    value = {
        "recommendation_id": "r",
        "items": [{"item_id": "a"}, {"item_id": "b"}],
        "model_version": 3,
        "policy": "live",
    }
    line = as_line(record(json.dumps(value).encode()))
    assert line == "2023-11-14 22:13:20.123  1:2  u1  2 items (model 3, live): a, b"


def test_msgpack_is_shown_as_json() -> None:
    line = as_line(record(msgspec.msgpack.encode({"item": "ä", "history": [("a", 1)], "raw": b"\xff"})))
    assert line.endswith('{"item":"ä","history":[["a",1]],"raw":"\\\\xff"}')


@pytest.mark.parametrize("value", [b"\x05", b"plain text", b"\xff\xfe", b"", b"[" * 100_000])
def test_anything_else_is_shown_as_it_is(value: bytes) -> None:
    assert decode_value(value) == value
    assert as_line(record(value)).startswith("2023")


def test_null_values_keys_and_times() -> None:
    assert as_line(Shown("t", 0, 0, -1, None, None)) == "-  0:0  -  (null)"
    assert as_object(Shown("t", 0, 0, -1, None, None))["key"] is None


def test_headers_come_first() -> None:
    assert "[reason=schema x=-] " in as_line(record(b"{}", headers=[("reason", b"schema"), ("x", None)]))


def test_nothing_that_a_terminal_acts_on_gets_through() -> None:
    evil = "\x1b]0;owned\x07\r\n\u202e"
    line = as_line(record(evil.encode(), key=evil.encode(), headers=[(evil, evil.encode())]))
    assert line.isprintable()
    assert printable("é漢 ") == "é漢 "


def test_a_line_is_cut_to_the_width() -> None:
    line = as_line(record(b'{"a":"' + b"x" * 500 + b'"}'), width=40)
    assert len(line) == 40
    assert line.endswith("…")


def test_an_object_is_json_whatever_it_held() -> None:
    for value in (b"\xff", b"{}", None, msgspec.msgpack.encode({1: b"\xff"})):
        json.dumps(as_object(record(value, key=b"\xff", headers=[("h", b"\xff")])))


def test_a_timestamp_beyond_the_calendar() -> None:
    assert as_line(Shown("t", 0, 0, 2**62, b"k", b"{}")).startswith(str(2**62))
