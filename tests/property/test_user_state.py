"""State transitions against a plain model: a sequence is all applied visits sorted by (time, offset)."""

import json

from hypothesis import example, given
from hypothesis import strategies as st

from stream.behaviors import behavior_table
from stream.records import Event, Rejection, event_decoder
from stream.settings import BehaviorSettings, FieldSettings
from stream.state import (
    EMPTY,
    N_EVENT_IDS,
    N_ORIGINS,
    WINDOW,
    Applied,
    Limits,
    Listed,
    Place,
    UserState,
    advance,
    context_after,
    context_of,
    decode_state,
    encode_state,
    excluded_items,
    hash64,
    judge,
    with_list,
)

DECODE = event_decoder(FieldSettings(), behavior_table(BehaviorSettings()))
START = 1_700_000_000_000
LIMITS = Limits(sitting_gap_ms=50, allowed_lateness_ms=100)

behaviors = st.sampled_from(["view", "buy", "dislike", "search"])
steps = st.tuples(st.sampled_from("abcdef"), behaviors, st.integers(0, 400), st.none() | st.integers(0, 60))


def event(item: str, behavior: str, time: int, event_id: int | None = None) -> Event:
    fields = {"user_id": "u", "item_id": item, "behavior": behavior, "timestamp": START + time, "event_id": event_id}
    decoded = DECODE(json.dumps(fields).encode())
    assert isinstance(decoded, Event)
    return decoded


def play(history: list[tuple[str, str, int, int | None]]) -> tuple[UserState, list[Applied]]:
    state, applied = EMPTY, []
    for offset, step in enumerate(history):
        outcome = advance(state, event(*step), Place("t", 0, offset), None, LIMITS)
        if isinstance(outcome, Applied):
            state = outcome.state
            applied.append(outcome)
    return state, applied


@given(st.lists(steps, max_size=60))
def test_a_sequence_is_its_applied_visits_in_order_of_time_and_offset(
    history: list[tuple[str, str, int, int | None]],
) -> None:
    state, visits, newest, ids = EMPTY, [], 0, []
    for offset, (item, behavior, time, event_id) in enumerate(history):
        outcome = advance(state, event(item, behavior, time, event_id), Place("t", 0, offset), None, LIMITS)
        at = START + time
        if event_id is not None and event_id in ids[-N_EVENT_IDS:]:
            assert outcome == "duplicate"
        elif at < newest - LIMITS.allowed_lateness_ms:
            assert isinstance(outcome, Rejection)
            assert outcome.reason == "too-late"
        else:
            assert isinstance(outcome, Applied)
            before = [visit for visit in visits if visit[2:] < (at, offset)]
            assert [tuple(visit) for visit in outcome.context.history] == [v[:3] for v in before][
                -WINDOW:
            ] or outcome.late
            assert outcome.late == (len(before) < len(visits))
            state = outcome.state
            if behavior in ("view", "buy"):
                visits = sorted([*visits, (item, behavior, at, offset)], key=lambda visit: visit[2:])[-WINDOW:]
            newest = max(newest, at)
            ids += [] if event_id is None else [event_id]
    assert [tuple(visit) for visit in state.visits] == visits
    assert len(state.negatives) <= WINDOW
    assert len(state.event_ids) <= N_EVENT_IDS


@example([("a", "view", 0, None), *(("b", "view", 100 + time, None) for time in range(25))])
@given(st.lists(steps, max_size=60))
def test_what_a_list_is_made_from_is_the_whole_state_however_it_was_come_by(
    history: list[tuple[str, str, int, int | None]],
) -> None:
    """The short cut for events in order; without its count of what was forgotten this is red."""
    state = EMPTY
    for offset, step in enumerate(history):
        outcome = advance(state, event(*step), Place("t", 0, offset), None, LIMITS)
        if isinstance(outcome, Applied):
            state = outcome.state
            if step[1] in ("view", "buy"):
                now = max(START + step[2], state.visits[-1][2])
                expected = context_of(state.visits, now, LIMITS.sitting_gap_ms)
                assert context_after(outcome, event(*step), LIMITS) == expected


@given(st.lists(steps, max_size=40), st.integers(0, 39))
def test_reading_on_from_any_earlier_offset_changes_nothing(
    history: list[tuple[str, str, int, int | None]], again_from: int
) -> None:
    state, _ = play(history)
    for offset in range(min(again_from, len(history)), len(history)):
        outcome = advance(state, event(*history[offset]), Place("t", 0, offset), None, LIMITS)
        if isinstance(outcome, Applied):  # it was no part of the state: rejected or a duplicate the first time
            first = play(history[:offset])[0]
            assert not isinstance(advance(first, event(*history[offset]), Place("t", 0, offset), None, LIMITS), Applied)
            return
    assert play(history)[0] == state


