"""What is on the wire: the records of every topic, their limits, and the one decoder of events.

Values are JSON, except training examples (a msgpack map). Readers ignore fields they do not know; fields are only ever
added; `v` names the major version.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias, get_args

import msgspec
from msgspec import Meta, Struct

from online_model.protocol import Role
from stream.behaviors import Behavior
from stream.settings import FieldSettings

VERSION = 1
MAX_EVENT_BYTES = 65_536
MAX_CONTEXT_BYTES = 4_096
MAX_SHOWN_BYTES = 24_576
"""Of the ids in an impression: with 20 visits of the longest ids an example still stays below its limit."""
MAX_DETAIL_CHARACTERS = 500
MAX_ATTACHED_BYTES = 32_768
"""Of a key, and of all headers together: more than that is not carried on."""
MAX_TRACEPARENT_BYTES = 256
MAX_ALSO_ANSWERS = 100
"""Events that one list answers beside its trigger: with the longest ids the answer still stays below its limit."""
MAX_REJECT_BYTES = 900_000
"""A rejected value longer than this is cut, and a header says so: Kafka's default limit for a record is 1 MiB."""
EARLIEST_TIMESTAMP_MS = 10**11
"""Integers below are taken for seconds: as milliseconds they would lie before March 1973."""

RejectionReason = Literal[
    "null-value",
    "not-json",
    "schema",
    "too-large",
    "looks-like-seconds",
    "no-offset",
    "unknown-behavior",
    "too-late",
    "from-the-future",
]
REJECTION_REASONS: tuple[RejectionReason, ...] = get_args(RejectionReason)

# JSON's integers have no limit; beyond 64 bits they could not be written into an example.
_Int64: TypeAlias = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_Id: TypeAlias = Annotated[str, Meta(min_length=1, max_length=256)] | _Int64
_Scalar: TypeAlias = str | _Int64 | float | bool | None


class EventRecord(Struct, omit_defaults=True, gc=False):
    """An event as it comes: something that a user did with an item.

    Ids may be integers, which are taken as their decimal text. `timestamp` is integer milliseconds since the epoch, or
    RFC 3339 text with an offset. An impression names `item_id` and `position`, or `items` in the order shown.
    """

    user_id: _Id
    behavior: Annotated[str, Meta(min_length=1, max_length=64)]
    timestamp: _Int64 | Annotated[str, Meta(max_length=64)]
    item_id: _Id | None = None
    event_id: _Id | None = None
    session_id: _Id | None = None
    recommendation_id: Annotated[str, Meta(max_length=128)] | None = None
    position: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    surface: Annotated[str, Meta(max_length=64)] | None = None
    dwell_seconds: Annotated[float, Meta(ge=0)] | None = None
    value: float | None = None
    query: Annotated[str, Meta(max_length=1024)] | None = None
    context: dict[str, _Scalar] | None = None
    items: Annotated[list[_Id], Meta(max_length=100)] | None = None


class Event(NamedTuple):
    """An event that has been checked: ids are text, the behaviour is canonical, time is in milliseconds."""

    user_id: str
    item_id: str | None
    behavior: str
    role: Role
    timestamp: int
    record: EventRecord

    @property
    def event_id(self) -> str | None:
        """The producer's own id of the event."""
        return None if self.record.event_id is None else str(self.record.event_id)


class Rejection(NamedTuple):
    """Why a record cannot be used."""

    reason: RejectionReason
    detail: str


