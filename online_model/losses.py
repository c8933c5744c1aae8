"""Loss functions over scores of targets and shared negatives."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_TINY = 1e-24
_FAR_BELOW = -1e9


class _BPRMax(torch.autograd.Function):
    """BPR-max with its gradient in closed form: a third of the passes over the scores that autograd would make."""

    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, positive: Tensor, left_out: Tensor, weights: Tensor, regularisation: float, elu: float
    ) -> Tensor:
        activated, slope = _activate(scores, elu) if elu else (scores, None)
        target = activated.gather(1, positive)
        share = activated.masked_fill(left_out, _FAR_BELOW).softmax(1)
        beaten = torch.sigmoid(target - activated)
        square = activated * activated
        won = (beaten * share).sum(1, keepdim=True) + _TINY
        penalty = (square * share).sum(1, keepdim=True)
        loss = (regularisation * penalty - won.log()).squeeze(1)

        # d loss / d activated, through the pair (target, negative), the softmax and the penalty at once
        gradient = square.sub_(penalty).add_(activated, alpha=2.0).mul_(regularisation).add_(1.0)
        lost = beaten * beaten
        gradient.addcdiv_(lost, won, value=-1.0).mul_(share)
        pull = ((lost - beaten) * share).sum(1, keepdim=True) / won
        gradient.scatter_(1, positive, pull)
        if slope is not None:
            gradient.mul_(slope)
        ctx.save_for_backward(gradient.mul_(weights[:, None]))
        return loss * weights

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream[:, None], None, None, None, None, None


def _activate(scores: Tensor, elu: float) -> tuple[Tensor, Tensor]:
    """The exponential linear unit and its derivative; torch's own takes several times as long over expm1."""
    falling = scores.clamp(max=0.0).exp_()
    activated = scores.clamp(min=0.0).add_(falling, alpha=elu).sub_(elu)
    return activated, falling if elu == 1.0 else torch.where(scores > 0, 1.0, falling * elu)


def bpr_max(
    scores: Tensor, positive: Tensor, left_out: Tensor, weights: Tensor, *, regularisation: float, elu: float
) -> Tensor:
    """Bayesian personalised ranking against negatives weighted by how high they score, on activated scores.

    Args:
        scores: Raw scores of all candidates, float32 [batch, n_candidates].
        positive: Column of each target, int64 [batch].
        left_out: True where a candidate is no negative of this target, as the target itself is none,
            bool [batch, n_candidates].
        weights: Weight of each target, float32 [batch].
        regularisation: Weight of the negatives' squared scores.
        elu: Slope parameter of the activation; 0 for none.

    Returns:
        Weighted loss of each target, float32 [batch]; differentiable once, in `scores`.

    Source: Hidasi and Karatzoglou 2018, arXiv:1706.03847, section 3.3.
    """
    loss: Tensor = _BPRMax.apply(scores, positive[:, None], left_out, weights, regularisation, elu)
    return loss


def push_down(scores: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted loss of items that people turned away from: it falls with their score, ever more slowly.

    Args:
        scores: Raw score of each such item, float32 [batch].
        weights: Weight of each, float32 [batch].
    """
    return functional.softplus(scores) * weights
