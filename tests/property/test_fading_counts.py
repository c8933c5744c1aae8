"""What is popular now, found among few rows, against a sort of all of them."""

from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from online_model.counts import FadingCounts

N_ROWS = 40
Acts = st.lists(
    st.one_of(
        st.lists(st.integers(0, N_ROWS - 1), min_size=1, max_size=12),
        st.tuples(st.just("clear"), st.lists(st.integers(0, N_ROWS - 1), min_size=1, max_size=8, unique=True)),
        st.tuples(st.just("copy"), st.lists(st.integers(0, N_ROWS - 1), max_size=8, unique=True)),
        st.integers(1, 6),
    ),
    max_size=30,
)


@pytest.fixture(scope="module", autouse=True)
def _small_boards():
    """Boards that rows enter and leave all the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("online_model.counts._BOARD", 4)
        patch.setattr("online_model.counts._MOST_ON_BOARD", 8)
        yield


@settings(max_examples=200, deadline=None)
@given(Acts, st.integers(1, N_ROWS), st.booleans())
def test_the_best_are_those_of_a_full_sort(acts, n_rows, often):
    """Red where `_enter` is not called from `write`, or the floor is not raised when a board is cut.

    Asked the same after each act, red where `sight` or `clear` leaves the latest answer in place.
    """
    counts, other = FadingCounts(3.0), FadingCounts(3.0)
    for act in [*chain.from_iterable((each, 3) if often else (each,) for each in acts), 3]:
        if isinstance(act, list):
            for one in (counts, other):
                one.sight(np.array(act))
        elif isinstance(act, tuple) and act[0] == "clear":
            for one in (counts, other):
                one.clear(np.array(act[1]))
        elif isinstance(act, tuple):
            # A serving copy is told the weights of some rows; here the same that it has.
            rows = np.array(act[1], np.int64)
            counts.write(rows, other.weights(N_ROWS)[rows], other.facts())
        else:
            weights = counts.weights(n_rows)
            expected = sorted((row for row in range(n_rows) if weights[row] > 0), key=lambda row: (-weights[row], row))
            assert counts.top(n_rows, act).tolist() == expected[:act]


def test_who_was_asked_before_answers_what_it_is_told_since():
    """Red where `write` leaves the latest answer in place."""
    counts, other = FadingCounts(3.0), FadingCounts(3.0)
    for one in (counts, other):
        one.sight(np.array([1, 2]))
    assert counts.top(4, 1).tolist() == [2]
    other.sight(np.array([3]))
    counts.write(np.array([3]), other.weights(4)[[3]], other.facts())
    assert counts.top(4, 1).tolist() == [3]
