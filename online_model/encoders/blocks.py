"""The block that both Transformers are made of."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Block(nn.Module):
    """Attention between the items of a sequence and a small network on each, both added to what comes in.

    Positions enter as a learned bias for each head and distance, so that a sequence means the same wherever it stands
    in the rectangle.

    Source: Vaswani et al. 2017, arXiv:1706.03762; norms before, as in Xiong et al. 2020, arXiv:2002.04745; distances
    as in Raffel et al. 2020, arXiv:1910.10683, section 2.1.
    """

    def __init__(self, hidden: int, reach: int, *, causal: bool) -> None:
        """Build a block.

        Args:
            hidden: Width.
            reach: Distances beyond this one are treated alike.
            causal: Let an item look only at itself and at those before it.
        """
        super().__init__()
        self._n_heads = 2 if hidden % 2 == 0 else 1
        self._reach = reach
        self._causal = causal
        self.attention_norm = nn.LayerNorm(hidden)
        self.mixing = nn.Linear(hidden, 3 * hidden)
        self.attended = nn.Linear(hidden, hidden)
        self.distances = nn.Parameter(torch.zeros((2 * reach + 1) * self._n_heads))
        self.network_norm = nn.LayerNorm(hidden)
        self.widening = nn.Linear(hidden, 2 * hidden)
        self.narrowing = nn.Linear(2 * hidden, hidden)

    def forward(self, states: Tensor, there: Tensor) -> Tensor:
        """Return the next states, [batch, longest, hidden]; `there` tells items from padding, bool [batch, longest]."""
        states = states + self.attended(self._attend(self.attention_norm(states), there))
        heard: Tensor = states + self.narrowing(functional.gelu(self.widening(self.network_norm(states))))
        return heard

    def _attend(self, states: Tensor, there: Tensor) -> Tensor:
        batch, longest, hidden = states.shape
        heads = self.mixing(states).view(batch, longest, 3, self._n_heads, -1).permute(2, 0, 3, 1, 4)
        steps = torch.arange(longest, device=states.device)
        away = steps[None, :] - steps[:, None]
        far = away.clamp(-self._reach, self._reach) + self._reach
        bias = self.distances.view(-1, self._n_heads)[far].permute(2, 0, 1)
        seen = there[:, None, None, :] & (away <= 0) if self._causal else there[:, None, None, :]
        # Padding may look at itself: a row without anything to look at would be NaN.
        seen = seen | (away == 0)
        mask = bias[None].masked_fill(~seen, -torch.inf)
        mixed = functional.scaled_dot_product_attention(heads[0], heads[1], heads[2], attn_mask=mask)
        return mixed.transpose(1, 2).reshape(batch, longest, hidden)
