"""One gated recurrent layer."""

import torch
from torch import Generator, nn

from online_model.encoders.recurrent import RecurrentEncoder


class GRUEncoder(RecurrentEncoder):
    """The gated recurrent unit.

    Source: Cho et al. 2014, arXiv:1406.1078.
    """

    def __init__(self, hidden: int, skip: float, device: torch.device, generator: Generator | None = None) -> None:
        super().__init__(nn.GRU(hidden, hidden), skip, device, generator)