class Trigger(Struct, omit_defaults=True, gc=False):
    """The event that a list answers, by the place where its producer was told it stands."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    event_id: str | None = None


class RecommendedItem(Struct, gc=False):
    """One place in a list. `propensity` is the chance that this item stood here under the policy."""

    item_id: str
    score: float
    source: str
    propensity: float = 1.0
    probability: float | msgspec.UnsetType = msgspec.UNSET
    click_probability: float | msgspec.UnsetType = msgspec.UNSET
    reason: str | msgspec.UnsetType = msgspec.UNSET


class Recommendation(Struct, gc=False):
    """A list for a user, best first. Where an answer stands twice, the later is the valid one.

    Under overload one list may answer several events of its user: `trigger` is the newest, `also_answers` has the
    others, oldest first.
    """

    recommendation_id: str
    user_id: str
    generated_at: int
    model_version: int
    policy: str
    variant: str
    candidates: int
    items: list[RecommendedItem]
    trigger: Trigger | None = None
    surface: str | None = None
    also_answers: list[Trigger] | msgspec.UnsetType = msgspec.UNSET
    v: int = VERSION


class TrainingExample(Struct, omit_defaults=True, gc=False):
    """One applied event: what serving saw, and what happened.

    Attributes:
        topic: First characters of the source topic's id; with partition and offset it names the example.
        time: Event time in milliseconds; `logged_at` is the record's Kafka timestamp.
        user: Pseudonym of the user: a keyed hash of the id.
        history: The sequence as served, oldest first: item, behaviour, time.
        sitting: Index in `history` where the current sitting starts.
        rank: Place of the item in the list last published, 1 is the best; 0 when it is not there.
        scored: Whether the event counts for the live measure; `unscored` says why not.
        late_list: The list was made only after the event's Kafka timestamp.
        attributed: The event says which list it answers (`answers`).
        recommendation_id: Of the list last published; `model_version`, `policy` and `variant` are that list's too.
        backlog: The event was no live one when it was taken: it had been waiting since before the worker caught up, or
            it came to Kafka long after it happened. What waits of these is never taken for overload.
    """

    topic: str
    partition: int
    offset: int
    time: int
    logged_at: int
    user: str
    behavior: str
    role: Role
    history: list[tuple[str, str, int]]
    sitting: int
    item: str | None = None
    items: list[str] | None = None
    position: int | None = None
    surface: str | None = None
    query: str | None = None
    dwell_seconds: float | None = None
    value: float | None = None
    context: dict[str, _Scalar] | None = None
    model_version: int = 0
    policy: str = ""
    variant: str = ""
    recommendation_id: str | None = None
    rank: int = 0
    scored: bool = False
    unscored: str | None = None
    late_list: bool = False
    answers: str | None = None
    traceparent: str | None = None
    weight: float = 1.0
    backlog: bool = False
    v: int = VERSION


class CatalogEntry(Struct, omit_defaults=True):
    """What is known of an item. A null value withdraws it."""

    title: str | None = None
    text: str | None = None
    categories: list[str] | None = None
    price: float | None = None
    available: bool = True
    created_at: int | None = None
    expires_at: int | None = None
    vectors: dict[str, list[float]] | None = None
    attributes: dict[str, _Scalar] | None = None
    v: int = VERSION


def answered(recommendation: Recommendation) -> list[Trigger]:
    """Return the events that a list answers, oldest first: its trigger is the last; a look-up's has none."""
    earlier = recommendation.also_answers
    trigger = recommendation.trigger
    return [*(() if earlier is msgspec.UNSET else earlier), *(() if trigger is None else (trigger,))]


encode_recommendation = msgspec.json.Encoder().encode
decode_recommendation = msgspec.json.Decoder(Recommendation).decode
encode_example = msgspec.msgpack.Encoder().encode
decode_example = msgspec.msgpack.Decoder(TrainingExample).decode


def event_decoder(
    fields: FieldSettings, behaviors: Mapping[str, Behavior]
) -> Callable[[bytes | None], Event | Rejection]:
    """Return the function that turns the bytes of a record into an event, or says why it cannot.

    Args:
        fields: Names of the fields in the records.
        behaviors: What each behaviour's name means.

    Returns:
        decode(value): the event, or why it cannot be used.
    """
    decoder = msgspec.json.Decoder(_renamed(fields))

    def decode(value: bytes | None) -> Event | Rejection:
        if value is None:
            return Rejection("null-value", "an event has a value; deleting a user is for erasure requests")
        if len(value) > MAX_EVENT_BYTES:
            return Rejection("too-large", f"expected at most {MAX_EVENT_BYTES} bytes, got {len(value)}")
        try:
            record = decoder.decode(value)
        except msgspec.ValidationError as error:
            return Rejection("schema", str(error))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return Rejection("not-json", str(error))
        return _check(record, behaviors)

    return decode


