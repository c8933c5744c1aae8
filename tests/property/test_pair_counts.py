"""Counts of what came after what, against plain dictionaries, on streams that hypothesis makes up."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from online_model.candidates.pairs import REACH, PairCounts
from online_model.candidates.queries import Occurrences, Queries, queries
from online_model.protocol import Context

N_ROWS = 6

Known = dict[int, list[float]]


def asked(*sittings: list[int]) -> Queries:
    """Queries whose sittings hold these rows."""
    return queries([Context(tuple((str(row), "view", 0) for row in rows)) for rows in sittings], int)


def happened(*events: tuple[list[int], int, float]) -> Occurrences:
    """Occurrences with rows before, row that came, weight."""
    items = np.array([item for _, item, _ in events], np.int32)
    return Occurrences(
        asked(*(before for before, _, _ in events)),
        items,
        items.astype(np.uint64),
        np.array([weight for _, _, weight in events], np.float32),
    )


def known(pairs: PairCounts, rows: list[int]) -> Known:
    """What is known for one query, by row."""
    found = pairs.score(asked(rows))
    assert len(set(found.rows.tolist())) == len(found.rows)
    return dict(zip(found.rows.tolist(), found.values.tolist(), strict=True))


def counted(row: int, pairs: PairCounts) -> list[float]:
    (line,) = pairs.totals(np.array([row], np.int32)).tolist()
    return line


@dataclass
class Reference:
    """The same definition over dictionaries, without slots: nothing is ever displaced."""

    keep: float = 1.0
    after: dict[int, Known] = field(default_factory=dict)
    totals: Known = field(default_factory=dict)

    def fold(self, before: list[int], item: int, weight: float) -> None:
        if weight == 0 or item < 0:
            return
        for distance, row in enumerate(reversed(before[-REACH:]), 1):
            if row == item:
                continue
            gain = [weight if distance == 1 else 0.0, weight / distance]
            followers = self.after.setdefault(row, {})
            for pair in (*followers.values(), self.totals.setdefault(row, [0.0, 0.0])):
                pair[:] = [value * self.keep for value in pair]
            for pair in (followers.setdefault(item, [0.0, 0.0]), self.totals[row]):
                pair[:] = [value + more for value, more in zip(pair, gain, strict=True)]

    def forget(self, gone: int) -> None:
        self.totals.pop(gone, None)
        self.after.pop(gone, None)
        for followers in self.after.values():
            followers.pop(gone, None)

    def score(self, rows: list[int]) -> Known:
        found: Known = {}
        for back, row in enumerate(reversed(rows[-REACH:])):
            for follower, (near, far) in self.after.get(row, {}).items():
                values = found.setdefault(follower, [0.0, 0.0, 0.0])
                if back == 0:
                    values[:2] = near, far
                values[2] += 0.75**back * far
        return found

    def backwards(self, candidate: int, current: int) -> float:
        return self.after.get(candidate, {}).get(current, [0.0])[0]


Sittings = st.lists(st.integers(0, N_ROWS - 1), max_size=13)
Acts = st.lists(
    st.one_of(
        st.tuples(Sittings, st.integers(-1, N_ROWS - 1), st.sampled_from([0.0, 0.5, 1.0, 2.0])),
        # A row that gets a new tenant.
        st.integers(0, N_ROWS - 1),
    ),
    max_size=25,
)


def play(pairs: PairCounts, reference: Reference, acts: list) -> None:
    pending: list[tuple[list[int], int, float]] = []
    for act in [*acts, None]:
        if isinstance(act, tuple):
            reference.fold(*act)
            pending.append(act)
        if not isinstance(act, tuple) or len(pending) == 3:
            pairs.fold(happened(*pending))
            pending = []
        if isinstance(act, int):
            pairs.forget(np.array([act]))
            reference.forget(act)


@settings(max_examples=80, deadline=None)
@given(Acts, st.lists(Sittings, min_size=1, max_size=3), st.sampled_from([0.0, 3.0]))
def test_counts_are_those_of_the_reference(acts, sittings, half_life):
    # One for each row and each of its tenants: nothing is displaced.
    pairs = PairCounts(n_slots=40, half_life=half_life)
    reference = Reference(keep=0.5 ** (1 / half_life) if half_life else 1.0)
    play(pairs, reference, acts)
    found = pairs.score(asked(*sittings))
    for place, rows in enumerate(sittings):
        part = slice(found.starts[place], found.starts[place + 1])
        expected = reference.score(rows)
        assert sorted(found.rows[part].tolist()) == sorted(expected)
        for row, values in zip(found.rows[part].tolist(), found.values[part].tolist(), strict=True):
            assert values == pytest.approx(expected[row], rel=1e-4)
    every = np.arange(-1, N_ROWS, dtype=np.int32)
    totals = pairs.totals(every)
    assert totals[0].tolist() == [0.0, 0.0]
    for row in range(N_ROWS):
        assert totals[row + 1].tolist() == pytest.approx(reference.totals.get(row, [0.0, 0.0]), rel=1e-4)
    backwards = pairs.backwards(np.tile(every, (N_ROWS + 1, 1)), every)
    for current in range(N_ROWS):
        expected_line = [0.0, *(reference.backwards(row, current) for row in range(N_ROWS))]
        assert backwards[current + 1].tolist() == pytest.approx(expected_line, rel=1e-4)
    assert not backwards[0].any()


@settings(max_examples=60, deadline=None)
@given(Acts, Acts)
def test_save_load_continue_equals_never_stopping(first, second):
    one, other = PairCounts(3, 5.0), PairCounts(3, 5.0)
    play(one, Reference(), first)
    saved = one.state(N_ROWS)
    before = {name: tensor.clone() for name, tensor in saved.tensors.items()}
    other.load_state(saved)
    for pairs in (one, other):
        play(pairs, Reference(), second)
    states = other.state(N_ROWS).tensors
    for name, tensor in one.state(N_ROWS).tensors.items():
        assert tensor.equal(states[name]), name
        assert saved.tensors[name].equal(before[name]), "a saved state is a copy"
    for row in range(N_ROWS):
        assert known(one, [row]) == known(other, [row])


@settings(max_examples=60, deadline=None)
@given(Acts, Sittings)
def test_asking_changes_nothing_and_leaves_the_scratch_wiped(acts, rows):
    pairs = PairCounts(3)
    play(pairs, Reference(), acts)
    before = pairs.state(N_ROWS)
    first = known(pairs, rows)
    assert not pairs._scratch.of(N_ROWS).any()
    assert known(pairs, rows) == first
    for name, tensor in pairs.state(N_ROWS).tensors.items():
        assert tensor.equal(before.tensors[name])


def test_the_follower_with_the_least_weight_makes_room():
    pairs = PairCounts(n_slots=3)
    for follower, times in ((1, 3), (2, 1), (3, 2)):
        pairs.fold(happened(*[([0], follower, 1.0)] * times))
    pairs.fold(happened(([0], 4, 1.0)))
    assert {row: values[0] for row, values in known(pairs, [0]).items()} == {1: 3.0, 3: 2.0, 4: 1.0}
    assert counted(0, pairs) == [7.0, 7.0]
    # Who comes back starts anew, in the place of the one that is least now.
    pairs.fold(happened(([0], 2, 0.5)))
    assert {row: values[0] for row, values in known(pairs, [0]).items()} == {1: 3.0, 2: 0.5, 3: 2.0}


def test_a_weight_within_reach_keeps_a_slot_better_than_a_direct_one_that_is_smaller():
    pairs = PairCounts(n_slots=2)
    # Two steps away, but often: 4 / 2; directly, but once.
    pairs.fold(happened(*[([0, 9], 1, 1.0)] * 4, ([0], 2, 1.0), ([0], 3, 1.0)))
    assert known(pairs, [0]) == {1: [0.0, 2.0, 2.0], 3: [1.0, 1.0, 1.0]}


def test_a_half_life_is_counted_in_touches_of_the_item():
    pairs = PairCounts(half_life=4.0)
    pairs.fold(happened(([0], 1, 1.0), ([7], 1, 1.0)))
    pairs.fold(happened(*[([0], 2, 1.0)] * 4))
    assert known(pairs, [0])[1] == pytest.approx([0.5] * 3, rel=1e-5)
    assert known(pairs, [7])[1] == [1.0] * 3
    assert counted(0, pairs)[0] == pytest.approx(sum(0.5 ** (n / 4) for n in range(5)), rel=1e-5)


def test_a_former_tenant_is_in_no_count_and_the_new_one_starts_from_nothing():
    pairs = PairCounts()
    pairs.fold(happened(([0], 1, 1.0), ([2], 1, 1.0), ([1], 0, 1.0)))
    pairs.forget(np.array([1]))
    assert known(pairs, [0]) == known(pairs, [1]) == known(pairs, [2]) == {}
    assert counted(1, pairs) == [0.0, 0.0]
    ones, zeros = np.ones((1, 1), np.int32), np.zeros((1, 1), np.int32)
    assert pairs.backwards(zeros, ones[0]) == pairs.backwards(ones, zeros[0]) == 0.0
    pairs.fold(happened(([0], 1, 0.25), ([1], 2, 1.0)))
    assert known(pairs, [0]) == {1: [0.25] * 3}
    assert known(pairs, [1]) == {2: [1.0] * 3}
    assert known(pairs, [2]) == {}
    assert pairs.backwards(zeros, ones[0]) == 0.25


@pytest.mark.parametrize("tenants", [1, 2, 100, 127])
def test_no_mention_comes_back_within_127_tenants(tenants):
    pairs = PairCounts()
    pairs.fold(happened(([0], 1, 1.0)))
    for _ in range(tenants):
        pairs.forget(np.array([1]))
    assert known(pairs, [0]) == {}


def test_room_grows_with_the_vocabulary():
    pairs = PairCounts(n_slots=2)
    pairs.fold(happened(([5], 6, 1.0)))
    assert known(pairs, [5_000]) == {}
    pairs.fold(happened(([9_000], 8_999, 1.0)))
    assert known(pairs, [9_000]) == {8_999: [1.0] * 3}
    assert known(pairs, [5]) == {6: [1.0] * 3}
    (tall,) = pairs.totals(np.array([20_000], np.int32)).tolist()
    assert tall == [0.0, 0.0]
    assert pairs.backwards(np.array([[30_000, 5]], np.int32), np.array([6], np.int32)).tolist() == [[0.0, 1.0]]
    pairs.forget(np.array([40_000]))
    assert len(pairs.state(50_000).tensors["ids"]) == 50_000


def test_counts_with_other_slots_are_refused():
    with pytest.raises(ValueError, match="have 4 slots an item, the settings say 3"):
        PairCounts(3).load_state(PairCounts(4).state(10))
