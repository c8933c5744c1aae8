"""What came after what: transitions and sequential rules, counted as they happen, in slots of a fixed number a row."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numba import njit

from online_model.candidates.queries import Floats, Ints, Occurrences, Offsets, Queries
from online_model.candidates.scratch import Marks, Scratch
from online_model.candidates.sparse import SparseScores
from online_model.config import MAX_RANKED_ITEMS
from online_model.protocol import State
from online_model.vocabulary import Rows

REACH = 10
"""How many items back a rule reaches."""
_FADE = 0.75
# A slot names its follower by row and by the low bits of how many tenants that row has had: when a row changes hands,
# all mentions of the former tenant go stale at once, without a search. Only after 128 changes could one come back.
_ROW_BITS = MAX_RANKED_ITEMS.bit_length() - 1
_ROW_MASK = (1 << _ROW_BITS) - 1
_GENERATIONS = 128


class PairCounts:
    """For each item, the items that came after it: how often directly, and how often within a few steps.

    A row has a fixed number of slots; once they are full, a newcomer takes that of the follower with the least weight.
    Each time that anything follows an item, what it knows so far counts for a little less: a half-life by touch, so
    that items that are followed often forget fast and rare ones keep what little they have.

    Signals: `next` and `rules` from the item the user is on, `all_rules` from the whole sitting (each step back counts
    for a quarter less). Rules weigh 1 / distance.

    Source: Ludewig and Jannach 2018, arXiv:1803.09587, sections 3.1.2 and 3.1.3.
    """

    name = "transitions"
    signals = ("next", "rules", "all_rules")

    def __init__(self, n_slots: int = 64, half_life: float = 0.0) -> None:
        """Start with no counts.

        Args:
            n_slots: Followers kept for one item.
            half_life: Touches of an item after which what it knew before counts half; 0 for never.
        """
        self._n_slots = n_slots
        self._keep = np.float32(0.5 ** (1.0 / half_life)) if half_life else np.float32(1.0)
        self._scratch = Scratch()
        self._allocate(1024)

    def score(self, queries: Queries) -> SparseScores:
        """Return what came after the items of each query; see `CandidateSource`."""
        self.reserve(int(queries.rows.max(initial=-1)) + 1)
        marks = self._scratch.of(len(self._ids))
        return SparseScores(*_score(queries.starts, queries.rows, self._ids, self._weights, self._generations, marks))

    def totals(self, rows: Ints) -> Floats:
        """Return how much has been counted after each row, float32 [n, 2]: directly, by rules; 0 for row -1."""
        self.reserve(int(rows.max(initial=-1)) + 1)
        totals: Floats = np.where(rows[:, None] >= 0, self._totals[rows], np.float32(0.0))
        return totals

    def backwards(self, candidates: Ints, currents: Ints) -> Floats:
        """Return how often each query's current item came directly after each candidate.

        Args:
            candidates: Rows, -1 for none, int32 [n_queries, n_candidates].
            currents: Rows, -1 for none, int32 [n_queries].

        Returns:
            float32 [n_queries, n_candidates].
        """
        self.reserve(int(candidates.max(initial=-1)) + 1)
        return _backwards(candidates, currents, self._ids, self._weights, self._generations)

    def fold(self, occurrences: Occurrences) -> None:
        """Count what came after what; see `CandidateSource`."""
        queries = occurrences.queries
        self.reserve(max(int(queries.rows.max(initial=-1)), int(occurrences.items.max(initial=-1))) + 1)
        _fold(
            queries.starts,
            queries.rows,
            occurrences.items,
            occurrences.weights,
            self._ids,
            self._weights,
            self._totals,
            self._generations,
            self._keep,
        )

    def forget(self, rows: Rows) -> None:
        """Drop all counts of and about rows; see `CandidateSource`."""
        if len(rows) == 0:
            return
        self.reserve(int(rows.max()) + 1)
        self._ids[rows], self._weights[rows], self._totals[rows] = -1, 0.0, 0.0
        self._generations[rows] = (self._generations[rows] + 1) % _GENERATIONS

    def reserve(self, n_rows: int) -> None:
        """Make room for rows of a vocabulary that grew."""
        if n_rows <= len(self._ids):
            return
        arrays = self._arrays()
        self._allocate(max(n_rows, 2 * len(self._ids)))
        self._fill(arrays)

    def state(self, n_rows: int) -> State:
        """Return a copy of all counts; see `CandidateSource`."""
        self.reserve(n_rows)
        return State({name: torch.from_numpy(array[:n_rows].copy()) for name, array in self._arrays().items()})

    def load_state(self, state: State) -> None:
        """Become the counts that `state` was taken from; see `CandidateSource`."""
        arrays = {name: state.tensors[name].numpy() for name in self._arrays()}
        n_rows, n_slots = arrays["ids"].shape
        if n_slots != self._n_slots:
            raise ValueError(f"the saved counts have {n_slots} slots an item, the settings say {self._n_slots}")
        self._allocate(max(1024, n_rows))
        self._fill(arrays)

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {
            "ids": self._ids,
            "weights": self._weights,
            "totals": self._totals,
            "generations": self._generations,
        }

    def _fill(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        for name, array in self._arrays().items():
            array[: len(arrays[name])] = arrays[name]

    def _allocate(self, n_rows: int) -> None:
        self._ids = np.full((n_rows, self._n_slots), -1, np.int32)
        # Last axis: directly after, within reach.
        self._weights = np.zeros((n_rows, self._n_slots, 2), np.float32)
        self._totals = np.zeros((n_rows, 2), np.float32)
        self._generations = np.zeros(n_rows, np.int32)


@njit(cache=True, nogil=True)
def _fold(
    starts: Offsets,
    before: Ints,
    items: Ints,
    importance: Floats,
    ids: Ints,
    weights: Floats,
    totals: Floats,
    generations: Ints,
    keep: np.float32,
) -> None:
    n_slots = ids.shape[1]
    for event in range(len(items)):
        item = items[event]
        if item < 0 or importance[event] <= 0.0:
            continue
        name = item | (generations[item] << _ROW_BITS)
        first, end = starts[event], starts[event + 1]
        for distance in range(1, min(REACH, end - first) + 1):
            row = before[end - distance]
            if row == item:
                continue
            near = importance[event] if distance == 1 else np.float32(0.0)
            far = importance[event] / np.float32(distance)
            slot, least = -1, 0
            for place in range(n_slots):
                if keep < 1.0:
                    weights[row, place, 0] *= keep
                    weights[row, place, 1] *= keep
                if ids[row, place] == name:
                    slot = place
                if weights[row, place, 1] < weights[row, least, 1]:
                    least = place
            if slot < 0:
                slot = least
                ids[row, slot] = name
                weights[row, slot, 0] = 0.0
                weights[row, slot, 1] = 0.0
            weights[row, slot, 0] += near
            weights[row, slot, 1] += far
            totals[row, 0] = totals[row, 0] * keep + near
            totals[row, 1] = totals[row, 1] * keep + far


@njit(cache=True, nogil=True)
def _score(
    starts: Offsets, rows: Ints, ids: Ints, weights: Floats, generations: Ints, marks: Marks
) -> tuple[Offsets, Ints, npt.NDArray[np.float32]]:
    n_queries, n_slots = len(starts) - 1, ids.shape[1]
    room = 0
    for query in range(n_queries):
        room += min(REACH, starts[query + 1] - starts[query]) * n_slots
    found = np.empty(room, np.int32)
    values = np.zeros((room, 3), np.float32)
    ends = np.zeros(n_queries + 1, np.int64)
    size = 0
    for query in range(n_queries):
        first, end = starts[query], starts[query + 1]
        fade = np.float32(1.0)
        for distance in range(1, min(REACH, end - first) + 1):
            row = rows[end - distance]
            for slot in range(n_slots):
                name = ids[row, slot]
                follower = name & _ROW_MASK
                if name < 0 or (name >> _ROW_BITS) != generations[follower]:
                    continue
                if marks[follower] == 0:
                    found[size] = follower
                    size += 1
                    marks[follower] = size
                at = marks[follower] - 1
                if distance == 1:
                    values[at, 0] = weights[row, slot, 0]
                    values[at, 1] = weights[row, slot, 1]
                values[at, 2] += fade * weights[row, slot, 1]
            fade *= np.float32(_FADE)
        for at in range(ends[query], size):
            marks[found[at]] = 0
        ends[query + 1] = size
    return ends, found[:size].copy(), values[:size].copy()


@njit(cache=True, nogil=True)
def _backwards(
    candidates: Ints, currents: Ints, ids: Ints, weights: Floats, generations: Ints
) -> npt.NDArray[np.float32]:
    n_queries, n_candidates = candidates.shape
    counts = np.zeros((n_queries, n_candidates), np.float32)
    for query in range(n_queries):
        current = currents[query]
        if current < 0:
            continue
        name = current | (generations[current] << _ROW_BITS)
        for column in range(n_candidates):
            row = candidates[query, column]
            if row < 0:
                continue
            for slot in range(ids.shape[1]):
                if ids[row, slot] == name:
                    counts[query, column] = weights[row, slot, 0]
                    break
    return counts