def future_rejection(event: Event, logged_at: int, allowed_ms: int) -> Rejection | None:
    """Reject what claims to have happened long after Kafka received it, where the record says when that was."""
    if logged_at < 0 or event.timestamp <= logged_at + allowed_ms:
        return None
    return Rejection(
        "from-the-future",
        f"{event.timestamp - logged_at} ms ahead of the record's Kafka timestamp, {allowed_ms} are allowed",
    )


def _renamed(fields: FieldSettings) -> type[EventRecord]:
    names = {ours: theirs for ours, theirs in fields.model_dump().items() if ours != theirs}
    if not names:
        return EventRecord
    definitions = [
        (f.name, f.type) if f.required else (f.name, f.type, f.default) for f in msgspec.structs.fields(EventRecord)
    ]
    return msgspec.defstruct("MappedEvent", definitions, bases=(EventRecord,), rename=names)  # type: ignore[return-value]


def _check(record: EventRecord, behaviors: Mapping[str, Behavior]) -> Event | Rejection:
    behavior = behaviors.get(record.behavior)
    if behavior is None:
        return Rejection(
            "unknown-behavior", f"{record.behavior!r} has no role; give it one with MILLSTREAM_BEHAVIORS__ROLES"
        )
    timestamp = record.timestamp if type(record.timestamp) is int else _parse_time(str(record.timestamp))
    if isinstance(timestamp, Rejection):
        return timestamp
    if timestamp < EARLIEST_TIMESTAMP_MS:
        return Rejection(
            "looks-like-seconds", f"timestamp {timestamp} is in milliseconds since the epoch, it looks like seconds"
        )
    if timestamp > 2**53:
        return Rejection("schema", f"timestamp {timestamp} lies beyond any calendar")
    if behavior.role == "exposure":
        if record.item_id is None and not record.items:
            return Rejection("schema", "an exposure names item_id, or items in the order shown")
    elif behavior.role != "signal" and record.item_id is None:
        return Rejection("schema", f"behavior {record.behavior!r} needs an item_id")
    if record.context is not None and (size := len(msgspec.json.encode(record.context))) > MAX_CONTEXT_BYTES:
        return Rejection("too-large", f"context: expected at most {MAX_CONTEXT_BYTES} bytes, got {size}")
    if record.items is not None and (size := sum(len(str(item).encode()) for item in record.items)) > MAX_SHOWN_BYTES:
        return Rejection("too-large", f"items: expected at most {MAX_SHOWN_BYTES} bytes of ids, got {size}")
    item = None if record.item_id is None else str(record.item_id)
    return Event(str(record.user_id), item, behavior.name, behavior.role, timestamp, record)


def _parse_time(text: str) -> int | Rejection:
    """RFC 3339 to milliseconds; text without an offset names no moment."""
    try:
        moment = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        return Rejection("schema", f"timestamp {text!r} is neither integer milliseconds nor RFC 3339")
    if moment.tzinfo is None:
        return Rejection("no-offset", f"timestamp {text!r} needs an offset such as Z or +01:00")
    return round(moment.timestamp() * 1000)


def schemas() -> dict[str, dict[str, Any]]:
    """Return the JSON Schema of every record, by file name."""
    records: dict[str, type[Struct]] = {
        "event": EventRecord,
        "recommendation": Recommendation,
        "training-example": TrainingExample,
        "catalog-entry": CatalogEntry,
    }
    return {f"{name}.json": msgspec.json.schema(record) for name, record in records.items()}
