"""A user's state, and what an event does to it: pure functions over immutable values.

State is kept small because it lives three times: in memory (encoded), in the changelog, and in each training example.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Literal, NamedTuple, TypeAlias

import msgspec
from msgspec import Struct

from online_model.protocol import Context, Visit
from stream.behaviors import SEQUENCE_ROLES
from stream.records import Event, Rejection
from stream.settings import Exclusion

WINDOW = 20
"""Visits kept: a window of 10 to 20 items is all the state that a recurrent model was measured to need."""
N_EVENT_IDS = 32
N_ORIGINS = 8
"""Foreign partitions remembered: a client's partitioner sends one user to one partition."""

UnscoredReason = Literal["first", "repeat", "filtered", "no_list", "late"]
StoredVisit: TypeAlias = tuple[str, str, int, int]
"""Item id, behaviour, event time (ms), source offset; a sequence is ordered by (time, offset)."""


class Place(NamedTuple):
    """Where a record stands: `tag` is the first characters of the topic's id, so that a topic made anew is another."""

    tag: str
    partition: int
    offset: int


class Listed(Struct, array_like=True, frozen=True, gc=False):
    """The list last published to the user.

    Attributes:
        trigger: The visit that it answers, as (time, offset).
        recommendation_id: Its id.
        generated_at: When it was made, ms.
        items: 64-bit hashes of its items, best first.
    """

    trigger: tuple[int, int]
    recommendation_id: str
    generated_at: int
    model_version: int
    policy: str
    variant: str
    items: list[int]


class UserState(Struct, array_like=True, frozen=True, gc=False):
    """One user. Lists are never changed in place.

    Attributes:
        applied: Per topic tag, the offset of the last applied event in the user's home partition.
        visits: The last 20 of roles interest and strong.
        negatives: The last 20 of role negative.
        event_ids: 64-bit hashes of the last 32 event ids.
        newest: Greatest event time applied, ms.
        listed: The list last published, None where none has been.
        origins: Per foreign place "tag/partition", the last offset there whose republished copy was applied.
    """

    applied: dict[str, int] = {}
    visits: list[StoredVisit] = []
    negatives: list[StoredVisit] = []
    event_ids: list[int] = []
    newest: int = 0
    listed: Listed | None = None
    origins: dict[str, int] = {}


EMPTY = UserState()
encode_state = msgspec.msgpack.Encoder().encode
decode_state = msgspec.msgpack.Decoder(UserState).decode


