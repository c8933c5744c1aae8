"""One plain recurrent layer."""

import torch
from torch import Generator, nn

from online_model.encoders.recurrent import RecurrentEncoder


class RNNEncoder(RecurrentEncoder):
    """The plain recurrent network, with the hyperbolic tangent.

    Source: Elman 1990, Cognitive Science 14.
    """

    def __init__(self, hidden: int, skip: float, device: torch.device, generator: Generator | None = None) -> None:
        super().__init__(nn.RNN(hidden, hidden), skip, device, generator)
