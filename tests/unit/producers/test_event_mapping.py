import math
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producers.files import Line
from producers.mapping import EventMapper, LineInvalid, MappingInvalid, parse_mapping
from producers.times import TimeUnit

NOW = 1_700_000_000_000
ROW = {"user_id": "u1", "item_id": "i1", "behavior": "click", "timestamp": str(NOW)}


def event(row, mapping=(), **options):
    return EventMapper(parse_mapping(mapping), **options).event(Line(7, row))


def test_a_plain_line():
    made = event({**ROW, "session_id": "s", "period": "3"}, id_prefix="f.csv")
    assert (made.user_id, made.item_id, made.behavior, made.timestamp) == ("u1", "i1", "click", NOW)
    assert (made.session_id, made.event_id) == ("s", "f.csv:7")


def test_ids_of_the_file_are_kept_and_none_are_made_where_not_wanted():
    assert event({**ROW, "event_id": "e9"}, id_prefix="f").event_id == "e9"
    assert event(ROW).event_id is None


def test_other_names_units_and_a_shift():
    row = {"visitor": 12, "sku": 3.0, "when": NOW / 1000, "item_id": "not this one"}
    made = event(
        row, ["visitor=user_id", "sku=item_id", "when=timestamp"], unit=TimeUnit.SECONDS, behavior="view", shift_ms=5
    )
    assert (made.user_id, made.item_id, made.behavior, made.timestamp) == ("12", "3", "view", NOW + 5)


def test_extra_columns_go_into_the_context_or_are_left_out_and_named():
    mapper = EventMapper(parse_mapping(["period=context.period", "session_id="]))
    made = mapper.event(Line(1, {**ROW, "period": "3", "session_id": "s", "color": "red", "context": '{"a": 1}'}))
    assert made.context == {"a": 1, "period": "3"}
    assert made.session_id is None
    assert list(mapper.left_out) == ["session_id", "color"]


def test_optional_values_are_converted_and_empty_ones_are_absent():
    made = event({**ROW, "position": "3", "dwell_seconds": "1.5", "value": "", "query": None, "items": "a|b"})
    assert (made.position, made.dwell_seconds, made.value, made.query, made.items) == (3, 1.5, None, None, ["a", "b"])
    assert event({**ROW, "items": '["a", 2]'}).items == ["a", "2"]
    assert event({**ROW, "items": [1, "b"]}).items == ["1", "b"]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"user_id": ""}, "no user_id"),
        ({"behavior": None}, "no behavior"),
        ({"timestamp": ""}, "no timestamp"),
        ({"timestamp": "noon"}, "neither a number nor a date"),
        ({"user_id": 1.5}, "user_id"),
        ({"item_id": True}, "item_id"),
        ({"item_id": math.nan}, "item_id"),
        ({"position": "first"}, "position"),
        ({"position": "1.5"}, "position"),
        ({"value": "nan"}, "value"),
        ({"value": True}, "value"),
        ({"context": "[1]"}, "context"),
        ({"context": 3}, "context"),
        ({"items": "[1"}, "items"),
        ({"items": 5}, "items"),
    ],
)
def test_a_line_that_makes_no_event_says_why(row, says):
    with pytest.raises(LineInvalid, match=says):
        event({**ROW, **row})


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from([*ROW, "position", "value", "items", "context", "x"]), anything)
def test_any_value_makes_an_event_or_a_reason(column, value):
    with suppress(LineInvalid):
        assert event({**ROW, column: value}, ["x=context.x"]).user_id


def test_a_broken_line_keeps_its_problem():
    with pytest.raises(LineInvalid, match="not CSV"):
        EventMapper({}).event(Line(3, {}, "not CSV: x"))


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        (["user"], "column=field"),
        (["=user_id"], "column=field"),
        (["a=user"], "no field"),
        (["a=user_id", "b=user_id"], "two columns"),
    ],
)
def test_mappings_that_make_no_sense(pairs, says):
    with pytest.raises(MappingInvalid, match=says):
        parse_mapping(pairs)


def test_columns_are_checked_before_anything_is_sent():
    EventMapper(parse_mapping(["who=user_id"]), behavior="view").check_columns(["who", "item_id", "timestamp"])
    with pytest.raises(MappingInvalid, match=r"no column for behavior; .*--map COLUMN=behavior or give .*--behavior"):
        EventMapper({}).check_columns(["user_id", "item_id", "timestamp"])
    with pytest.raises(MappingInvalid, match="no column 'who'; there are user_id"):
        EventMapper({"who": "user_id"}).check_columns(list(ROW))
