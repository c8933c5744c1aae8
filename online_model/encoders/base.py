"""What every sequence encoder speaks, and how sequences of unequal length are laid out for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Packing:
    """Sequences side by side, step by step, the longest first: no padding is ever computed.

    Attributes:
        rows: Vocabulary rows, all first items, then all second ones, ..., int64 [n_steps].
        batch_sizes: How many sequences reach each step, int64 [longest], never growing.
        order: `order[i]` is the sequence that stands at place i, int64 [batch].
        lasts: Where each sequence's last item stands in `rows`, in the order of the sequences, int64 [batch].
    """

    rows: npt.NDArray[np.int64]
    batch_sizes: npt.NDArray[np.int64]
    order: npt.NDArray[np.int64]
    lasts: npt.NDArray[np.int64]


def pack(sequences: Sequence[Sequence[int]]) -> Packing:
    """Lay out sequences of rows, none of them empty.

    >>> pack([[1], [2, 3, 4], [5, 6]]).rows.tolist()
    [2, 5, 1, 3, 6, 4]
    """
    lengths = np.array([len(sequence) for sequence in sequences], np.int64)
    order = np.argsort(-lengths, kind="stable")
    longest_first = [sequences[place] for place in order.tolist()]
    # Lengths fall along the order, so each step is a prefix of the sequences.
    batch_sizes = len(lengths) - np.searchsorted(np.sort(lengths), np.arange(lengths.max()), side="right")
    rows = [sequence[step] for step, size in enumerate(batch_sizes.tolist()) for sequence in longest_first[:size]]
    starts = np.concatenate(([0], np.cumsum(batch_sizes)[:-1]))
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    return Packing(np.array(rows, np.int64), batch_sizes, order, starts[lengths - 1] + places)


class Encoder(Protocol):
    """Turns packed item vectors into one vector a sequence."""

    def encode(self, vectors: Tensor, packing: Packing) -> Tensor:
        """Encode each sequence.

        Args:
            vectors: Item vectors of `packing.rows`, float32 [n_steps, hidden].
            packing: How the sequences are laid out.

        Returns:
            One vector a sequence, in the order in which they were packed, float32 [batch, hidden].
        """
        ...

    def weights(self) -> Mapping[str, Tensor]:
        """Return the trainable tensors by name, the very ones that `encode` uses."""
        ...