def hash64(text: str) -> int:
    """Return a 64-bit hash that is the same in every process and version."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


class Limits(NamedTuple):
    """How events become sequences; milliseconds."""

    sitting_gap_ms: int = 1_800_000
    allowed_lateness_ms: int = 600_000
    exclude: Exclusion = "current"


class Applied(NamedTuple):
    """An event that changed its user's state.

    Attributes:
        before: The state before it.
        state: The state after it; the list last published is still that of `before`.
        context: What stands before it in the user's sequence.
        late: Something of the sequence stands after it.
    """

    before: UserState
    state: UserState
    context: Context
    late: bool


class Verdict(NamedTuple):
    """What an event says of the list that had been published before it.

    Attributes:
        rank: Place of its item in the list, 1 is the best; 0 when it is not there.
        unscored: Why it does not count for the live measure; None when it does, or when it is no target.
    """

    rank: int
    unscored: UnscoredReason | None


Outcome: TypeAlias = Applied | Rejection | Literal["replayed", "duplicate"]


def advance(state: UserState, event: Event, place: Place, origin: Place | None, limits: Limits) -> Outcome:
    """Apply one event to its user's state.

    Args:
        state: The user's state, left untouched.
        event: The checked event.
        place: Where the record stands in the user's home partition.
        origin: Where the event stood first, if it was republished from elsewhere.
        limits: The settings of sequences.

    Returns:
        What it did: applied, rejected as too late, already applied ("replayed"), or known by its event id
        ("duplicate"). The test of the offset comes first: a replayed event would else be its own duplicate.
    """
    if place.offset <= state.applied.get(place.tag, -1):
        return "replayed"
    if origin is not None and origin.offset <= state.origins.get(_origin_key(origin), -1):
        return "replayed"
    event_hash = None if event.event_id is None else hash64(event.event_id)
    if event_hash is not None and event_hash in state.event_ids:
        return "duplicate"
    if event.timestamp < state.newest - limits.allowed_lateness_ms:
        behind = state.newest - event.timestamp
        return Rejection(
            "too-late", f"{behind} ms older than the user's newest, {limits.allowed_lateness_ms} are allowed"
        )
    return _apply(state, event, event_hash, place, origin, limits)


def judge(applied: Applied, event: Event, listed: Listed | None, limits: Limits) -> Verdict:
    """Measure an event against the list last published before it.

    `listed` is handed in, and not taken from the state, because two events of one user in one batch get two lists: the
    second is measured against the first one's.
    """
    rank = _rank(listed, event.item_id)
    return Verdict(rank, _unscored(applied, event, listed, limits) if event.role in SEQUENCE_ROLES else None)


def with_list(state: UserState, listed: Listed) -> UserState:
    """Return `state` with the list that is about to be published."""
    return msgspec.structs.replace(state, listed=listed)


def context_of(visits: Sequence[StoredVisit], now: int, sitting_gap_ms: int) -> Context:
    """Return what a list is made from at time `now`: all visits, and where the current sitting starts in them.

    >>> context_of([("a", "view", 0, 0), ("b", "view", 10, 1)], 20, 15).sitting
    0
    >>> context_of([("a", "view", 0, 0), ("b", "view", 10, 1)], 30, 15).sitting
    2
    """
    history: list[Visit] = [(item, behavior, time) for item, behavior, time, _ in visits]
    sitting, after = len(visits), now
    while sitting and after - visits[sitting - 1][2] <= sitting_gap_ms:
        sitting -= 1
        after = visits[sitting][2]
    return Context(history, sitting, now)


def context_after(applied: Applied, event: Event, limits: Limits) -> Context:
    """Return what a list is made from just after an event of the sequence: all visits, this one included.

    An event that is its user's newest extends the context that it met; a late one is answered from the whole sequence,
    for its user is where the newest event says.
    """
    before, visits = applied.context, applied.state.visits
    if applied.late or event.item_id is None:
        return context_of(visits, max(event.timestamp, visits[-1][2]), limits.sitting_gap_ms)
    history = [*before.history[1 - WINDOW :], (event.item_id, event.behavior, event.timestamp)]
    n_forgotten = len(before.history) + 1 - len(history)
    return Context(history, max(0, before.sitting - n_forgotten), event.timestamp)


def excluded_items(state: UserState, context: Context, exclude: Exclusion) -> frozenset[str]:
    """Return the ids that may not stand in a list: what the user turned down, and what the policy leaves out."""
    history = context.history
    if exclude == "current" and history and not state.negatives:
        return frozenset((history[-1][0],))
    items = {item for item, _, _, _ in state.negatives}
    if exclude != "none" and history:
        items.add(history[-1][0])
    if exclude == "sitting":
        items.update(visit[0] for visit in history[context.sitting :])
    elif exclude == "bought":
        items.update(item for item, behavior, _ in history if behavior == "buy")
    elif exclude == "seen":
        items.update(visit[0] for visit in history)
    return frozenset(items)


def _apply(
    state: UserState, event: Event, event_hash: int | None, place: Place, origin: Place | None, limits: Limits
) -> Applied:
    at = (event.timestamp, place.offset)
    visits, negatives = state.visits, state.negatives
    n_visits = index = len(visits)
    while index and at < visits[index - 1][2:]:
        index -= 1
    before = visits if index == n_visits else visits[:index]
    context = context_of(before, event.timestamp, limits.sitting_gap_ms)
    if event.item_id is not None:
        visit: StoredVisit = (event.item_id, event.behavior, event.timestamp, place.offset)
        if event.role in SEQUENCE_ROLES:
            visits = [*before, visit, *visits[index:]][-WINDOW:]
        elif event.role == "negative":
            negatives = [*negatives, visit][-WINDOW:]
    after = UserState(
        applied={**state.applied, place.tag: place.offset},
        visits=visits,
        negatives=negatives,
        event_ids=state.event_ids if event_hash is None else [*state.event_ids, event_hash][-N_EVENT_IDS:],
        newest=max(state.newest, event.timestamp),
        listed=state.listed,
        origins=state.origins if origin is None else _remember(state.origins, origin),
    )
    return Applied(state, after, context, late=index < n_visits)


def _unscored(applied: Applied, event: Event, listed: Listed | None, limits: Limits) -> UnscoredReason | None:
    history = applied.context.history
    if applied.late:
        return "late"
    if applied.context.sitting == len(history):
        return "first"
    if event.item_id == history[-1][0]:
        return "repeat"
    if listed is None or listed.trigger != applied.before.visits[-1][2:]:
        return "no_list"
    if event.item_id in excluded_items(applied.before, applied.context, limits.exclude):
        return "filtered"
    return None


def _rank(listed: Listed | None, item: str | None) -> int:
    if listed is None or item is None:
        return 0
    try:
        return listed.items.index(hash64(item)) + 1
    except ValueError:
        return 0


def _origin_key(origin: Place) -> str:
    return f"{origin.tag}/{origin.partition}"


def _remember(origins: dict[str, int], origin: Place) -> dict[str, int]:
    key = _origin_key(origin)
    rest = {name: offset for name, offset in origins.items() if name != key}
    return {**dict(list(rest.items())[-(N_ORIGINS - 1) :]), key: origin.offset}
