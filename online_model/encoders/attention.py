"""Attention over the latest items with each candidate as the query."""

from collections.abc import Mapping

import torch
from torch import Generator, Tensor, nn

from online_model.encoders.base import Packing, lasts, pad, prepare

# Each costs another product with the whole catalogue.
_ITEMS = 4


class AttentionEncoder:
    """One vector for each of the latest items, of which every candidate weighs those more that it suits.

    The score of a candidate is the sum of its products with these vectors, weighted by the softmax of the same
    products: attention with the candidate as the query, as in DIN, but with keys that are the values, so that one
    matrix product an item scores the whole catalogue. A shorter sequence repeats its first item.

    Source: Zhou et al. 2018, arXiv:1706.06978.
    """

    cloze = 0.0

    def __init__(self, hidden: int, skip: float, device: torch.device, generator: Generator | None = None) -> None:
        """Build the layer, with random weights where a generator is given and zeros otherwise."""
        self._skip = skip
        # The items' vectors are turned by how recent they are: what fits after the last need not fit after the first.
        self._layers = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(_ITEMS))
        prepare(self._layers, generator, device)

    def encode(self, vectors: Tensor, packing: Packing) -> Tensor:
        """Return several vectors a sequence, [batch, 4, hidden]; see `Encoder`."""
        padded, there = pad(vectors, packing)
        lengths = there.sum(1)
        lines = torch.arange(len(padded), device=padded.device)
        last = self._skip * lasts(vectors, packing)
        found = []
        for back, layer in enumerate(self._layers):
            items = padded[lines, -1 - (lengths - 1).clamp(max=back)]
            found.append(torch.tanh(layer(items)) + last)
        return torch.stack(found, 1)

    def weights(self) -> Mapping[str, Tensor]:
        """Return the weights of the layers by name; see `Encoder`."""
        return dict(self._layers.named_parameters())
