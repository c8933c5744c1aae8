"""Adagrad, element by element, with a memory that may fade: on the rows that a step touched, and on dense weights.

Plain Adagrad adds up squared gradients for ever, so that in a stream without end its steps die out. Here the sums may
have a half-life: after a few of these the steps stop shrinking, and what changes late is learned as quickly as what
changed early. With a half-life of h touches they come to rest where plain Adagrad is after h / ln 2 touches.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from online_model.config import ModelConfig
from online_model.table import grow

# Inside the root: the first step of a fresh row is then at most the learning rate, however small its gradient.
_EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class Pace:
    """How long the steps of an Adagrad are, and how they age.

    Attributes:
        learning_rate: Length of the first step of an element.
        half_life: Touches after which a squared gradient counts half; 0 for never.
        floor: The least that a gradient is multiplied with, however much has been summed up; 0 for none.
    """

    learning_rate: float
    half_life: float = 0.0
    floor: float = 0.0

    @classmethod
    def of_rows(cls, config: ModelConfig) -> "Pace":
        """Return the pace of item vectors and biases."""
        return cls(config.learning_rate, config.row_half_life, config.rate_floor)

    @classmethod
    def of_dense(cls, config: ModelConfig) -> "Pace":
        """Return the pace of the encoder's weights."""
        return cls(config.dense_learning_rate, config.dense_half_life, config.rate_floor)

    def advance(self, past: Tensor, gradient: Tensor) -> Tensor:
        """Fade sums of squares and add a gradient's, in place; return them."""
        if self.half_life:
            past.mul_(0.5 ** (1.0 / self.half_life))
        past.addcmul_(gradient, gradient)
        return past.clamp_(max=(self.learning_rate / self.floor) ** 2) if self.floor else past


class RowAdagrad:
    """Squared gradients by row; rows that a step does not touch neither move nor age.

    Source: Duchi et al. 2011, Journal of Machine Learning Research 12. Adam was measured far worse for item vectors.
    """

    def __init__(self, pace: Pace | float, hidden: int, device: torch.device) -> None:
        """Start without a past; a pace that is a number is a learning rate, and nothing ever fades."""
        self._pace = pace if isinstance(pace, Pace) else Pace(pace)
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

    def fade(self, share: float) -> None:
        """Keep only a share of the past of all rows: the steps to come are longer."""
        self.vectors.mul_(share)
        self.biases.mul_(share)

    def steps(self, rows: Tensor, vectors: Tensor, biases: Tensor, pace: float = 1.0) -> tuple[Tensor, Tensor]:
        """Take in the gradients of some rows and return what to add to these.

        Args:
            rows: int64 [n], each row once.
            vectors: Gradients of their vectors, float32 [n, hidden].
            biases: Gradients of their biases, float32 [n].
            pace: Share of the usual length.
        """
        return self._advance(self.vectors, rows, vectors, pace), self._advance(self.biases, rows, biases, pace)

    def _advance(self, squares: Tensor, rows: Tensor, gradient: Tensor, pace: float) -> Tensor:
        past = self._pace.advance(squares.index_select(0, rows), gradient)
        squares.index_copy_(0, rows, past)
        return past.add_(_EPSILON).rsqrt_().mul_(gradient).mul_(-self._pace.learning_rate * pace)


class DenseAdagrad:
    """The same for weights that every step touches."""

    def __init__(self, pace: Pace, weights: Mapping[str, Tensor]) -> None:
        self._pace = pace
        self.squares = {name: torch.zeros_like(weight, requires_grad=False) for name, weight in weights.items()}

    def fade(self, share: float) -> None:
        """Keep only a share of the past."""
        for squares in self.squares.values():
            squares.mul_(share)

    @torch.no_grad()
    def apply(self, weights: Mapping[str, Tensor], gradients: Mapping[str, Tensor], pace: float = 1.0) -> None:
        """Move the weights against their gradients, in place, by a share of the usual length."""
        for name, gradient in gradients.items():
            squares = self._pace.advance(self.squares[name], gradient)
            weights[name].addcdiv_(gradient, (squares + _EPSILON).sqrt_(), value=-self._pace.learning_rate * pace)
