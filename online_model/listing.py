"""From scores of candidates to lists: compiled, since an answer that is asked for alone must be cheap too."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from numba import njit

from online_model.candidates.queries import Floats, Ints, Offsets


def leave_out(scores: Floats, rows: Ints, excluded: Sequence[Sequence[int]]) -> None:
    """Set the scores of candidates that may not be listed to -inf, in place.

    Args:
        scores: float32 [n_queries, n_candidates].
        rows: Of the candidates, int32 as `scores`.
        excluded: Rows that may not be listed, for each query.
    """
    starts = np.zeros(len(excluded) + 1, np.int64)
    np.cumsum([len(others) for others in excluded], out=starts[1:])
    if starts[-1]:
        _leave_out(scores, rows, starts, np.array([row for others in excluded for row in others], np.int32))


def best(scores: Floats, k: int) -> tuple[Ints, npt.NDArray[np.int64]]:
    """Return the columns of the best `k` scores of each line, best first, of equal ones the lower column first.

    Args:
        scores: -inf for what may not be listed, float32 [n_queries, n_candidates].
        k: How many, at most as many as there are candidates.

    Returns:
        Columns, int32 [n_queries, k], 0 beyond the last; how many there are, int64 [n_queries].
    """
    return _best(scores, k)


# These are short: letting go of the interpreter's lock, and waiting for it again, would take longer than they do.
@njit(cache=True)
def _leave_out(scores: Floats, rows: Ints, starts: Offsets, excluded: Ints) -> None:
    for query in range(len(scores)):
        for at in range(starts[query], starts[query + 1]):
            for column in range(scores.shape[1]):
                if rows[query, column] == excluded[at]:
                    scores[query, column] = -np.inf


@njit(cache=True)
def _best(scores: Floats, k: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    n_queries, n_candidates = scores.shape
    found = np.zeros((n_queries, k), np.int32)
    sizes = np.zeros(n_queries, np.int64)
    for query in range(n_queries):
        line, columns, size = scores[query], found[query], 0
        for column in range(n_candidates):
            score = line[column]
            if not np.isfinite(score) or (size == k and score <= line[columns[k - 1]]):
                continue
            place = size if size < k else k - 1
            while place > 0 and line[columns[place - 1]] < score:
                columns[place] = columns[place - 1]
                place -= 1
            columns[place] = column
            size = min(k, size + 1)
        sizes[query] = size
    return found, sizes
