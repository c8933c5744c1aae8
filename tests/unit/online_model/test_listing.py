"""Lists out of scores, against a full sort."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from online_model.listing import best, leave_out


@settings(deadline=None)
@given(st.integers(1, 4), st.integers(1, 30), st.sampled_from([2, 5, 10**6]), st.floats(0, 1), st.integers(0, 2**31))
def test_the_best_are_those_of_a_full_sort_whatever_is_tied_or_left_out(n_lines, n, levels, masked, seed):
    drawn = np.random.default_rng(seed)
    scores = drawn.integers(0, levels, (n_lines, n)).astype(np.float32)
    scores[drawn.random(scores.shape) < masked] = -np.inf
    k = int(drawn.integers(1, n + 1))
    columns, sizes = best(scores, k)
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    assert sizes.tolist() == np.isfinite(np.take_along_axis(scores, expected, 1)).sum(1).tolist()
    for line, size in enumerate(sizes.tolist()):
        assert columns[line, :size].tolist() == expected[line, :size].tolist()


def test_what_is_left_out_is_left_out_of_its_own_line_alone():
    rows = np.array([[3, 1, 2], [3, 1, -1], [1, 2, 3]], np.int32)
    scores = np.zeros((3, 3), np.float32)
    leave_out(scores, rows, [[1, 3, 9], [], [2]])
    assert np.isinf(scores).tolist() == [[True, True, False], [False] * 3, [False, True, False]]


def test_nothing_left_out_changes_nothing():
    scores = np.ones((1, 2), np.float32)
    leave_out(scores, np.array([[0, 1]], np.int32), [[]])
    assert scores.tolist() == [[1.0, 1.0]]
