"""One recurrent layer over item vectors, the last item's own vector added to its state."""

from collections.abc import Mapping

import torch
from torch import Generator, Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from online_model.encoders.base import Packing, lasts, prepare


class RecurrentEncoder:
    """What GRU, LSTM and plain recurrent network have in common.

    Source: Hidasi and Karatzoglou 2018, arXiv:1706.03847; the added last item was measured on four streams.
    """

    cloze = 0.0

    def __init__(self, cell: nn.RNNBase, skip: float, device: torch.device, generator: Generator | None) -> None:
        """Take over a layer, with random weights where a generator is given and zeros otherwise."""
        self._skip = skip
        self._cell = cell
        prepare(cell, generator, device)

    def encode(self, vectors: Tensor, packing: Packing) -> Tensor:
        """Encode each sequence; see `Encoder`."""
        places = torch.from_numpy(packing.order).argsort().to(vectors.device)
        return self._states(vectors, packing)[places] + self._skip * lasts(vectors, packing)

    def _states(self, vectors: Tensor, packing: Packing) -> Tensor:
        """Return the layer's last state of each sequence, in the order of the packing, float32 [batch, hidden]."""
        _, states = self._cell(PackedSequence(vectors, torch.from_numpy(packing.batch_sizes)))
        # An LSTM's state is a pair, of which the first is what it says.
        said: Tensor = states[0] if isinstance(states, Tensor) else states[0][0]
        return said

    def weights(self) -> Mapping[str, Tensor]:
        """Return the weights of the layer by name; see `Encoder`."""
        return dict(self._cell.named_parameters())
