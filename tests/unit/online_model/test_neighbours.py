"""Neighbours against a plain reference, on streams that hypothesis makes up."""

from dataclasses import dataclass, field
from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from online_model.candidates.neighbours import Neighbours
from online_model.candidates.queries import Occurrences, Queries, queries, visit_keys
from online_model.candidates.sittings import PLACES
from online_model.protocol import Context

N_ROWS = 7
SLOTS, PER_ITEM, NEAREST = 6, 3, 2


def source(slots: int = SLOTS, **changes: float) -> Neighbours:
    return Neighbours(slots, **{"per_item": PER_ITEM, "n_nearest": NEAREST, **changes})  # type: ignore[arg-type]


@dataclass
class Sitting:
    number: int
    items: list[int]


@dataclass
class Reference:
    """The same definition, item lists searched and sorted in plain Python."""

    slots: int = SLOTS
    per_item: int = PER_ITEM
    nearest: int = NEAREST
    number: int = 0
    clock: int = 0
    sittings: dict[int, Sitting] = field(default_factory=dict)
    keys: dict[int, Sitting] = field(default_factory=dict)
    seen: dict[tuple[int, int], int] = field(default_factory=dict)

    def fold(self, before: list[int], key: int, item: int, new_key: int) -> None:
        sitting = self.keys.pop(key, None)
        if sitting is None:
            sitting = Sitting(self.number, [])
            self.sittings[self.number % self.slots] = sitting
            self.keys = {key: kept for key, kept in self.keys.items() if kept in self.sittings.values()}
            self.number += 1
            for row in before[-(PLACES - 1) :]:
                self.append(sitting, row)
        self.append(sitting, item)
        self.keys[new_key] = sitting

    def append(self, sitting: Sitting, row: int) -> None:
        if sitting.items[-1:] != [row]:
            self.clock += 1
            sitting.items = [*sitting.items, row][-PLACES:]
            self.seen[sitting.number, row] = self.clock

    def forget(self, gone: int) -> None:
        for sitting in self.sittings.values():
            sitting.items = [-1 if row == gone else row for row in sitting.items]

    def score(self, rows: list[int], key: int) -> dict[int, list[float]]:
        near: dict[int, np.float32] = {}
        for back, row in enumerate(reversed(rows[-10:])):
            near.setdefault(row, np.float32(max(0.05, 1 - 0.1 * back)))
        own = self.keys.get(key)
        similar: dict[int, np.float32] = {}
        for row, weight in near.items():
            holders = [sitting.number for sitting in self.sittings.values() if row in sitting.items]
            holders.sort(key=lambda number: -self.seen[number, row])
            for number in holders[: self.per_item]:
                if own is None or number != own.number:
                    similar[number] = similar.get(number, np.float32(0)) + weight
        chosen = sorted(similar, key=lambda number: (-similar[number], -number))[: self.nearest]
        scores: dict[int, list[float]] = {}
        for number in chosen:
            items = self.sittings[number % self.slots].items
            if not set(items) - set(near) - {-1}:
                continue
            best = max((float(near[row]), place) for place, row in enumerate(items) if row in near)
            for place, row in enumerate(items):
                if row >= 0:
                    pair = scores.setdefault(row, [0.0, 0.0])
                    pair[0] += float(similar[number]) * best[0]
                    pair[1] += float(similar[number]) * best[0] * np.exp(-abs(place - best[1]) / 3)
        return scores


def asked(parts: list[tuple[list[int], int]]) -> Queries:
    """Queries with these rows and keys of their last visits."""
    starts = np.cumsum([0, *(len(rows) for rows, _ in parts)]).astype(np.int64)
    none = np.zeros(len(parts) + 1, np.int64)
    return Queries(
        starts,
        np.array([row for rows, _ in parts for row in rows], np.int32),
        none,
        np.zeros(0, np.int32),
        np.array([key for _, key in parts], np.uint64),
        np.zeros(len(parts), np.float32),
    )


def happened(events: list[tuple[list[int], int, int, int]]) -> Occurrences:
    """Occurrences with rows before, key before, item, key after."""
    return Occurrences(
        asked([(before, key) for before, key, _, _ in events]),
        np.array([item for _, _, item, _ in events], np.int32),
        np.array([key for _, _, _, key in events], np.uint64),
        np.ones(len(events), np.float32),
    )


