"""Neighbours: what stands in the sittings that are most like the current one."""

import numpy as np
import numpy.typing as npt
from numba import njit

from online_model.candidates.queries import Floats, Ints, Keys, Occurrences, Offsets, Queries
from online_model.candidates.sittings import PLACES, Sittings, Store, find
from online_model.candidates.sparse import SparseScores
from online_model.protocol import State
from online_model.states import missing_parts_named
from online_model.vocabulary import Rows

_LAST = 10
_LEAST_NEARNESS = 0.05


class Neighbours:
    """The latest sittings, and the items of those that share most with the one at hand; see `CandidateSource`.

    A query's items count the more, the later they were visited. Sittings are compared by the sum of what they share;
    the nearest of them (the later of equals) give their similarity, times that of the latest shared item, to their
    items: in `vsknn` to all of them alike, in `stan` the less, the further they stand from the shared item. A sitting
    without any item that is not in the query has nothing to say. Answers come from one thread at a time.

    Source: Ludewig and Jannach 2018, arXiv:1803.09587, section 3.2; Garg et al. 2019, arXiv:1910.12782, section 3.
    """

    name = "neighbours"
    signals = ("vsknn", "stan")

    def __init__(
        self,
        n_sittings: int = 1 << 17,
        *,
        per_item: int = 100,
        n_nearest: int = 100,
        reach: float = 3.0,
        idf: float = 0.0,
    ) -> None:
        """Start with no sittings.

        Args:
            n_sittings: Latest sittings that are kept.
            per_item: Latest sittings of one item that are compared.
            n_nearest: Neighbours that have a say.
            reach: Places from the shared item over which an item's part in `stan` falls by e.
            idf: Weight of rarity: scores are multiplied by 1 + idf x log(sittings / sittings with the item).
        """
        self._per_item, self._n_nearest, self._idf = per_item, n_nearest, idf
        self._nearness = np.maximum(1.0 - 0.1 * np.arange(_LAST), _LEAST_NEARNESS).astype(np.float32)
        self._fading = np.exp(-np.arange(PLACES) / reach).astype(np.float32)
        self._sittings = Sittings(n_sittings)
        # What a search writes on: zeros, and zeros again when it is done.
        self._similarity = np.zeros(n_sittings, np.float32)
        self._shared = np.zeros(0, np.float32)
        self._owners = np.zeros(0, np.int64)

    def score(self, queries: Queries) -> SparseScores:
        """Return what stands in the neighbours of each query; see `CandidateSource`."""
        self._sittings.reserve(int(queries.rows.max(initial=-1)) + 1)
        store = self._sittings.store
        if len(self._shared) < len(store.newest):
            self._shared = np.zeros(len(store.newest), np.float32)
            self._owners = np.zeros(len(store.newest), np.int64)
        starts, rows, values = _score(
            store,
            queries.starts,
            queries.rows,
            queries.visits,
            self._nearness,
            self._fading,
            self._per_item,
            self._n_nearest,
            self._similarity,
            self._shared,
            self._owners,
        )
        if self._idf:
            n_sittings = 1 + min(int(store.started[0]), self._sittings.n_slots)
            values *= 1.0 + self._idf * np.log(n_sittings / (1.0 + store.spread[rows, None])).astype(np.float32)
        return SparseScores(starts, rows, values)

    def fold(self, occurrences: Occurrences) -> None:
        """Continue sittings; see `CandidateSource`."""
        self._sittings.fold(occurrences)

    def forget(self, rows: Rows) -> None:
        """Take rows out of all sittings; see `CandidateSource`."""
        self._sittings.forget(rows)

    def state(self, n_rows: int) -> State:
        """Return a copy of all sittings; see `CandidateSource`."""
        return self._sittings.state(n_rows)

    def load_state(self, state: State) -> None:
        """Become the neighbours that `state` was taken from; see `CandidateSource`."""
        with missing_parts_named():
            self._sittings.load_state(state)


