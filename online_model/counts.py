"""Counts that fade: what is popular now."""

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from online_model.vocabulary import Rows

# exp(200) is far inside float64, and far beyond any count that still matters.
_LARGEST_EXPONENT = 200.0
# Rows among which the best are looked for, and how many they may become before all but the best of them leave.
_BOARD, _MOST_ON_BOARD = 512, 4_096


class FadingCounts:
    """Sightings by row, each worth half as much for every `half_life` sightings of anything since.

    Sightings grow with time instead of all counts shrinking, so that a sighting costs one addition; once in a long
    while everything is scaled back.
    """

    def __init__(self, half_life: float) -> None:
        self._growth = math.log(2) / half_life
        self._weights = np.zeros(1024)
        self._clock = 0
        self._base = 0
        # Rows among which the best are: none outside weighs more than the floor. None before anybody has asked.
        self._board: Rows | None = None
        self._on_board = np.zeros(0, np.bool_)
        self._floor = 0.0
        # The latest answer to `top`, for as long as nothing is counted: a serving copy is asked far more often.
        self._best: tuple[tuple[int, int], Rows] | None = None

    def weights(self, n_rows: int) -> npt.NDArray[np.float64]:
        """Return the weights of the first rows, comparable with one another, float64 [n_rows]; a view."""
        self._reserve(n_rows)
        return self._weights[:n_rows]

    def sight(self, rows: Rows) -> None:
        """Count one sighting for each row given, in order."""
        if len(rows) == 0:
            return
        self._best = None
        self._reserve(int(rows.max()) + 1)
        exponents = (np.arange(len(rows)) + (self._clock - self._base)) * self._growth
        if exponents[-1] > _LARGEST_EXPONENT:
            self._rebase(self._clock)
            exponents = np.arange(len(rows)) * self._growth
        np.add.at(self._weights, rows, np.exp(exponents))
        self._clock += len(rows)
        self._enter(rows)

    def clear(self, rows: Rows) -> None:
        """Forget the sightings of rows that get a new tenant."""
        if len(rows):
            self._best = None
            self._reserve(int(rows.max()) + 1)
            self._weights[rows] = 0.0

    def now(self) -> float:
        """Return the factor that turns weights into sightings, older ones counting for less, as of the latest."""
        return math.exp(-(self._clock - self._base) * self._growth)

    def facts(self) -> dict[str, int]:
        """Return what another copy needs besides the weights."""
        return {"clock": self._clock, "base": self._base}

    def write(self, rows: Rows, weights: npt.NDArray[np.float64], facts: Mapping[str, int]) -> None:
        """Take over the weights of some rows and the facts from another copy that saw more."""
        self._best = None
        if facts["base"] != self._base:
            self._rebase(facts["base"])
        self._clock = facts["clock"]
        if len(rows):
            self._reserve(int(rows.max()) + 1)
            self._weights[rows] = weights
            self._enter(rows)

    def top(self, n_rows: int, n: int) -> Rows:
        """Return the best of the first rows, best first, of equal ones the lower row first; none without a sighting.

        Only a few rows are looked at, however many there are: those that could be among the best.
        """
        if self._best is None or self._best[0] != (n_rows, n):
            self._best = (n_rows, n), self._found(n_rows, n)
        return self._best[1]

    def _found(self, n_rows: int, n: int) -> Rows:
        self._reserve(n_rows)
        if self._board is not None:
            best = self._best_of(self._board, n_rows, n)
            if self._certain(best, n):
                return best
        # Nobody has asked before, or too many of the board have been forgotten.
        best = self._best_of(self._make_board(), n_rows, n)
        return best if self._certain(best, n) else self._best_of(np.arange(n_rows), n_rows, n)

    def _certain(self, best: Rows, n: int) -> bool:
        """Whether no row outside of the board can be among the best `n`."""
        return self._floor <= 0.0 or (0 < n == len(best) and bool(self._weights[best[-1]] > self._floor))

    def _best_of(self, rows: Rows, n_rows: int, n: int) -> Rows:
        rows = rows[(rows < n_rows) & (self._weights[rows] > 0.0)]
        best: Rows = rows[np.lexsort((rows, -self._weights[rows]))[:n]]
        return best

    def _make_board(self) -> Rows:
        weights = self._weights
        every = np.arange(len(weights))
        board = every if len(weights) <= _BOARD else np.argpartition(weights, -_BOARD)[-_BOARD:]
        self._floor = float(weights[board].min()) if len(board) < len(weights) else 0.0
        self._board = board
        self._on_board = np.zeros(len(weights), np.bool_)
        self._on_board[board] = True
        return board

    def _enter(self, rows: Rows) -> None:
        """Put rows that became heavy enough on the board."""
        if self._board is None:
            return
        heavy = rows[(self._weights[rows] > self._floor) & ~self._on_board[rows]]
        if len(heavy) == 0:
            return
        self._on_board[heavy] = True
        self._board = np.concatenate([self._board, np.unique(heavy)])
        if len(self._board) > _MOST_ON_BOARD:
            weights = self._weights[self._board]
            order = np.argpartition(weights, -_BOARD)
            leaving = order[:-_BOARD]
            self._floor = max(self._floor, float(weights[leaving].max()))
            self._on_board[self._board[leaving]] = False
            self._board = self._board[order[-_BOARD:]]

    def _rebase(self, base: int) -> None:
        """Scale all weights so that the sighting numbered `base` weighs 1."""
        scale = math.exp(-(base - self._base) * self._growth)
        self._weights *= scale
        self._floor *= scale
        self._base = base

    def _reserve(self, n_rows: int) -> None:
        if n_rows > len(self._weights):
            grown = np.zeros(max(n_rows, 2 * len(self._weights)))
            grown[: len(self._weights)] = self._weights
            self._weights = grown
        if self._board is not None and len(self._on_board) < len(self._weights):
            # New rows weigh nothing yet, which is no more than the floor.
            more = len(self._weights) - len(self._on_board)
            self._on_board = np.append(self._on_board, np.zeros(more, np.bool_))
