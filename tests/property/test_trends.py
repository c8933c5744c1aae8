"""What is popular, how old it is and when it was last seen, against a list of all sightings."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from online_model.candidates.queries import Occurrences, queries
from online_model.candidates.trends import HALF_LIVES, Trends

N_ROWS = 7
SPEEDS = (2.0, 20.0, 200.0)


def sightings(rows: list[int]) -> Occurrences:
    """Occurrences of items; trends do not ask after what they came."""
    items = np.array(rows, np.int32)
    return Occurrences(queries([], int), items, items.astype(np.uint64), np.ones(len(rows), np.float32))


@dataclass
class Reference:
    """Every sighting that is not forgotten."""

    half_lives: tuple[float, ...] = SPEEDS
    clock: int = 0
    seen: dict[int, list[int]] = field(default_factory=dict)

    def fold(self, rows: list[int]) -> None:
        for row in rows:
            if row >= 0:
                self.seen.setdefault(row, []).append(self.clock)
                self.clock += 1

    def popularity(self, row: int) -> list[float]:
        return [
            sum(0.5 ** ((self.clock - event) / half_life) for event in self.seen.get(row, []))
            for half_life in self.half_lives
        ]

    def known(self, row: int) -> list[float]:
        events = self.seen.get(row)
        ages = [0, 0] if events is None else [self.clock - events[0], self.clock - events[-1]]
        return [*self.popularity(row), *ages]

    def top(self, speed: int, n: int) -> list[int]:
        return sorted(self.seen, key=lambda row: (-self.popularity(row)[speed], row))[:n]


Acts = st.lists(
    st.one_of(
        st.lists(st.integers(-1, N_ROWS - 1), max_size=30),
        # A row that gets a new tenant.
        st.integers(0, N_ROWS - 1),
    ),
    max_size=12,
)


def play(trends: Trends, reference: Reference, acts: list) -> None:
    for act in acts:
        if isinstance(act, list):
            trends.fold(sightings(act))
            reference.fold(act)
        else:
            trends.forget(np.array([act]))
            reference.seen.pop(act, None)


@settings(max_examples=100, deadline=None)
@given(Acts, st.integers(1, N_ROWS + 2), st.integers(-1, N_ROWS - 1))
def test_what_is_known_is_that_of_the_reference(acts, n, candidate):
    trends, reference = Trends(SPEEDS), Reference()
    play(trends, reference, acts)
    assert trends.clock == reference.clock
    every = np.arange(N_ROWS, dtype=np.int32)
    for row, known in enumerate(trends.look_up(every).tolist()):
        assert known == pytest.approx(reference.known(row), rel=1e-4)
    assert trends.look_up(np.array([[candidate, 0]], np.int32)).shape == (1, 2, len(SPEEDS) + 2)
    assert trends.seen(every).tolist() == [row in reference.seen for row in range(N_ROWS)]
    assert [top.tolist() for top in trends.tops(N_ROWS, n)] == [reference.top(speed, n) for speed in range(3)]


@settings(max_examples=50, deadline=None)
@given(Acts, Acts)
def test_save_load_continue_equals_never_stopping(first, second):
    one, other = Trends(SPEEDS), Trends(SPEEDS)
    play(one, Reference(), first)
    saved = one.state(N_ROWS)
    before = {name: tensor.clone() for name, tensor in saved.tensors.items()}
    other.load_state(saved)
    for trends in (one, other):
        play(trends, Reference(), second)
    for name, tensor in saved.tensors.items():
        assert tensor.equal(before[name]), "a saved state is a copy"
    ours, theirs = one.state(N_ROWS), other.state(N_ROWS)
    assert ours.metadata == theirs.metadata
    for name, tensor in ours.tensors.items():
        assert tensor.equal(theirs.tensors[name])


def test_half_lives_are_500_5_000_and_50_000_sightings():
    """So many of another item that the counts are scaled back several times."""
    trends = Trends()
    trends.fold(sightings([1]))
    for _ in range(50):
        trends.fold(sightings([0] * 10_000))
    assert HALF_LIVES == (500.0, 5_000.0, 50_000.0)
    (known,) = trends.look_up(np.array([1], np.int32)).tolist()
    assert known[0] == pytest.approx(0.0, abs=1e-30)
    assert known[2] == pytest.approx(2**-10, rel=1e-3)
    assert known[3:] == [500_001, 500_001]
    (often,) = trends.look_up(np.array([0], np.int32)).tolist()
    # An endless stream of one item weighs as many sightings as its half-life / ln 2.
    assert often[:2] == pytest.approx([500 / np.log(2), 5_000 / np.log(2)], rel=1e-3)
    trends.fold(sightings([2]))
    (fresh,) = trends.look_up(np.array([2], np.int32)).tolist()
    assert fresh[:3] == pytest.approx([1.0] * 3, rel=2e-3)
    assert fresh[3:] == [1, 1]
    assert [top.tolist() for top in trends.tops(3, 3)[1:]] == [[0, 2, 1], [0, 2, 1]]


def test_room_grows_with_the_vocabulary():
    trends = Trends()
    trends.fold(sightings([3, 5_000]))
    assert trends.seen(np.array([3, 4_999, 5_000, 80_000], np.int32)).tolist() == [True, False, True, False]
    assert trends.tops(5_001, 5)[0].tolist() == [5_000, 3]
    assert trends.look_up(np.array([3, 5_000], np.int32))[:, 3].tolist() == [2.0, 1.0]
    trends.forget(np.array([100_000]))


def test_trends_at_other_speeds_are_refused():
    with pytest.raises(ValueError, match="do not have 2 speeds"):
        Trends((2.0, 3.0)).load_state(Trends().state(3))