def scored(neighbours: Neighbours, rows: list[int], key: int = 0) -> dict[int, list[float]]:
    found = neighbours.score(asked([(rows, key)]))
    assert len(set(found.rows.tolist())) == len(found.rows)
    return dict(zip(found.rows.tolist(), found.values.tolist(), strict=True))


_keys = count(1_000_000)


def sit(neighbours: Neighbours, *items: int) -> int:
    """Let somebody visit items one after the other; return the key of the last visit."""
    before: list[int] = []
    key = 0
    for item in items:
        after = next(_keys)
        neighbours.fold(happened([(before, key, item, after)]))
        before, key = [*before, item], after
    return key


# Who acts, on which item; or a row that is forgotten.
Acts = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 8), st.integers(0, N_ROWS - 1)),
        st.tuples(st.just(-1), st.integers(0, N_ROWS - 1)),
        # somebody whose last visit nobody knows
        st.tuples(st.integers(9, 11), st.integers(0, N_ROWS - 1)),
    ),
    max_size=90,
)


def play(neighbours: Neighbours, reference: Reference, acts: list[tuple[int, int]], key: int = 0) -> list[tuple]:
    histories: dict[int, list[int]] = {}
    keys: dict[int, int] = {}
    pending: list[tuple[list[int], int, int, int]] = []
    for who, row in acts:
        if who < 0:
            neighbours.fold(happened(pending))
            pending = []
            neighbours.forget(np.array([row]))
            reference.forget(row)
            continue
        key += 1
        event = (histories.get(who, [])[-PLACES:], keys.get(who, 0) if who < 9 else 900_000 + key, row, key)
        reference.fold(*event)
        pending.append(event)
        if len(pending) == 4:
            neighbours.fold(happened(pending))
            pending = []
        histories.setdefault(who, []).append(row)
        keys[who] = key
    neighbours.fold(happened(pending))
    return [(rows[-PLACES:], keys[who]) for who, rows in histories.items()]


@settings(max_examples=150, deadline=None)
@given(Acts, st.lists(st.lists(st.integers(0, N_ROWS - 1), max_size=14), max_size=3))
def test_scores_are_those_of_the_reference(acts, strangers):
    neighbours, reference = source(), Reference()
    asking = [*play(neighbours, reference, acts), *((rows, 0) for rows in strangers)]
    found = neighbours.score(asked(asking))
    for place, (rows, key) in enumerate(asking):
        part = slice(found.starts[place], found.starts[place + 1])
        expected = reference.score(rows, key)
        assert sorted(found.rows[part].tolist()) == sorted(expected)
        for row, values in zip(found.rows[part].tolist(), found.values[part].tolist(), strict=True):
            assert values == pytest.approx(expected[row], rel=1e-5)


@settings(max_examples=60, deadline=None)
@given(Acts, Acts)
def test_save_load_continue_equals_never_stopping(first, second):
    one, other = source(), source()
    play(one, Reference(), first)
    state = one.state(N_ROWS)
    other.load_state(state)
    play(one, Reference(), second, key=500)
    play(other, Reference(), second, key=500)
    again, states = one.state(N_ROWS), other.state(N_ROWS)
    assert again.metadata == states.metadata
    for name, tensor in again.tensors.items():
        assert tensor.equal(states.tensors[name]), name
    for rows in ([0], [1, 2], [3, 4, 5]):
        assert scored(one, rows) == scored(other, rows)


@settings(max_examples=60, deadline=None)
@given(Acts)
def test_asking_changes_nothing_and_is_repeatable(acts):
    neighbours = source()
    asking = play(neighbours, Reference(), acts)
    before = neighbours.state(N_ROWS)
    first = [scored(neighbours, *query) for query in asking]
    assert [scored(neighbours, *query) for query in reversed(asking)] == first[::-1]
    for name, tensor in neighbours.state(N_ROWS).tensors.items():
        assert tensor.equal(before.tensors[name])


def test_what_stood_near_the_shared_item_counts_more_in_stan():
    neighbours = source()
    sit(neighbours, 0, 1, 2, 3)
    scores = scored(neighbours, [0])
    assert [scores[row][0] for row in (1, 2, 3)] == [1.0] * 3
    assert scores[1][1] > scores[2][1] > scores[3][1] > 0


