import pytest
import torch

from online_model.adam import Adam

SHAPES = {"first": (4, 3), "second": (5,), "scale": (1,)}


def weights(seed: int = 1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


def gradients(n_steps: int) -> list[dict[str, torch.Tensor]]:
    """Of sizes far apart, now and then all zeros."""
    generator = torch.Generator().manual_seed(2)
    return [
        {
            name: torch.randn(shape, generator=generator) * (0.0 if step % 7 == 3 else 10.0 ** (step % 5 - 3))
            for name, shape in SHAPES.items()
        }
        for step in range(n_steps)
    ]


@pytest.mark.parametrize("rate", [0.002, 0.5])
def test_steps_are_those_of_torch(rate):
    """Of the kernel behind `torch.optim.Adam(fused=True)`: the class loads torch's compiler, for several seconds."""
    ours, theirs = weights(), weights()
    adam = Adam(rate, ours)
    moments = [{name: torch.zeros(shape) for name, shape in SHAPES.items()} for _ in range(2)]
    facts = {"lr": rate, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
    off = {"weight_decay": 0.0, "amsgrad": False, "maximize": False}
    for number, step in enumerate(gradients(60), 1):
        adam.apply(ours, step)
        parts = [list(part.values()) for part in (theirs, step, *moments)]
        torch._fused_adam_(*parts, [], [torch.tensor(float(number))] * len(SHAPES), **facts, **off)
        for name, weight in theirs.items():
            assert torch.allclose(ours[name], weight, rtol=1e-5, atol=1e-6), (number, name)


def test_a_first_step_is_the_learning_rate_whatever_its_gradient():
    weight = {"w": torch.zeros(3)}
    Adam(0.1, weight).apply(weight, {"w": torch.tensor([7.0, -1e-3, 0.0])})
    assert weight["w"].tolist() == pytest.approx([-0.1, 0.1, 0.0], rel=1e-4)


def test_save_load_continue_equals_never_stopping():
    one, other = weights(), weights()
    steps = gradients(20)
    adam, resumed = Adam(0.01, one), Adam(0.01, other)
    for step in steps[:9]:
        adam.apply(one, step)
    state = adam.state()
    kept = {name: tensor.clone() for name, tensor in state.tensors.items()}
    resumed.load_state(state)
    other = {name: weight.clone() for name, weight in one.items()}
    for step in steps[9:]:
        adam.apply(one, step)
        resumed.apply(other, step)
    for name, weight in one.items():
        assert weight.equal(other[name])
    for name, tensor in state.tensors.items():
        assert tensor.equal(kept[name]), "a saved state is a copy"
    assert resumed.state().metadata == adam.state().metadata == {"n_steps": 20}


def test_gradients_are_left_untouched():
    weight, gradient = {"w": torch.zeros(3)}, torch.tensor([1.0, 2.0, 3.0])
    Adam(0.1, weight).apply(weight, {"w": gradient})
    assert gradient.tolist() == [1.0, 2.0, 3.0]
