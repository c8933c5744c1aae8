"""One long short-term memory layer."""

import torch
from torch import Generator, nn

from online_model.encoders.recurrent import RecurrentEncoder


class LSTMEncoder(RecurrentEncoder):
    """The long short-term memory.

    Source: Hochreiter and Schmidhuber 1997, Neural Computation 9.
    """

    def __init__(self, hidden: int, skip: float, device: torch.device, generator: Generator | None = None) -> None:
        super().__init__(nn.LSTM(hidden, hidden), skip, device, generator)
