"""The table of item vectors and biases: tied input and output weights that grow with the vocabulary."""

import numpy as np
import torch
from torch import Tensor

_MOST_NOTED = 1_024


class ItemTable:
    """One vector and one bias for each row, with room to grow.

    Attributes:
        n_rows: Rows in use; what lies beyond them is spare room.
    """

    def __init__(self, hidden: int, device: torch.device, score_dtype: torch.dtype = torch.float32) -> None:
        self.hidden = hidden
        self.device = device
        self.n_rows = 0
        self._vectors = torch.zeros(1024, hidden, device=device)
        self._biases = torch.zeros(1024, device=device)
        # A second copy in the type that the whole catalogue is scored in, where that is another one.
        self._scored = None if score_dtype == torch.float32 else self._vectors.to(score_dtype)
        # Rows written, for each of those who want to know.
        self._moved: dict[str, list[Tensor]] = {}

    @property
    def vectors(self) -> Tensor:
        """Vectors in use, float32 [n_rows, hidden]; a view that only this class may write."""
        return self._vectors[: self.n_rows]

    @property
    def biases(self) -> Tensor:
        """Biases in use, float32 [n_rows]; a view."""
        return self._biases[: self.n_rows]

    @property
    def scored_vectors(self) -> Tensor:
        """Vectors in the type for scoring the whole catalogue, [n_rows, hidden]; a view."""
        return self.vectors if self._scored is None else self._scored[: self.n_rows]

    def copies(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return copies of rows, int64 [n], in use or spare: vectors [n, hidden] and biases [n]."""
        return self._vectors.index_select(0, rows), self._biases.index_select(0, rows)

    def write(self, rows: Tensor, vectors: Tensor, biases: Tensor) -> None:
        """Set rows, appending where they lie beyond those in use.

        Args:
            rows: int64 [n], each row once.
            vectors: float32 [n, hidden].
            biases: float32 [n].
        """
        if len(rows) == 0:
            return
        self._reserve(int(rows.max()) + 1)
        self._vectors[rows] = vectors
        self._biases[rows] = biases
        self._mirror(rows)

    def add(self, rows: Tensor, vectors: Tensor, biases: Tensor) -> None:
        """Add to rows in use; arguments as for `write`."""
        self._vectors.index_add_(0, rows, vectors)
        self._biases.index_add_(0, rows, biases)
        self._mirror(rows)

    def moved_for(self, reader: str, *, go_on: bool = True) -> Tensor:
        """Return the rows that were written since this reader last asked, int64 [n], each once; none the first time.

        Args:
            reader: Who asks.
            go_on: Whether it will ask again: what is written from now on is remembered for it.
        """
        noted = self._moved.pop(reader, [])
        if go_on:
            self._moved[reader] = []
        return _distinct(noted) if noted else torch.zeros(0, dtype=torch.int64)

    def _note(self, rows: Tensor) -> None:
        for noted in self._moved.values():
            noted.append(rows)
            # A reader who does not ask must not cost more memory than a number for each row.
            if len(noted) > _MOST_NOTED:
                noted[:] = [_distinct(noted)]

    def _mirror(self, rows: Tensor) -> None:
        self._note(rows)
        if self._scored is not None:
            self._scored[rows] = self._vectors[rows].to(self._scored.dtype)

    def _reserve(self, n_rows: int) -> None:
        if n_rows > len(self._vectors):
            room = max(n_rows, 2 * len(self._vectors))
            self._vectors = grow(self._vectors, room)
            self._biases = grow(self._biases, room)
            self._scored = None if self._scored is None else grow(self._scored, room)
        self.n_rows = max(self.n_rows, n_rows)


def _distinct(rows: list[Tensor]) -> Tensor:
    return torch.from_numpy(np.unique(np.concatenate([some.cpu().numpy() for some in rows])))


def grow(tensor: Tensor, n_rows: int) -> Tensor:
    """Return a copy with `n_rows` rows, the new ones zero."""
    grown = tensor.new_zeros(n_rows, *tensor.shape[1:])
    grown[: len(tensor)] = tensor
    return grown
