"""Lists of the rows in each cell, which rows move between, and a scan of some of these lists."""

import numpy as np
import numpy.typing as npt
from numba import njit

from online_model.candidates.queries import Floats, Ints

Offsets = npt.NDArray[np.int64]

_NOWHERE = -1
_SPARE_SHARE, _SPARE = 0.5, 4


class Cells:
    """Which rows each cell holds; rows are 0 .. n - 1 without holes, each in one cell."""

    def __init__(self, cells: Ints, n_cells: int) -> None:
        """Put rows 0 .. n - 1 into their cells, int32 [n]."""
        self._cell = cells.copy()
        self._place = np.zeros(len(cells), np.int64)
        self._n_cells = n_cells
        self._n_rows = len(cells)
        self._lay_out()

    def __len__(self) -> int:
        return self._n_rows

    @property
    def of_rows(self) -> Ints:
        """Cell of each row, int32 [n]; a view."""
        return self._cell[: self._n_rows]

    def members(self, cell: int) -> Ints:
        """Return the rows of a cell, in no order."""
        start = self._starts[cell]
        return self._members[start : start + self._sizes[cell]].copy()

    def move(self, rows: npt.NDArray[np.int64], cells: Ints) -> None:
        """Put rows, each once, into other cells; those beyond the last row are new, and leave no hole."""
        self._reserve(int(rows.max(initial=-1)) + 1)
        done = 0
        while done < len(rows):
            done += _move(
                rows[done:],
                cells[done:],
                self._cell,
                self._place,
                self._members,
                self._starts,
                self._sizes,
                self._rooms,
            )
            if done < len(rows):
                self._lay_out()

    def scan(
        self, states: Floats, order: Ints, vectors: Floats, biases: Floats, budget: int, n: int
    ) -> tuple[Ints, Floats]:
        """Return the best rows among those of the first cells, best first, of equal ones the lower row first.

        Args:
            states: float32 [batch, n_vectors, hidden]; see `scoring.pool`.
            order: Cells in the order in which they are visited, int32 [batch, n_cells].
            vectors: Those of all rows, float32 [n_rows, hidden].
            biases: float32 [n_rows].
            budget: Rows after which no further cell is visited; never fewer than `n`.
            n: How many rows to return; all where there are fewer.

        Returns:
            Rows, int32, and scores, float32, [batch, min(n, n_rows)].
        """
        n = min(n, self._n_rows)
        return _scan(states, order, self._members, self._starts, self._sizes, vectors, biases, max(budget, n), n)

    def _reserve(self, n_rows: int) -> None:
        if n_rows > len(self._cell):
            more = max(n_rows, 2 * len(self._cell)) - len(self._cell)
            self._cell = np.append(self._cell, np.full(more, _NOWHERE, np.int32))
            self._place = np.append(self._place, np.zeros(more, np.int64))
        self._n_rows = max(self._n_rows, n_rows)

    def _lay_out(self) -> None:
        """Give every cell room to grow into."""
        placed = np.flatnonzero(self._cell >= 0)
        cells = self._cell[placed]
        self._sizes = np.bincount(cells, minlength=self._n_cells).astype(np.int64)
        self._rooms = (self._sizes * (1 + _SPARE_SHARE)).astype(np.int64) + _SPARE
        self._starts = np.cumsum(self._rooms) - self._rooms
        self._members = np.full(int(self._rooms.sum()), _NOWHERE, np.int32)
        order = np.argsort(cells, kind="stable")
        firsts = np.repeat(np.cumsum(self._sizes) - self._sizes, self._sizes)
        places = np.repeat(self._starts, self._sizes) + np.arange(len(placed)) - firsts
        self._members[places] = placed[order]
        self._place[placed[order]] = places


@njit(cache=True, nogil=True)
def _move(
    rows: npt.NDArray[np.int64],
    cells: Ints,
    cell: Ints,
    place: Offsets,
    members: Ints,
    starts: Offsets,
    sizes: Offsets,
    rooms: Offsets,
) -> int:
    """Move rows until one finds no room in its cell; return how many were moved."""
    for number in range(len(rows)):
        row, to = rows[number], cells[number]
        former = cell[row]
        if former == to:
            continue
        if sizes[to] == rooms[to]:
            return number
        if former >= 0:
            sizes[former] -= 1
            last = members[starts[former] + sizes[former]]
            members[place[row]] = last
            place[last] = place[row]
        place[row] = starts[to] + sizes[to]
        members[place[row]] = row
        sizes[to] += 1
        cell[row] = to
    return len(rows)


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _product(state: Floats, vector: Floats) -> np.float32:
    total = np.float32(0.0)
    for element in range(len(state)):
        total += state[element] * vector[element]
    return total


@njit(cache=True, nogil=True)
def _pooled(products: Floats) -> np.float32:
    """The softmax of the products weighs them, as `scoring.pool` does."""
    most = products[0]
    for product in products:
        most = max(most, product)
    weights, total = np.float32(0.0), np.float32(0.0)
    for product in products:
        weight = np.exp(product - most)
        weights += weight
        total += weight * product
    return total / weights


@njit(cache=True, nogil=True)
def _scan(
    states: Floats,
    order: Ints,
    members: Ints,
    starts: Offsets,
    sizes: Offsets,
    vectors: Floats,
    biases: Floats,
    budget: int,
    n: int,
) -> tuple[Ints, Floats]:
    n_states, n_vectors = states.shape[:2]
    rows = np.empty((n_states, n), np.int32)
    scores = np.empty((n_states, n), np.float32)
    products = np.empty(n_vectors, np.float32)
    for line in range(n_states):
        seen = 0
        worst = 0
        for cell in order[line]:
            if seen >= budget:
                break
            for place in range(starts[cell], starts[cell] + sizes[cell]):
                row = members[place]
                for number in range(n_vectors):
                    products[number] = _product(states[line, number], vectors[row])
                score = (products[0] if n_vectors == 1 else _pooled(products)) + biases[row]
                if seen < n:
                    rows[line, seen], scores[line, seen] = row, score
                elif score > scores[line, worst] or (score == scores[line, worst] and row < rows[line, worst]):
                    rows[line, worst], scores[line, worst] = row, score
                else:
                    seen += 1
                    continue
                seen += 1
                if seen >= n:
                    worst = 0
                    for other in range(1, n):
                        if scores[line, other] < scores[line, worst] or (
                            scores[line, other] == scores[line, worst] and rows[line, other] > rows[line, worst]
                        ):
                            worst = other
        by_row = np.argsort(rows[line])
        best = by_row[np.argsort(-scores[line][by_row], kind="mergesort")]
        rows[line], scores[line] = rows[line][best], scores[line][best]
    return rows, scores
