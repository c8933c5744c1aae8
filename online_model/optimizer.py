"""Adagrad, element by element: on the rows of a table that a step touched, and on dense weights."""

from collections.abc import Mapping

import torch
from torch import Tensor

from online_model.table import grow

# Inside the root: the first step of a fresh row is then at most the learning rate, however small its gradient.
_EPSILON = 1e-6


class RowAdagrad:
    """Squared gradients by row; rows that a step does not touch neither move nor age.

    Source: Duchi et al. 2011, Journal of Machine Learning Research 12. Adam was measured far worse for item vectors.
    """

    def __init__(self, learning_rate: float, hidden: int, device: torch.device) -> None:
        self._learning_rate = learning_rate
        self.vectors = torch.zeros(1024, hidden, device=device)
        self.biases = torch.zeros(1024, device=device)

    def reserve(self, n_rows: int) -> None:
        """Make room for the rows of a table that grew; new ones have no past."""
        if n_rows > len(self.vectors):
            room = max(n_rows, 2 * len(self.vectors))
            self.vectors, self.biases = grow(self.vectors, room), grow(self.biases, room)

    def forget(self, rows: Tensor) -> None:
        """Clear the past of rows that get a new tenant, int64 [n]."""
        self.vectors[rows] = 0.0
        self.biases[rows] = 0.0

    def steps(self, rows: Tensor, vectors: Tensor, biases: Tensor) -> tuple[Tensor, Tensor]:
        """Take in the gradients of some rows and return what to add to these.

        Args:
            rows: int64 [n], each row once.
            vectors: Gradients of their vectors, float32 [n, hidden].
            biases: Gradients of their biases, float32 [n].
        """
        return (
            _advance(self.vectors, rows, vectors, self._learning_rate),
            _advance(self.biases, rows, biases, self._learning_rate),
        )


class DenseAdagrad:
    """The same for weights that every step touches."""

    def __init__(self, learning_rate: float, weights: Mapping[str, Tensor]) -> None:
        self._learning_rate = learning_rate
        self.squares = {name: torch.zeros_like(weight, requires_grad=False) for name, weight in weights.items()}

    @torch.no_grad()
    def apply(self, weights: Mapping[str, Tensor], gradients: Mapping[str, Tensor]) -> None:
        """Move the weights against their gradients, in place."""
        for name, gradient in gradients.items():
            squares = self.squares[name].addcmul_(gradient, gradient)
            weights[name].addcdiv_(gradient, (squares + _EPSILON).sqrt_(), value=-self._learning_rate)


def _advance(squares: Tensor, rows: Tensor, gradient: Tensor, learning_rate: float) -> Tensor:
    past = squares.index_select(0, rows).addcmul_(gradient, gradient)
    squares.index_copy_(0, rows, past)
    return past.add_(_EPSILON).rsqrt_().mul_(gradient).mul_(-learning_rate)
