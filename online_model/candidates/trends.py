"""What is popular at several speeds, how old an item is, and how long ago it was last seen."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from numba import njit

from online_model.candidates.queries import Floats, Ints, Occurrences
from online_model.counts import FadingCounts
from online_model.protocol import State
from online_model.vocabulary import Rows

HALF_LIVES = (500.0, 5_000.0, 50_000.0)
_NEVER = -1


class Trends:
    """Fading counts with three half-lives, and the event numbers of first and last sightings.

    Attributes:
        clock: Sightings so far: the unit of age.
    """

    def __init__(self, half_lives: Sequence[float] = HALF_LIVES) -> None:
        self.clock = 0
        self._half_lives = tuple(half_lives)
        self._counts = [FadingCounts(half_life) for half_life in half_lives]
        self._first = np.full(1024, _NEVER, np.int64)
        self._last = np.full(1024, _NEVER, np.int64)

    def tops(self, n_rows: int, n: int) -> list[Ints]:
        """Return the rows that are most popular now, best first, at each speed: at most `n`, none that never was."""
        return [counts.top(n_rows, n).astype(np.int32) for counts in self._counts]

    def look_up(self, candidates: Ints) -> Floats:
        """Return what is known about rows, which are all in the vocabulary, or -1.

        Args:
            candidates: int32 of any shape.

        Returns:
            float32 [..., n_speeds + 2]: sightings at each speed, age and time since the last sighting in sightings of
            anything.
        """
        self.reserve(int(candidates.max(initial=-1)) + 1)
        known = np.empty((candidates.size, len(self._counts) + 2), np.float32)
        rows = candidates.ravel()
        for column, counts in enumerate(self._counts):
            _weigh(rows, counts.weights(len(self._first)), counts.now(), column, known)
        _age(rows, self._first, self._last, self.clock, known)
        return known.reshape(*candidates.shape, -1)

    def seen(self, rows: Ints) -> npt.NDArray[np.bool_]:
        """Return whether each row was ever sighted, bool [n]."""
        self.reserve(int(rows.max(initial=-1)) + 1)
        seen: npt.NDArray[np.bool_] = self._first[rows] != _NEVER
        return seen

    def fold(self, occurrences: Occurrences) -> None:
        """Count the sightings, in order."""
        rows = occurrences.items[occurrences.items >= 0].astype(np.int64)
        self.reserve(int(rows.max(initial=-1)) + 1)
        numbers = np.arange(self.clock, self.clock + len(rows))
        self.clock += len(rows)
        self._last[rows] = numbers
        # The first of several sightings of one row in this batch is written last.
        new = self._first[rows] == _NEVER
        self._first[rows[new][::-1]] = numbers[new][::-1]
        for counts in self._counts:
            counts.sight(rows)

    def forget(self, rows: Rows) -> None:
        """Forget rows that get a new tenant, int64 [n]."""
        if len(rows):
            self.reserve(int(rows.max()) + 1)
            self._first[rows] = self._last[rows] = _NEVER
            for counts in self._counts:
                counts.clear(rows)

    def reserve(self, n_rows: int) -> None:
        """Make room for rows of a vocabulary that grew."""
        if n_rows > len(self._first):
            room = max(n_rows, 2 * len(self._first))
            self._first, self._last = _grown(self._first, room), _grown(self._last, room)

    def state(self, n_rows: int) -> State:
        """Return a copy of everything about the first rows."""
        self.reserve(n_rows)
        weights = np.stack([counts.weights(n_rows) for counts in self._counts])
        tensors = {"weights": weights, "first": self._first[:n_rows].copy(), "last": self._last[:n_rows].copy()}
        facts = [counts.facts() for counts in self._counts]
        return State(
            {name: torch.from_numpy(array) for name, array in tensors.items()}, {"clock": self.clock, "counts": facts}
        )

    def load_state(self, state: State) -> None:
        """Become the trends that `state` was taken from.

        Raises:
            ValueError: They count at another number of speeds.
        """
        facts = state.metadata["counts"]
        if not isinstance(facts, list) or len(facts) != len(self._counts):
            raise ValueError(f"the saved trends do not have {len(self._counts)} speeds")
        first, last = state.tensors["first"].numpy(), state.tensors["last"].numpy()
        fresh = Trends(self._half_lives)
        fresh.reserve(len(first))
        fresh._first[: len(first)], fresh._last[: len(last)] = first, last
        fresh.clock = int(str(state.metadata["clock"]))
        for counts, weights, fact in zip(fresh._counts, state.tensors["weights"].numpy(), facts, strict=True):
            counts.write(np.arange(len(first)), weights, fact)
        self.__dict__.update(fresh.__dict__)


# These are short: letting go of the interpreter's lock, and waiting for it again, would take longer than they do.
@njit(cache=True)
def _weigh(rows: Ints, weights: npt.NDArray[np.float64], now: float, column: int, known: Floats) -> None:
    for place in range(len(rows)):
        known[place, column] = weights[max(rows[place], 0)] * now


@njit(cache=True)
def _age(rows: Ints, first: npt.NDArray[np.int64], last: npt.NDArray[np.int64], clock: int, known: Floats) -> None:
    column = known.shape[1] - 2
    for place in range(len(rows)):
        row = max(rows[place], 0)
        seen = first[row] != _NEVER
        known[place, column] = clock - first[row] if seen else 0
        known[place, column + 1] = clock - last[row] if seen else 0


def _grown(numbers: npt.NDArray[np.int64], n_rows: int) -> npt.NDArray[np.int64]:
    grown = np.full(n_rows, _NEVER, np.int64)
    grown[: len(numbers)] = numbers
    return grown
