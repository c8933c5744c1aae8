"""Adam for a handful of small weights."""

from collections.abc import Mapping

import torch
from torch import Tensor

from online_model.protocol import State

_BETAS = (0.9, 0.999)
_EPSILON = 1e-8


class Adam:
    """Adam over named weights.

    torch's own does the same but imports torch's compiler with its first step, which takes five seconds of every start.

    Source: Kingma and Ba 2015, arXiv:1412.6980, algorithm 1.
    """

    def __init__(self, learning_rate: float, weights: Mapping[str, Tensor]) -> None:
        self._learning_rate = learning_rate
        self._n_steps = 0
        self._means = {name: torch.zeros_like(weight, requires_grad=False) for name, weight in weights.items()}
        self._squares = {name: torch.zeros_like(weight, requires_grad=False) for name, weight in weights.items()}

    @torch.no_grad()
    def apply(self, weights: Mapping[str, Tensor], gradients: Mapping[str, Tensor], pace: float = 1.0) -> None:
        """Move the weights against their gradients, in place, by a share of the usual length."""
        self._n_steps += 1
        first, second = (1.0 - beta**self._n_steps for beta in _BETAS)
        for name, gradient in gradients.items():
            mean = self._means[name].lerp_(gradient, 1.0 - _BETAS[0])
            square = self._squares[name].mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1.0 - _BETAS[1])
            weights[name].addcdiv_(
                mean, (square / second).sqrt_().add_(_EPSILON), value=-self._learning_rate * pace / first
            )

    def state(self) -> State:
        """Return a copy of all moments."""
        tensors = {f"mean.{name}": mean.clone() for name, mean in self._means.items()}
        tensors |= {f"square.{name}": square.clone() for name, square in self._squares.items()}
        return State(tensors, {"n_steps": self._n_steps})

    def load_state(self, state: State) -> None:
        """Become the optimizer that `state` was taken from."""
        for name in self._means:
            self._means[name].copy_(state.tensors[f"mean.{name}"])
            self._squares[name].copy_(state.tensors[f"square.{name}"])
        self._n_steps = int(str(state.metadata["n_steps"]))
