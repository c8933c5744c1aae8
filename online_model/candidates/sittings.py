"""The latest sittings: which items each holds, and for each item in which sittings it stands, newest first."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from numba import njit

from online_model.candidates.queries import Ints, Keys, Occurrences
from online_model.protocol import State
from online_model.vocabulary import Rows

PLACES = 20
"""Latest items that are kept of one sitting."""
_NONE, _UNLINKED = -1, -2
# Constants of numba functions keep their type; a plain int would turn unsigned arithmetic into floating point.
_SPREAD, _HALF = np.uint64(0x9E3779B97F4A7C15), np.uint64(32)


class Store(NamedTuple):
    """Arrays that compiled functions work on. A posting is `slot * PLACES + place`, -1 for none.

    Each item has a list of postings, linked both ways, one for each sitting that it stands in: that of its latest
    visit there. So a sitting that is overwritten leaves no trace, and memory does not depend on the number of items.

    Attributes:
        items: Rows by place, visit number `n` of a sitting at `n % PLACES`; -1 for none, int32 [n_slots, PLACES].
        lengths: Visits of each sitting, those that were overwritten included, int32 [n_slots].
        keys: Of the last visit of each sitting, 0 where it cannot be followed any more, uint64 [n_slots].
        older: The item's next posting, int32 [n_slots * PLACES].
        newer: Its previous posting; -1 for the newest, -2 where the place is not a posting, as `older`.
        newest: First posting of each row, int32 [n_rows].
        spread: Sittings that each row stands in, int32 [n_rows].
        table: Slots by key, open addressing, -1 for none, int32 [a power of two].
        started: Sittings so far, int64 [1]; the next takes slot `started % n_slots`.
    """

    items: Ints
    lengths: Ints
    keys: Keys
    older: Ints
    newer: Ints
    newest: Ints
    spread: Ints
    table: Ints
    started: npt.NDArray[np.int64]


class Sittings:
    """A ring of sittings, each followed from visit to visit by the key of its last one.

    Attributes:
        n_slots: Sittings that are kept.
        store: The arrays; replaced when rows are added.
    """

    def __init__(self, n_slots: int) -> None:
        self.n_slots = n_slots
        self.store = Store(
            np.full((n_slots, PLACES), _NONE, np.int32),
            np.zeros(n_slots, np.int32),
            np.zeros(n_slots, np.uint64),
            np.full(n_slots * PLACES, _NONE, np.int32),
            np.full(n_slots * PLACES, _UNLINKED, np.int32),
            np.full(1024, _NONE, np.int32),
            np.zeros(1024, np.int32),
            np.full(1 << (2 * n_slots - 1).bit_length(), _NONE, np.int32),
            np.zeros(1, np.int64),
        )

    def fold(self, occurrences: Occurrences) -> None:
        """Append each item to the sitting that it continues; where that is not known, start one with what is."""
        queries = occurrences.queries
        self.reserve(max(int(queries.rows.max(initial=-1)), int(occurrences.items.max(initial=-1))) + 1)
        _fold(
            self.store,
            queries.starts,
            queries.rows,
            queries.visits,
            occurrences.items,
            occurrences.visits,
            occurrences.weights,
        )

    def forget(self, rows: Rows) -> None:
        """Take rows out of all sittings."""
        if len(rows):
            self.reserve(int(rows.max()) + 1)
            _forget(self.store, rows)

    def reserve(self, n_rows: int) -> None:
        """Make room for rows of a vocabulary that grew."""
        more = max(n_rows, 2 * len(self.store.newest)) - len(self.store.newest)
        if n_rows > len(self.store.newest):
            self.store = self.store._replace(
                newest=np.concatenate([self.store.newest, np.full(more, _NONE, np.int32)]),
                spread=np.concatenate([self.store.spread, np.zeros(more, np.int32)]),
            )

    def state(self, n_rows: int) -> State:
        """Return a copy of everything."""
        self.reserve(n_rows)
        n_used = min(self.n_slots, int(self.store.started[0]))
        tensors = {name: torch.from_numpy(array[:size].copy()) for name, array, size in self._saved(n_used, n_rows)}
        # Not every format of checkpoints has unsigned numbers.
        tensors["keys"] = torch.from_numpy(self.store.keys[:n_used].copy().view(np.int64))
        return State(tensors, {"slots": self.n_slots, "started": int(self.store.started[0])})

    def load_state(self, state: State) -> None:
        """Become the sittings that `state` was taken from.

        Raises:
            ValueError: The state is that of another number of sittings.
            KeyError: It lacks a part.
        """
        if state.metadata["slots"] != self.n_slots:
            raise ValueError(f"the saved model keeps {state.metadata['slots']} sittings, this one {self.n_slots}")
        tensors: Mapping[str, torch.Tensor] = state.tensors
        fresh = Sittings(self.n_slots)
        n_rows, n_used = len(tensors["newest"]), len(tensors["lengths"])
        fresh.reserve(n_rows)
        for name, array, size in fresh._saved(n_used, n_rows):
            array[:size] = tensors[name].numpy()
        fresh.store.keys[:n_used] = tensors["keys"].numpy().view(np.uint64)
        fresh.store.started[0] = int(str(state.metadata["started"]))
        _relink(fresh.store)
        self.store = fresh.store

    def _saved(self, n_used: int, n_rows: int) -> list[tuple[str, npt.NDArray[Any], int]]:
        """Arrays that are saved, and how much of each; what follows from these is not."""
        store = self.store
        return [
            ("items", store.items, n_used),
            ("lengths", store.lengths, n_used),
            ("older", store.older, n_used * PLACES),
            ("newest", store.newest, n_rows),
        ]


@njit(cache=True, nogil=True)
def find(store: Store, key: np.uint64) -> int:
    """Return the slot of the sitting whose last visit has this key, -1 for none."""
    place = _lookup(store, key)
    slot: int = -1 if place < 0 else store.table[place]
    return slot


@njit(cache=True, nogil=True)
def _fold(
    store: Store,
    starts: npt.NDArray[np.int64],
    before: Ints,
    sources: Keys,
    items: Ints,
    visits: Keys,
    weights: npt.NDArray[np.float32],
) -> None:
    for event in range(len(items)):
        if items[event] < 0 or weights[event] <= 0.0:
            continue
        slot = find(store, sources[event])
        if slot < 0:
            slot = _start(store)
            for at in range(max(starts[event], starts[event + 1] - PLACES + 1), starts[event + 1]):
                _append(store, slot, before[at])
        _append(store, slot, items[event])
        _rename(store, slot, visits[event])


@njit(cache=True, nogil=True)
def _start(store: Store) -> int:
    """Empty the slot of the oldest sitting."""
    slot: int = store.started[0] % len(store.lengths)
    store.started[0] += 1
    for place in range(PLACES):
        _unlink(store, slot, place)
        store.items[slot, place] = -1
    store.lengths[slot] = 0
    _rename(store, slot, np.uint64(0))
    return slot


@njit(cache=True, nogil=True)
def _append(store: Store, slot: int, item: int) -> None:
    length = store.lengths[slot]
    if length > 0 and store.items[slot, (length - 1) % PLACES] == item:
        return
    for place in range(PLACES):
        if store.items[slot, place] == item:
            _unlink(store, slot, place)
    place = length % PLACES
    _unlink(store, slot, place)
    store.items[slot, place] = item
    store.lengths[slot] = length + 1
    _link(store, slot * PLACES + place, item)


@njit(cache=True, nogil=True)
def _link(store: Store, posting: int, item: int) -> None:
    next_ = store.newest[item]
    store.older[posting], store.newer[posting] = next_, _NONE
    if next_ >= 0:
        store.newer[next_] = posting
    store.newest[item] = posting
    store.spread[item] += 1


@njit(cache=True, nogil=True)
def _unlink(store: Store, slot: int, place: int) -> None:
    """Take a place out of its item's list; nothing where it is in none."""
    posting = slot * PLACES + place
    newer, older = store.newer[posting], store.older[posting]
    if newer == _UNLINKED:
        return
    item = store.items[slot, place]
    if newer >= 0:
        store.older[newer] = older
    else:
        store.newest[item] = older
    if older >= 0:
        store.newer[older] = newer
    store.older[posting], store.newer[posting] = _NONE, _UNLINKED
    store.spread[item] -= 1


