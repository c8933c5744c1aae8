"""One gated recurrent layer."""

import numpy as np
import torch
from numba import njit
from torch import Generator, Tensor, nn

from online_model.candidates.queries import Floats
from online_model.encoders.base import Packing
from online_model.encoders.recurrent import RecurrentEncoder

# Of the rational approximation below, odd powers over even ones.
_ODD = tuple(
    np.float32(value)
    for value in (
        4.89352456e-3,
        6.37261929e-4,
        1.48572236e-5,
        5.1222971e-8,
        -8.60467152e-11,
        2.0001879e-13,
        -2.76076848e-16,
    )
)
_EVEN = tuple(np.float32(value) for value in (4.89352519e-3, 2.26843463e-3, 1.18534705e-4, 1.19825839e-6))
_FARTHEST, _HALF = np.float32(7.90531111), np.float32(0.5)


class GRUEncoder(RecurrentEncoder):
    """The gated recurrent unit.

    Where no gradients are wanted its gates are computed in one go: torch takes ten small operations for each step,
    which is most of what a few sequences cost.

    Source: Cho et al. 2014, arXiv:1406.1078.
    """

    def __init__(self, hidden: int, skip: float, device: torch.device, generator: Generator | None = None) -> None:
        super().__init__(nn.GRU(hidden, hidden), skip, device, generator)

    def _states(self, vectors: Tensor, packing: Packing) -> Tensor:
        if torch.is_grad_enabled() or vectors.device.type != "cpu":
            return super()._states(vectors, packing)
        weights = self.weights()
        recurrent, bias = weights["weight_hh_l0"].t(), weights["bias_hh_l0"]
        inputs = torch.addmm(weights["bias_ih_l0"], vectors, weights["weight_ih_l0"].t()).numpy()
        states = vectors.new_zeros(len(packing.order), vectors.shape[1])
        start = 0
        for size in packing.batch_sizes.tolist():
            products = torch.addmm(bias, states[:size], recurrent).numpy()
            _advance(inputs[start : start + size], products, states.numpy())
            start += size
        return states


# No state is NaN; with the other licences loops over numbers side by side become what the processor has for them.
@njit(cache=True, nogil=True, fastmath={"nnan", "nsz", "reassoc", "contract"})
def _advance(inputs: Floats, products: Floats, states: Floats) -> None:
    """Move the first states on by a step, in place: what the inputs and the states say is given, the gates are not."""
    width = states.shape[1]
    for line in range(len(inputs)):
        said, heard, state = inputs[line], products[line], states[line]
        for place in range(width):
            reset = _sigmoid(said[place] + heard[place])
            update = _sigmoid(said[width + place] + heard[width + place])
            fresh = _tanh(said[2 * width + place] + reset * heard[2 * width + place])
            state[place] = fresh + update * (state[place] - fresh)


@njit(cache=True, fastmath={"nnan", "nsz", "reassoc", "contract"})
def _sigmoid(value: np.float32) -> np.float32:
    return _HALF * _tanh(_HALF * value) + _HALF


@njit(cache=True, fastmath={"nnan", "nsz", "reassoc", "contract"})
def _tanh(value: np.float32) -> np.float32:
    """Right to 3e-7: with products alone, so that it is taken of many numbers at once.

    Source: Eigen 3.4, `ptanh` in MathFunctionsImpl.h.
    """
    near = min(max(value, -_FARTHEST), _FARTHEST)
    square = near * near
    odd, even = _ODD[6], _EVEN[3]
    odd = odd * square + _ODD[5]
    odd = odd * square + _ODD[4]
    odd = odd * square + _ODD[3]
    odd = odd * square + _ODD[2]
    odd = odd * square + _ODD[1]
    odd = odd * square + _ODD[0]
    even = even * square + _EVEN[2]
    even = even * square + _EVEN[1]
    even = even * square + _EVEN[0]
    return near * odd / even