def test_the_later_of_equally_near_sittings_wins():
    neighbours = source(n_nearest=1)
    sit(neighbours, 0, 1)
    sit(neighbours, 0, 2)
    assert 2 in scored(neighbours, [0])
    assert 1 not in scored(neighbours, [0])


def test_the_own_sitting_is_left_out():
    neighbours = source()
    key = sit(neighbours, 0, 1, 2)
    assert scored(neighbours, [0], key) == {}
    assert scored(neighbours, [0]) != {}


def test_a_repeat_of_the_last_item_is_one_visit_and_the_sitting_goes_on():
    neighbours = source()
    key = sit(neighbours, 0, 1, 1, 1, 2)
    assert neighbours.state(3).tensors["items"][0, :4].tolist() == [0, 1, 2, -1]
    assert scored(neighbours, [0], key) == {}


def test_a_sitting_keeps_its_latest_items():
    neighbours = source(per_item=100)
    sit(neighbours, *range(30))
    assert scored(neighbours, [9]) == {}
    assert set(scored(neighbours, [10])) == set(range(10, 30))


def test_an_item_that_returns_to_a_sitting_is_found_once():
    neighbours = source(per_item=100)
    sit(neighbours, 0, 1, 0, 2)
    assert scored(neighbours, [0])[2][0] == 1.0
    assert neighbours._sittings.store.spread[:3].tolist() == [1, 1, 1]


def test_rare_items_gain_where_rarity_counts():
    plain, rare = source(), source(idf=1.0)
    for neighbours in (plain, rare):
        for items in ((0, 1), (1, 2), (1, 3), (0, 4, 1)):
            sit(neighbours, *items)
    gains = {row: scored(rare, [0])[row][0] / scored(plain, [0])[row][0] for row in (1, 4)}
    # 1 stands in every sitting.
    assert gains[1] == pytest.approx(1.0)
    assert gains[4] == pytest.approx(1 + np.log(5 / 2))


def test_a_former_tenant_is_forgotten_where_it_stood_twice():
    neighbours = source()
    sit(neighbours, 0, 1, 0, 2)
    neighbours.forget(np.array([0]))
    assert scored(neighbours, [0]) == {}
    assert set(scored(neighbours, [2])) == {1, 2}
    sit(neighbours, 0, 3)
    assert set(scored(neighbours, [0])) == {0, 3}


def test_what_is_not_known_or_weighs_nothing_is_not_folded():
    neighbours = source()
    events = happened([([0], 0, -1, 0), ([0], 0, 1, 5)])
    neighbours.fold(Occurrences(events.queries, events.items, events.visits, np.zeros(2, np.float32)))
    assert scored(neighbours, [0]) == {}
    neighbours.fold(events)
    assert set(scored(neighbours, [0])) == {0, 1}


def test_keys_of_contexts_follow_a_sitting():
    neighbours = source()
    rows = {"a": 0, "b": 1, "c": 2}
    visits = (("a", "view", 10), ("b", "view", 20))
    for length, (item, _, time) in enumerate([*visits, ("c", "view", 30)]):
        context = Context(visits[:length], 0, time)
        after = visit_keys(np.array([rows[item]]), np.array([time]))
        asking = queries([context], lambda item: rows.get(item, -1))
        neighbours.fold(Occurrences(asking, np.array([rows[item]], np.int32), after, np.ones(1, np.float32)))
    assert neighbours.state(3).metadata["started"] == 1


def test_memory_is_bounded_and_rows_may_grow():
    neighbours = source()
    for item in range(0, 4_000, 2):
        sit(neighbours, item, item + 1)
    state = neighbours.state(4_002)
    assert len(state.tensors["items"]) == SLOTS
    assert set(scored(neighbours, [3_998])) == {3_998, 3_999}
    assert scored(neighbours, [0]) == {}


def test_a_state_of_another_size_or_with_a_part_missing_is_refused():
    state = source().state(4)
    with pytest.raises(ValueError, match="keeps 6 sittings, this one 7"):
        source(7).load_state(state)
    for name in list(state.tensors):
        broken = source().state(4)
        del broken.tensors[name]
        with pytest.raises(ValueError, match=f"lacks '{name}'"):
            source().load_state(broken)
