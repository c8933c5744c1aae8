"""Causal convolutions over item vectors, the last item's own vector added to their outcome."""

from collections.abc import Mapping

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from online_model.encoders.base import Packing, lasts, pad, prepare

_KERNEL = 3
# Together they reach 15 items back.
_DILATIONS = (1, 2, 4)


class ConvolutionEncoder:
    """Ever wider spaced convolutions, each added to what came in, none of which looks ahead.

    Source: Yuan et al. 2019, arXiv:1808.05163, with one convolution a block.
    """

    cloze = 0.0

    def __init__(self, hidden: int, skip: float, device: torch.device, generator: Generator | None = None) -> None:
        """Build the layers, with random weights where a generator is given and zeros otherwise."""
        self._skip = skip
        self._layers = nn.ModuleList(nn.Conv1d(hidden, hidden, _KERNEL, dilation=wide) for wide in _DILATIONS)
        prepare(self._layers, generator, device)

    def encode(self, vectors: Tensor, packing: Packing) -> Tensor:
        """Encode each sequence; see `Encoder`."""
        return self.states(*pad(vectors, packing))[:, -1] + self._skip * lasts(vectors, packing)

    def states(self, padded: Tensor, there: Tensor) -> Tensor:
        """Return the state after each item, [batch, longest, hidden]; arguments as `pad` returns them."""
        states, there = padded.transpose(1, 2), there[:, None]
        for layer, wide in zip(self._layers, _DILATIONS, strict=True):
            before = functional.pad(states, (wide * (_KERNEL - 1), 0))
            # Biases would fill the padding, and the next layer would see it.
            states = (states + torch.tanh(layer(before))) * there
        return states.transpose(1, 2)

    def weights(self) -> Mapping[str, Tensor]:
        """Return the weights of the layers by name; see `Encoder`."""
        return dict(self._layers.named_parameters())
