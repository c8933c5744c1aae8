import pytest
import torch
from torch.nn import functional

from online_model.losses import bpr_max, push_down


def plain(scores, positive, left_out, weights, regularisation, elu):
    """The loss as the paper has it, its gradient left to autograd."""
    activated = functional.elu(scores, elu) if elu else scores
    share = activated.masked_fill(left_out, -torch.inf).softmax(1)
    target = activated.gather(1, positive[:, None])
    won = (torch.sigmoid(target - activated) * share).sum(1)
    return weights * (regularisation * (activated**2 * share).sum(1) - won.log())


@pytest.mark.parametrize("elu", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("regularisation", [0.0, 1.5])
def test_bpr_max_and_its_gradient_are_those_of_the_formula(elu, regularisation):
    generator = torch.Generator().manual_seed(3)
    scores = (3 * torch.randn(6, 40, generator=generator, dtype=torch.float64)).requires_grad_()
    positive = torch.tensor([0, 5, 5, 39, 1, 2])
    left_out = torch.zeros(6, 40, dtype=torch.bool).scatter_(1, positive[:, None], True)
    left_out[2, 7] = True
    weights = torch.tensor([1.0, 0.5, 2.0, 1.0, 0.0, 1.0], dtype=torch.float64)
    loss = bpr_max(scores, positive, left_out, weights, regularisation=regularisation, elu=elu)
    expected = plain(scores, positive, left_out, weights, regularisation, elu)
    torch.testing.assert_close(loss, expected)
    upstream = torch.arange(1.0, 7.0, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((loss * upstream).sum(), scores)
    (by_autograd,) = torch.autograd.grad((expected * upstream).sum(), scores)
    torch.testing.assert_close(gradient, by_autograd)
    assert gradient[2, 7] == 0


def test_the_callers_scores_are_left_untouched():
    scores = torch.randn(2, 5)
    before = scores.clone()
    left_out = torch.zeros(2, 5, dtype=torch.bool).scatter_(1, torch.tensor([[0], [1]]), True)
    bpr_max(scores, torch.tensor([0, 1]), left_out, torch.ones(2), regularisation=1.0, elu=0.0)
    assert torch.equal(scores, before)


def test_what_people_turned_away_from_is_pushed_down_ever_more_slowly():
    scores = torch.tensor([-8.0, 0.0, 8.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(push_down(scores, torch.ones(3)).sum(), scores)
    assert 0 < gradient[0] < gradient[1] < gradient[2] < 1
