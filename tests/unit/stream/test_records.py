import json
from pathlib import Path

import msgspec
import pytest

from monitoring.labels import REJECT_REASONS
from stream import records
from stream.behaviors import behavior_table
from stream.records import Event, Rejection, event_decoder, future_rejection, schemas
from stream.settings import BehaviorSettings, FieldSettings, SettingsError

BEHAVIORS = behavior_table(BehaviorSettings())
DECODE = event_decoder(FieldSettings(), BEHAVIORS)
GOOD = {"user_id": "u", "item_id": "i", "behavior": "view", "timestamp": 1_700_000_000_000}


def decode(**changes: object) -> Event | Rejection:
    fields = {name: value for name, value in {**GOOD, **changes}.items() if value != "absent"}
    return DECODE(json.dumps(fields).encode())


def test_an_event_is_decoded_with_canonical_ids_behaviour_and_time() -> None:
    event = decode(user_id=7, item_id=8, behavior="click", timestamp="2023-11-14T22:13:20.5+00:00", event_id=9)
    assert isinstance(event, Event)
    assert (event.user_id, event.item_id, event.behavior, event.role) == ("7", "8", "view", "interest")
    assert event.timestamp == 1_700_000_000_500
    assert event.event_id == "9"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"user_id": "absent"}, "schema"),
        ({"user_id": ""}, "schema"),
        ({"user_id": "x" * 257}, "schema"),
        ({"user_id": True}, "schema"),
        ({"user_id": None}, "schema"),
        ({"item_id": "absent"}, "schema"),
        ({"item_id": 1.5}, "schema"),
        ({"behavior": "stare"}, "unknown-behavior"),
        ({"timestamp": 1_700_000_000}, "looks-like-seconds"),
        ({"timestamp": -5}, "looks-like-seconds"),
        ({"timestamp": 2**60}, "schema"),
        ({"timestamp": "yesterday"}, "schema"),
        ({"timestamp": "2023-11-14T22:13:20"}, "no-offset"),
        ({"value": "12"}, "schema"),
        ({"context": {"a": {"nested": 1}}}, "schema"),
        ({"context": {"a": "x" * 5000}}, "too-large"),
        ({"query": "x" * 1025}, "schema"),
        ({"behavior": "impression", "item_id": "absent"}, "schema"),
        ({"behavior": "impression", "items": ["i"] * 101}, "schema"),
        ({"behavior": "impression", "items": ["ü" * 256] * 100}, "too-large"),
    ],
)
def test_what_cannot_be_used_is_rejected_with_its_reason(changes: dict[str, object], reason: str) -> None:
    """Red without any one of the checks.

    Lengths, bytes of a context, seconds, beyond any calendar, no offset, no role, no item.
    """
    rejection = decode(**changes)
    assert isinstance(rejection, Rejection)
    assert rejection.reason == reason
    assert rejection.detail


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "null-value"),
        (b"", "not-json"),
        (b"\xff\xfe\x00", "not-json"),
        (b"[" * 60_000, "schema"),
        (b'{"unknown":' + b"[" * 60_000, "not-json"),
        (b"{}", "schema"),
        (b"[]", "schema"),
        (b"null", "schema"),
        (b" " * 70_000, "too-large"),
        (b'{"user_id":"\xc3\x28","item_id":"i","behavior":"view","timestamp":1700000000000}', "not-json"),
    ],
)
def test_bytes_that_are_no_event_are_rejected(value: bytes | None, reason: str) -> None:
    """Red where null, too many bytes, or what is no UTF-8 and no JSON, is let through to the decoder."""
    rejection = DECODE(value)
    assert isinstance(rejection, Rejection)
    assert rejection.reason == reason


def test_signals_need_no_item_and_exposures_may_name_many() -> None:
    assert isinstance(decode(behavior="search", item_id="absent", query="red shoes"), Event)
    shown = decode(behavior="impression", item_id="absent", items=["a", 2])
    assert isinstance(shown, Event)
    assert shown.record.items == ["a", 2]


def test_unknown_fields_are_ignored_and_names_can_be_mapped() -> None:
    mapped = event_decoder(FieldSettings(user_id="uid", timestamp="ts"), BEHAVIORS)
    event = mapped(b'{"uid":1,"ts":1700000000000,"item_id":"i","behavior":"buy","colour":"red"}')
    assert isinstance(event, Event)
    assert event.user_id == "1"
    assert isinstance(mapped(json.dumps(GOOD).encode()), Rejection)


def test_the_future_is_measured_against_the_records_kafka_timestamp() -> None:
    """Red where nothing is from the future."""
    event = decode()
    assert isinstance(event, Event)
    assert future_rejection(event, event.timestamp - 300_000, 300_000) is None
    assert future_rejection(event, -1, 300_000) is None
    late = future_rejection(event, event.timestamp - 300_001, 300_000)
    assert late is not None
    assert late.reason == "from-the-future"


def test_an_alias_needs_a_behaviour_with_a_role() -> None:
    with pytest.raises(SettingsError, match="has no role"):
        behavior_table(BehaviorSettings(aliases={"gaze": "stare"}))
    table = behavior_table(BehaviorSettings(roles={"stare": "interest"}, aliases={"gaze": "stare"}))
    assert table["gaze"].role == "interest"


def test_every_reason_is_a_label_of_the_metric() -> None:
    assert set(records.REJECTION_REASONS) == set(REJECT_REASONS)


def test_schemas_are_those_of_the_code() -> None:
    folder = Path(records.__file__).parent / "schemas"
    assert {path.name for path in folder.glob("*.json")} == set(schemas())
    for name, schema in schemas().items():
        assert json.loads((folder / name).read_text()) == schema, f"{name}: run python -m stream.schemas"


def test_examples_and_lists_survive_the_wire() -> None:
    example = records.TrainingExample("tag", 1, 2, 3, 4, "u", "view", "interest", [("a", "view", 1)], 0, item="b")
    assert records.decode_example(records.encode_example(example)) == example
    with_unknown = msgspec.msgpack.encode({**msgspec.to_builtins(example), "later": 1})
    assert records.decode_example(with_unknown) == example
