import math

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producers.events import Event, EventInvalid, encode
from stream.behaviors import behavior_table
from stream.records import Event as AcceptedEvent
from stream.records import event_decoder
from stream.settings import BehaviorSettings, FieldSettings

NOW = 1_700_000_000_000
ids = st.text(st.characters(codec="utf-8"), min_size=1, max_size=256)
reader = event_decoder(FieldSettings(), behavior_table(BehaviorSettings()))


def view(**fields):
    return Event(**{"user_id": "u1", "item_id": "i1", "behavior": "view", "timestamp": NOW, **fields})


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    user=ids,
    item=ids,
    behavior=st.sampled_from(["view", "click", "buy", "dislike", "impression"]),
    timestamp=st.integers(10**11, 10**14),
    position=st.none() | st.integers(0, 1_000_000),
    value=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    context=st.none() | st.dictionaries(st.text(max_size=10), st.integers(-9, 9) | st.text(max_size=9), max_size=5),
)
def test_what_is_sent_is_accepted_by_its_reader(user, item, behavior, timestamp, position, value, context):
    event = Event(
        user_id=user,
        item_id=item,
        behavior=behavior,
        timestamp=timestamp,
        position=position,
        value=value,
        context=context,
    )
    accepted = reader(encode(event))
    assert isinstance(accepted, AcceptedEvent)
    assert (accepted.user_id, accepted.item_id, accepted.timestamp) == (user, item, timestamp)
    assert (accepted.record.position, accepted.record.value, accepted.record.context) == (position, value, context)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"user_id": ""}, "user_id"),
        ({"user_id": "x" * 257}, "user_id"),
        ({"user_id": 7}, "user_id"),
        ({"item_id": None}, "needs an item_id"),
        ({"behavior": ""}, "behavior"),
        ({"timestamp": 1_700_000_000}, "seconds"),
        ({"timestamp": 1_700_000_000_000_000}, "microseconds"),
        ({"timestamp": 1.5e12}, "timestamp"),
        ({"position": -1}, "position"),
        ({"dwell_seconds": -1.0}, "dwell_seconds"),
        ({"value": math.nan}, "value"),
        ({"dwell_seconds": math.inf}, "dwell_seconds"),
        ({"query": "q" * 1025}, "query"),
        ({"context": {"a": {"b": 1}}}, "context"),
        ({"context": {"a": "x" * 4096}}, "context"),
        ({"items": ["i"] * 101}, "items"),
        ({"behavior": "impression", "item_id": None, "items": []}, "impression"),
        ({"user_id": "\ud800"}, "Unicode"),
        ({"value": object()}, "object"),
    ],
)
def test_what_its_reader_would_reject_is_not_sent(fields, says):
    with pytest.raises(EventInvalid, match=says):
        encode(view(**fields))


def test_behaviours_without_an_item():
    search = Event(user_id="u1", behavior="search", timestamp=NOW, query="lamp")
    assert msgspec.json.decode(encode(search))["query"] == "lamp"
    with pytest.raises(EventInvalid, match="needs an item_id"):
        encode(Event(user_id="u1", behavior="login", timestamp=NOW))
    assert encode(Event(user_id="u1", behavior="login", timestamp=NOW), {"login"})


def test_a_very_large_event_is_not_sent():
    with pytest.raises(EventInvalid, match="at most 65536 bytes"):
        encode(view(items=["\u0001" * 200] * 100))
