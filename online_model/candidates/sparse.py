"""Scores of a few rows for each of several queries, the best of them, and look-ups in them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from online_model.candidates.queries import Floats, Ints, Offsets
from online_model.candidates.scratch import Marks


@dataclass(frozen=True, slots=True)
class SparseScores:
    """What a source knows about some rows for each query; it knows nothing of all others.

    Attributes:
        starts: Where each query's part begins, and the end of the last, int64 [n + 1].
        rows: No row twice within one query, int32 [n_known].
        values: One column for each signal, 0 where nothing is known, float32 [n_known, n_signals].
    """

    starts: Offsets
    rows: Ints
    values: Floats

    def best(self, column: int, n: int) -> Ints:
        """Return the rows with the highest positive values of a column, best first, int32 [n_queries, n].

        Of equal values the one that stands first wins; -1 where there are no more.
        """
        return _best(self.starts, self.rows, self.values, column, n)

    def look_up(self, candidates: Ints, marks: Marks) -> Floats:
        """Return the values of candidates, 0 for those that the source does not know.

        Args:
            candidates: Rows, -1 for none, int32 [n_queries, n_candidates].
            marks: Zeros, one for each row that exists; zeros again afterwards.

        Returns:
            float32 [n_queries, n_candidates, n_signals].
        """
        return _look_up(self.starts, self.rows, self.values, candidates, marks)


@njit(cache=True, nogil=True)
def _best(starts: Offsets, rows: Ints, values: Floats, column: int, n: int) -> Ints:
    n_queries = len(starts) - 1
    found = np.full((n_queries, n), -1, np.int32)
    tops = np.zeros(n, np.float32)
    for query in range(n_queries):
        size = 0
        for at in range(starts[query], starts[query + 1]):
            value = values[at, column]
            if value <= 0.0 or (size == n and value <= tops[n - 1]):
                continue
            place = size if size < n else n - 1
            while place > 0 and tops[place - 1] < value:
                tops[place] = tops[place - 1]
                found[query, place] = found[query, place - 1]
                place -= 1
            tops[place] = value
            found[query, place] = rows[at]
            size = min(n, size + 1)
    return found


@njit(cache=True, nogil=True)
def _look_up(starts: Offsets, rows: Ints, values: Floats, candidates: Ints, marks: Marks) -> npt.NDArray[np.float32]:
    n_queries, n_candidates = candidates.shape
    n_signals = values.shape[1]
    found = np.zeros((n_queries, n_candidates, n_signals), np.float32)
    for query in range(n_queries):
        for at in range(starts[query], starts[query + 1]):
            marks[rows[at]] = at + 1
        for column in range(n_candidates):
            row = candidates[query, column]
            if row >= 0 and marks[row] > 0:
                for signal in range(n_signals):
                    found[query, column, signal] = values[marks[row] - 1, signal]
        for at in range(starts[query], starts[query + 1]):
            marks[rows[at]] = 0
    return found
