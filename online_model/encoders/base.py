"""What every sequence encoder speaks, and how sequences of unequal length are laid out for it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor, nn


@dataclass(frozen=True, slots=True)
class Packing:
    """Sequences side by side, step by step, the longest first: no padding is ever computed.

    Attributes:
        rows: Vocabulary rows, all first items, then all second ones, ..., int64 [n_steps].
        batch_sizes: How many sequences reach each step, int64 [longest], never growing.
        order: `order[i]` is the sequence that stands at place i, int64 [batch].
        lasts: Where each sequence's last item stands in `rows`, in the order of the sequences, int64 [batch].
        holes: Step of each sequence whose item is hidden and to be told from the others, in the order of the sequences,
            int64 [batch]; the step after the last where nothing is hidden.
    """

    rows: npt.NDArray[np.int64]
    batch_sizes: npt.NDArray[np.int64]
    order: npt.NDArray[np.int64]
    lasts: npt.NDArray[np.int64]
    holes: npt.NDArray[np.int64]


def pack(sequences: Sequence[Sequence[int]], holes: Sequence[int] | None = None) -> Packing:
    """Lay out sequences of rows, none of them empty.

    Args:
        sequences: The rows.
        holes: Step of each sequence whose item only a cloze encoder may be given, which does not look at it.

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
    hidden = lengths if holes is None else np.array(holes, np.int64)
    return Packing(np.array(rows, np.int64), batch_sizes, order, starts[lengths - 1] + places, hidden)


def pad(vectors: Tensor, packing: Packing) -> tuple[Tensor, Tensor]:
    """Lay sequences out as a rectangle, all ending in its last column, zeros before them.

    Returns:
        The vectors, float32 [batch, longest, hidden], and where there are any, bool [batch, longest].
    """
    n_sequences, longest = len(packing.order), len(packing.batch_sizes)
    places, lengths = np.empty((2, n_sequences), np.int64)
    places[packing.order] = np.arange(n_sequences)
    lengths[packing.order] = (packing.batch_sizes[:, None] > np.arange(n_sequences)).sum(0)
    starts = np.concatenate(([0], np.cumsum(packing.batch_sizes)[:-1]))
    steps = np.arange(longest) - (longest - lengths[:, None])
    sources = torch.from_numpy(starts[np.maximum(steps, 0)] + places[:, None]).to(vectors.device)
    there = torch.from_numpy(steps >= 0).to(vectors.device)
    return vectors[sources.clamp_(max=len(vectors) - 1)] * there[:, :, None], there


def lasts(vectors: Tensor, packing: Packing) -> Tensor:
    """Return the vector of each sequence's last item, [batch, hidden]."""
    return vectors[torch.from_numpy(packing.lasts).to(vectors.device)]


@torch.no_grad()
def prepare(module: nn.Module, generator: Generator | None, device: torch.device) -> None:
    """Fill a module with first weights, or with zeros where there is no generator, and move it to its device."""
    for name, weight in module.named_parameters():
        if generator is None or weight.dim() == 1:
            weight.fill_(1.0 if generator is not None and name.endswith("norm.weight") else 0.0)
        else:
            bound = math.sqrt(3.0 / weight[0].numel())
            weight.uniform_(-bound, bound, generator=generator)
    module.to(device)


class Encoder(Protocol):
    """Turns packed item vectors into what items are scored with.

    Attributes:
        cloze: Share of the items of a sequence that it also wants to learn to fill in; 0 for encoders that do not.
    """

    cloze: float

    def encode(self, vectors: Tensor, packing: Packing) -> Tensor:
        """Encode each sequence.

        Args:
            vectors: Item vectors of `packing.rows`, float32 [n_steps, hidden].
            packing: How the sequences are laid out.

        Returns:
            One vector a sequence, in the order in which they were packed, float32 [batch, hidden]; or several of which
            each item weighs those more that score it higher, [batch, n_vectors, hidden]; see `scoring.pool`.
        """
        ...

    def weights(self) -> Mapping[str, Tensor]:
        """Return the trainable tensors by name, the very ones that `encode` uses."""
        ...
