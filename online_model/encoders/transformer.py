"""A causal Transformer over item vectors, the last item's own vector added to its state."""

from collections.abc import Mapping

import torch
from torch import Generator, Tensor, nn

from online_model.encoders.base import Packing, lasts, pad, prepare
from online_model.encoders.blocks import Block

_BLOCKS = 2


class TransformerEncoder:
    """Each item looks at itself and at those before it; the last one speaks for the sequence (GPT style).

    Source: Kang and McAuley 2018, arXiv:1808.09781, with distances for positions.
    """

    cloze = 0.0

    def __init__(
        self, hidden: int, skip: float, window: int, device: torch.device, generator: Generator | None = None
    ) -> None:
        """Build the blocks, with random weights where a generator is given and zeros otherwise."""
        self._skip = skip
        self._module = nn.ModuleDict(
            {
                "blocks": nn.ModuleList(Block(hidden, window, causal=True) for _ in range(_BLOCKS)),
                "norm": nn.LayerNorm(hidden),
            }
        )
        prepare(self._module, generator, device)

    def encode(self, vectors: Tensor, packing: Packing) -> Tensor:
        """Encode each sequence; see `Encoder`."""
        return self.states(*pad(vectors, packing))[:, -1] + self._skip * lasts(vectors, packing)

    def states(self, padded: Tensor, there: Tensor) -> Tensor:
        """Return the state after each item, [batch, longest, hidden]; arguments as `pad` returns them."""
        for block in self._module["blocks"]:  # type: ignore[attr-defined]  # a ModuleList, which can be gone through
            padded = block(padded, there)
        states: Tensor = self._module["norm"](padded)
        return states

    def weights(self) -> Mapping[str, Tensor]:
        """Return the weights by name; see `Encoder`."""
        return dict(self._module.named_parameters())
