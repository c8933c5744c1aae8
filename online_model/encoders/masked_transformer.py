"""A Transformer that looks both ways and fills in what is hidden."""

from collections.abc import Mapping

import torch
from torch import Generator, Tensor, nn

from online_model.encoders.base import Packing, lasts, pad, prepare
from online_model.encoders.blocks import Block

_BLOCKS = 2


class MaskedTransformerEncoder:
    """Items look at one another in both directions, and a mask stands where one is asked for (BERT style).

    What comes next is asked for with a mask behind the sequence; for learning, items inside are hidden too.

    Source: Sun et al. 2019, arXiv:1904.06690, with distances for positions.
    """

    cloze = 0.2

    def __init__(
        self, hidden: int, skip: float, window: int, device: torch.device, generator: Generator | None = None
    ) -> None:
        """Build the blocks, with random weights where a generator is given and zeros otherwise."""
        self._skip = skip
        self._module = nn.ModuleDict(
            {
                "blocks": nn.ModuleList(Block(hidden, window + 1, causal=False) for _ in range(_BLOCKS)),
                "mask": nn.Embedding(1, hidden),
                "norm": nn.LayerNorm(hidden),
            }
        )
        prepare(self._module, generator, device)

    def encode(self, vectors: Tensor, packing: Packing) -> Tensor:
        """Encode each sequence, without a look at the item in its hole; see `Encoder`."""
        padded, there = pad(vectors, packing)
        batch, _, hidden = padded.shape
        # One more column at the right, for the mask behind the sequence; a hole inside takes that column's place.
        lengths = there.sum(1)
        holes = torch.from_numpy(packing.holes).to(padded.device)
        appended = holes >= lengths
        states = torch.cat([padded, padded.new_zeros(batch, 1, hidden)], 1)
        there = torch.cat([there, appended[:, None]], 1)
        places = states.shape[1] - 1 - lengths + holes
        masked = torch.arange(states.shape[1], device=padded.device) == places[:, None]
        states = torch.where(masked[:, :, None], self._module["mask"].weight, states)  # type: ignore[arg-type]
        for block in self._module["blocks"]:  # type: ignore[attr-defined]  # a ModuleList, which can be gone through
            states = block(states, there)
        found: Tensor = self._module["norm"](states[torch.arange(batch, device=padded.device), places])
        # What stands last may be the item in the hole.
        return found + self._skip * appended[:, None] * lasts(vectors, packing)

    def weights(self) -> Mapping[str, Tensor]:
        """Return the weights by name; see `Encoder`."""
        return dict(self._module.named_parameters())
