"""Counts that fade: what is popular now."""

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from online_model.vocabulary import Rows

# exp(200) is far inside float64, and far beyond any count that still matters.
_LARGEST_EXPONENT = 200.0


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

    def weights(self, n_rows: int) -> npt.NDArray[np.float64]:
        """Return the weights of the first rows, comparable with one another, float64 [n_rows]; a view."""
        self._reserve(n_rows)
        return self._weights[:n_rows]

    def sight(self, rows: Rows) -> None:
        """Count one sighting for each row given, in order."""
        if len(rows) == 0:
            return
        self._reserve(int(rows.max()) + 1)
        exponents = (np.arange(len(rows)) + (self._clock - self._base)) * self._growth
        if exponents[-1] > _LARGEST_EXPONENT:
            self._rebase(self._clock)
            exponents = np.arange(len(rows)) * self._growth
        np.add.at(self._weights, rows, np.exp(exponents))
        self._clock += len(rows)

    def clear(self, rows: Rows) -> None:
        """Forget the sightings of rows that get a new tenant."""
        if len(rows):
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
        if facts["base"] != self._base:
            self._rebase(facts["base"])
        self._clock = facts["clock"]
        if len(rows):
            self._reserve(int(rows.max()) + 1)
            self._weights[rows] = weights

    def _rebase(self, base: int) -> None:
        """Scale all weights so that the sighting numbered `base` weighs 1."""
        self._weights *= math.exp(-(base - self._base) * self._growth)
        self._base = base

    def _reserve(self, n_rows: int) -> None:
        if n_rows > len(self._weights):
            grown = np.zeros(max(n_rows, 2 * len(self._weights)))
            grown[: len(self._weights)] = self._weights
            self._weights = grown