@given(st.lists(steps, max_size=60))
def test_a_state_survives_the_changelog_and_stays_small(history: list[tuple[str, str, int, int | None]]) -> None:
    state, _ = play(history)
    assert decode_state(encode_state(state)) == state
    assert len(encode_state(state)) < 2_000


@given(st.lists(st.integers(0, 30), min_size=1, max_size=12), st.lists(st.integers(0, 30), max_size=12))
def test_a_copy_of_a_republished_event_is_applied_once(first: list[int], second: list[int]) -> None:
    """A kill between publishing and committing republishes what came from a foreign partition once more."""
    state, offset, applied = EMPTY, 0, []
    log = sorted(set(first))
    resumed = [origin for origin in log if origin >= min(second, default=99)]
    for origin in log + resumed:
        outcome = advance(state, event("a", "view", 0), Place("t", 0, offset), Place("t", 5, origin), LIMITS)
        offset += 1
        if isinstance(outcome, Applied):
            state = outcome.state
            applied.append(origin)
    assert applied == log


def test_only_the_last_foreign_partitions_are_remembered() -> None:
    state = EMPTY
    for number in range(20):
        outcome = advance(state, event("a", "view", 0), Place("t", 0, number), Place("t", number, 7), LIMITS)
        assert isinstance(outcome, Applied)
        state = outcome.state
    assert len(state.origins) == N_ORIGINS
    assert "t/19" in state.origins


def test_a_topic_made_anew_starts_its_offsets_again() -> None:
    outcome = advance(EMPTY, event("a", "view", 0), Place("old", 0, 100), None, LIMITS)
    assert isinstance(outcome, Applied)
    assert advance(outcome.state, event("b", "view", 1), Place("old", 0, 3), None, LIMITS) == "replayed"
    assert isinstance(advance(outcome.state, event("b", "view", 1), Place("new", 0, 3), None, LIMITS), Applied)


def listed_after(state: UserState, *items: str) -> Listed:
    return Listed(state.visits[-1][2:], "r", START, 1, "live", "default", [hash64(item) for item in items])


def test_an_event_is_measured_against_the_list_before_it() -> None:
    state = play([("a", "view", 0, None), ("b", "view", 10, None)])[0]
    following = event("c", "view", 20)
    outcome = advance(state, following, Place("t", 0, 2), None, LIMITS)
    assert isinstance(outcome, Applied)
    assert judge(outcome, following, listed_after(state, "x", "c"), LIMITS) == (2, None)
    assert judge(outcome, following, listed_after(state, "x", "y"), LIMITS) == (0, None)
    assert judge(outcome, following, None, LIMITS) == (0, "no_list")
    stale = listed_after(play([("a", "view", 0, None)])[0], "c")
    assert judge(outcome, following, stale, LIMITS) == (1, "no_list")


def test_first_repeated_late_and_filtered_events_are_not_scored() -> None:
    state = play([("a", "view", 0, None), ("d", "dislike", 1, None), ("b", "view", 10, None)])[0]
    listed = listed_after(state, "a", "b", "d")
    reasons = {}
    for name, item, time in (("repeat", "b", 20), ("first", "a", 100), ("late", "a", 5), ("filtered", "d", 20)):
        following = event(item, "view", time)
        outcome = advance(state, following, Place("t", 0, 9), None, LIMITS)
        assert isinstance(outcome, Applied)
        reasons[name] = judge(outcome, following, listed, LIMITS).unscored
    assert reasons == {name: name for name in reasons}


def test_exclusions_grow_from_nothing_to_all_that_was_seen() -> None:
    state = play(
        [
            ("a", "buy", 0, None),
            ("b", "view", 1, None),
            ("c", "view", 100, None),
            ("e", "dislike", 101, None),
            ("d", "view", 102, None),
        ]
    )[0]
    context = context_of(state.visits, START + 103, LIMITS.sitting_gap_ms)
    assert excluded_items(state, context, "none") == {"e"}
    assert excluded_items(state, context, "current") == {"e", "d"}
    assert excluded_items(state, context, "sitting") == {"e", "d", "c"}
    assert excluded_items(state, context, "bought") == {"e", "d", "a"}
    assert excluded_items(state, context, "seen") == {"e", "d", "c", "b", "a"}


def test_a_list_is_part_of_the_state_and_the_state_before_is_untouched() -> None:
    state = play([("a", "view", 0, None)])[0]
    listed = listed_after(state, "b")
    assert with_list(state, listed).listed == listed
    assert state.listed is None
