"""One gated recurrent layer over item vectors, the last item's own vector added to its state."""

import math
from collections.abc import Mapping

import torch
from torch import Generator, Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from online_model.encoders.base import Packing


class GRUEncoder:
    """The recurrent encoder.

    Source: Hidasi and Karatzoglou 2018, arXiv:1706.03847; the added last item was measured on four streams.
    """

    def __init__(self, hidden: int, skip: float, device: torch.device, generator: Generator | None = None) -> None:
        """Build the layer, with random weights where a generator is given and zeros otherwise."""
        self._skip = skip
        self._cell = nn.GRU(hidden, hidden)
        bound = math.sqrt(3.0 / hidden)
        with torch.no_grad():
            for weight in self._cell.parameters():
                if generator is None or weight.dim() == 1:
                    weight.zero_()
                else:
                    weight.uniform_(-bound, bound, generator=generator)
        self._cell.to(device)

    def encode(self, vectors: Tensor, packing: Packing) -> Tensor:
        """Encode each sequence; see `Encoder`."""
        device = vectors.device
        _, states = self._cell(PackedSequence(vectors, torch.from_numpy(packing.batch_sizes)))
        places = torch.from_numpy(packing.order).argsort().to(device)
        encoded: Tensor = states[0][places] + self._skip * vectors[torch.from_numpy(packing.lasts).to(device)]
        return encoded

    def weights(self) -> Mapping[str, Tensor]:
        """Return the weights of the layer by name; see `Encoder`."""
        return dict(self._cell.named_parameters())
