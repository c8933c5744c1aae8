"""From several sources' proposals to one pool of candidates for each query, and where in the history each stands."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from online_model.candidates.queries import Ints, Offsets, Queries
from online_model.candidates.scratch import Marks

Places = npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Pool:
    """Candidates, no row twice within one query.

    Attributes:
        rows: Those of the first proposal in its order, then new ones of the next; -1 beyond the last,
            int32 [n_queries, n_candidates].
        sources: Number of the proposal in which each stood highest, the earlier of two equals; -1 beyond the last.
    """

    rows: Ints
    sources: Places


def pool(proposals: Sequence[Ints], marks: Marks, limit: int) -> Pool:
    """Merge proposals.

    Args:
        proposals: Rows of each source, best first, -1 for none, int32 [n_queries, any] each.
        marks: Zeros, one for each row that exists; zeros again afterwards.
        limit: Candidates of one query at most; later proposals are cut.
    """
    ranks = np.concatenate([np.arange(proposal.shape[1]) for proposal in proposals]).astype(np.int32)
    numbers = np.repeat(np.arange(len(proposals)), [proposal.shape[1] for proposal in proposals]).astype(np.int8)
    rows, sources, widest = _merge(np.concatenate(proposals, axis=1), numbers, ranks, marks, limit)
    return Pool(np.ascontiguousarray(rows[:, :widest]), np.ascontiguousarray(sources[:, :widest]))


def history_places(queries: Queries, candidates: Ints) -> Ints:
    """Return how many visits ago each candidate was last visited, 1 for the latest; 0 for not at all; and how often.

    Args:
        queries: Whose histories.
        candidates: Rows, -1 for none, int32 [n_queries, n_candidates].

    Returns:
        Place in the current sitting, place in earlier ones, and visits in all, int32 [n_queries, n_candidates, 3].
    """
    return _history_places(queries.starts, queries.rows, queries.older_starts, queries.older, candidates)


def latest(queries: Queries, n: int) -> Ints:
    """Return the last items of each query's sitting, then those of earlier ones; -1 beyond them.

    Args:
        queries: Whose histories.
        n: How many of each part.

    Returns:
        Rows, the latest first in both parts, int32 [n_queries, 2 * n].
    """
    return _latest(queries.starts, queries.rows, queries.older_starts, queries.older, n)


# These are short: letting go of the interpreter's lock, and waiting for it again, would take longer than they do.
@njit(cache=True)
def _latest(starts: Offsets, rows: Ints, older_starts: Offsets, older: Ints, n: int) -> npt.NDArray[np.int32]:
    n_queries = len(starts) - 1
    found = np.full((n_queries, 2 * n), -1, np.int32)
    for query in range(n_queries):
        for back in range(min(n, starts[query + 1] - starts[query])):
            found[query, back] = rows[starts[query + 1] - 1 - back]
        for back in range(min(n, older_starts[query + 1] - older_starts[query])):
            found[query, n + back] = older[older_starts[query + 1] - 1 - back]
    return found


@njit(cache=True)
def _merge(proposed: Ints, numbers: Places, ranks: Ints, marks: Marks, limit: int) -> tuple[Ints, Places, int]:
    n_queries, n_proposed = proposed.shape
    rows = np.full((n_queries, limit), -1, np.int32)
    sources = np.full((n_queries, limit), -1, np.int8)
    best = np.zeros(limit, np.int32)
    widest = 1
    for query in range(n_queries):
        size = 0
        for column in range(n_proposed):
            row = proposed[query, column]
            if row < 0:
                continue
            if marks[row] > 0:
                place = marks[row] - 1
                if ranks[column] < best[place]:
                    best[place] = ranks[column]
                    sources[query, place] = numbers[column]
            elif size < limit:
                marks[row] = size + 1
                rows[query, size], sources[query, size], best[size] = row, numbers[column], ranks[column]
                size += 1
        for place in range(size):
            marks[rows[query, place]] = 0
        widest = max(widest, size)
    return rows, sources, widest


@njit(cache=True)
def _history_places(
    starts: Offsets, rows: Ints, older_starts: Offsets, older: Ints, candidates: Ints
) -> npt.NDArray[np.int32]:
    n_queries, n_candidates = candidates.shape
    places = np.zeros((n_queries, n_candidates, 3), np.int32)
    for query in range(n_queries):
        for column in range(n_candidates):
            row = candidates[query, column]
            if row < 0:
                continue
            # Oldest first, so that the latest visit is written last.
            for at in range(starts[query], starts[query + 1]):
                if rows[at] == row:
                    places[query, column, 0] = starts[query + 1] - at
                    places[query, column, 2] += 1
            for at in range(older_starts[query], older_starts[query + 1]):
                if older[at] == row:
                    places[query, column, 1] = older_starts[query + 1] - at
                    places[query, column, 2] += 1
    return places
