"""Memory to write on: a number for each row, zero again when whoever wrote on it is done.

Wiping what was touched costs by the candidate; fresh memory would cost by the catalogue, for each batch.
"""

import numpy as np
import numpy.typing as npt

Marks = npt.NDArray[np.int64]


class Scratch:
    """A number for each row of a vocabulary; not thread-safe."""

    def __init__(self) -> None:
        self._marks: Marks = np.zeros(1024, np.int64)

    def of(self, n_rows: int) -> Marks:
        """Return zeros, at least `n_rows` of them; they have to be zeros again when the caller is done."""
        if n_rows > len(self._marks):
            self._marks = np.zeros(max(n_rows, 2 * len(self._marks)), np.int64)
        return self._marks