@njit(cache=True, nogil=True)
def _forget(store: Store, rows: Rows) -> None:
    for row in rows:
        while store.newest[row] >= 0:
            slot, place = divmod(store.newest[row], PLACES)
            _unlink(store, slot, place)
            for other in range(PLACES):
                if store.items[slot, other] == row:
                    store.items[slot, other] = -1


@njit(cache=True, nogil=True)
def _home(store: Store, key: np.uint64) -> int:
    return int(np.int64((key * _SPREAD) >> _HALF)) & (len(store.table) - 1)


@njit(cache=True, nogil=True)
def _lookup(store: Store, key: np.uint64) -> int:
    """Place of a key in the table, -1 where it is not there."""
    if key == 0:
        return -1
    place = _home(store, key)
    while store.table[place] >= 0:
        if store.keys[store.table[place]] == key:
            return place
        place = (place + 1) & (len(store.table) - 1)
    return -1


@njit(cache=True, nogil=True)
def _rename(store: Store, slot: int, key: np.uint64) -> None:
    """Let a sitting be found by this key alone; who had it before cannot be followed any more."""
    for former in (store.keys[slot], key):
        place = _lookup(store, former)
        if place >= 0:
            store.keys[store.table[place]] = 0
            _close_gap(store, place)
    store.keys[slot] = key
    if key != 0:
        place = _home(store, key)
        while store.table[place] >= 0:
            place = (place + 1) & (len(store.table) - 1)
        store.table[place] = slot


@njit(cache=True, nogil=True)
def _close_gap(store: Store, gap: int) -> None:
    """Empty a place of the table; entries behind it move up, so that no search stops short of them."""
    mask = len(store.table) - 1
    place = (gap + 1) & mask
    while store.table[place] >= 0:
        home = _home(store, store.keys[store.table[place]])
        if ((place - home) & mask) >= ((place - gap) & mask):
            store.table[gap] = store.table[place]
            gap = place
        place = (place + 1) & mask
    store.table[gap] = -1


@njit(cache=True, nogil=True)
def _relink(store: Store) -> None:
    """Fill in what follows from the arrays that are saved."""
    for item in range(len(store.newest)):
        newer, posting = _NONE, store.newest[item]
        while posting >= 0:
            store.newer[posting] = newer
            store.spread[item] += 1
            newer, posting = posting, store.older[posting]
    for slot in range(len(store.keys)):
        key = store.keys[slot]
        if key != 0:
            store.keys[slot] = 0
            _rename(store, slot, key)