@njit(cache=True, nogil=True)
def _score(
    store: Store,
    starts: Offsets,
    rows: Ints,
    visits: Keys,
    nearness: Floats,
    fading: Floats,
    per_item: int,
    n_nearest: int,
    similarity: Floats,
    shared: Floats,
    owners: npt.NDArray[np.int64],
) -> tuple[Offsets, Ints, Floats]:
    n_queries = len(visits)
    touched = np.empty(len(nearness) * per_item, np.int64)
    order = np.empty(len(touched), np.int64)
    found = np.empty(4096, np.int32)
    values = np.zeros((4096, 2), np.float32)
    ends = np.zeros(n_queries + 1, np.int64)
    size = 0
    for query in range(n_queries):
        first, end = starts[query], starts[query + 1]
        first = max(first, end - len(nearness))
        for at in range(end - 1, first - 1, -1):
            if shared[rows[at]] == 0.0:
                shared[rows[at]] = nearness[end - 1 - at]
        n_touched = _compare(store, rows, first, end, find(store, visits[query]), per_item, similarity, shared, touched)
        least = _least(touched[:n_touched], similarity, store.started[0], n_nearest, order)
        if size + n_nearest * PLACES > len(found):
            found, values = _grown(found, values, size + n_nearest * PLACES)
        begin = size
        for number in range(n_touched):
            slot = touched[number]
            if order[number] >= least:
                size = _add(store, slot, similarity[slot], shared, fading, found, values, begin, size, owners)
        for number in range(n_touched):
            similarity[touched[number]] = 0.0
        for at in range(first, end):
            shared[rows[at]] = 0.0
        # Owners hold 1 + the place of a row; wiped, so that nothing of one query reaches another.
        for at in range(begin, size):
            owners[found[at]] = 0
        ends[query + 1] = size
    return ends, found[:size].copy(), values[:size].copy()


@njit(cache=True, nogil=True)
def _compare(
    store: Store,
    rows: Ints,
    first: int,
    end: int,
    own: int,
    per_item: int,
    similarity: Floats,
    shared: Floats,
    touched: npt.NDArray[np.int64],
) -> int:
    """Sum what the latest sittings of each of the query's items share with it; the number of these sittings."""
    n_touched = 0
    for at in range(end - 1, first - 1, -1):
        row = rows[at]
        weight = shared[row]
        posting = store.newest[row]
        for later in range(at + 1, end):
            if rows[later] == row:
                posting = -1
        for _ in range(per_item):
            if posting < 0:
                break
            slot = posting // PLACES
            posting = store.older[posting]
            if slot == own:
                continue
            if similarity[slot] == 0.0:
                touched[n_touched] = slot
                n_touched += 1
            similarity[slot] += weight
    return n_touched


@njit(cache=True, nogil=True)
def _least(
    touched: npt.NDArray[np.int64],
    similarity: Floats,
    started: int,
    n_nearest: int,
    order: npt.NDArray[np.int64],
) -> int:
    """Give each sitting a number, by similarity and then by recency; the number of the last one that has a say."""
    n_touched, n_slots = len(touched), len(similarity)
    similarities = np.empty(n_touched, np.float32)
    for number in range(n_touched):
        similarities[number] = similarity[touched[number]]
    # Positive floats are in the order of their bits.
    bits = similarities.view(np.int32)
    for number in range(n_touched):
        age = (started - 1 - touched[number]) % n_slots
        order[number] = (np.int64(bits[number]) << 32) | (n_slots - age)
    if n_touched <= n_nearest:
        return 0
    least: int = np.partition(order[:n_touched], n_touched - n_nearest)[n_touched - n_nearest]
    return least


@njit(cache=True, nogil=True)
def _add(
    store: Store,
    slot: int,
    weight: float,
    shared: Floats,
    fading: Floats,
    found: Ints,
    values: Floats,
    begin: int,
    size: int,
    owners: npt.NDArray[np.int64],
) -> int:
    """Give a neighbour's weight to its items; the number of rows found so far."""
    length = store.lengths[slot]
    first = max(0, length - PLACES)
    best, middle, news = np.float32(0.0), 0, False
    for visit in range(first, length):
        row = store.items[slot, visit % PLACES]
        if row < 0:
            continue
        news |= shared[row] == 0.0
        if shared[row] > 0.0 and shared[row] >= best:
            best, middle = shared[row], visit
    if not news:
        return size
    share = np.float32(weight * best)
    for visit in range(first, length):
        row = store.items[slot, visit % PLACES]
        if row < 0:
            continue
        if owners[row] == 0:
            found[size] = row
            values[size, 0] = 0.0
            values[size, 1] = 0.0
            size += 1
            owners[row] = size
        at = owners[row] - 1
        values[at, 0] += share
        values[at, 1] += share * fading[abs(visit - middle)]
    return size


@njit(cache=True, nogil=True)
def _grown(found: Ints, values: Floats, room: int) -> tuple[Ints, Floats]:
    more_found = np.empty(max(room, 2 * len(found)), np.int32)
    more_values = np.zeros((len(more_found), 2), np.float32)
    more_found[: len(found)] = found
    more_values[: len(values)] = values
    return more_found, more_values
