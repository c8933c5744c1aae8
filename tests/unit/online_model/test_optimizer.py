import pytest
import torch

from online_model.optimizer import DenseAdagrad, Pace, RowAdagrad

CPU = torch.device("cpu")


def test_rows_move_by_adagrad_and_others_stay():
    optimizer = RowAdagrad(Pace(0.1), 2, CPU)
    rows = torch.tensor([1, 3])
    first = optimizer.steps(rows, torch.tensor([[3.0, 0.0], [1.0, -1.0]]), torch.tensor([2.0, 0.0]))
    # The first step of an element is the learning rate, whatever its gradient; no gradient, no step.
    torch.testing.assert_close(first[0], torch.tensor([[-0.1, 0.0], [-0.1, 0.1]]))
    torch.testing.assert_close(first[1], torch.tensor([-0.1, 0.0]))
    second = optimizer.steps(torch.tensor([1]), torch.tensor([[4.0, 1.0]]), torch.tensor([0.0]))
    torch.testing.assert_close(second[0], torch.tensor([[-0.1 * 4 / 5, -0.1]]))
    assert optimizer.vectors[3].tolist() == [1.0, 1.0]
    assert not optimizer.vectors[[0, 2]].any()


def test_growing_keeps_the_past_and_new_rows_have_none():
    optimizer = RowAdagrad(Pace(0.1), 2, CPU)
    optimizer.steps(torch.tensor([5]), torch.ones(1, 2), torch.ones(1))
    optimizer.reserve(5_000)
    assert len(optimizer.vectors) >= 5_000
    assert optimizer.vectors[5].tolist() == [1.0, 1.0]
    assert float(optimizer.vectors.sum()) == 2.0


def test_dense_weights_move_by_adagrad():
    weights = {"w": torch.tensor([1.0, 1.0])}
    optimizer = DenseAdagrad(Pace(0.5), weights)
    optimizer.apply(weights, {"w": torch.tensor([2.0, 0.0])})
    torch.testing.assert_close(weights["w"], torch.tensor([0.5, 1.0]))
    optimizer.apply(weights, {"w": torch.tensor([2.0, 0.0])})
    torch.testing.assert_close(weights["w"], torch.tensor([0.5 - 0.5 * 2 / 8**0.5, 1.0]))


def test_only_a_touch_lets_a_row_fade_by_its_half_life():
    optimizer = RowAdagrad(Pace(0.1, half_life=2), 1, CPU)
    optimizer.steps(torch.tensor([0, 1]), torch.full((2, 1), 4.0), torch.full((2,), 2.0))
    for _ in range(2):
        optimizer.steps(torch.tensor([1]), torch.zeros(1, 1), torch.zeros(1))
    assert optimizer.vectors[0].item() == 16.0
    assert optimizer.vectors[1].item() == pytest.approx(8.0)
    assert optimizer.biases[1].item() == pytest.approx(2.0)


@pytest.mark.parametrize("half_life", [10.0, 50.0])
def test_steps_come_to_rest_where_plain_ones_are_after_the_half_life_over_ln_2(half_life):
    weights = {"w": torch.zeros(1)}
    optimizer = DenseAdagrad(Pace(1.0, half_life), weights)
    gradient = {"w": torch.ones(1)}
    for _ in range(20 * int(half_life)):
        optimizer.apply(weights, gradient)
    before = weights["w"].item()
    optimizer.apply(weights, gradient)
    at_rest = (torch.log(torch.tensor(2.0)).item() / half_life) ** 0.5
    assert before - weights["w"].item() == pytest.approx(at_rest, rel=0.05)


def test_plain_steps_die_out_and_a_floor_keeps_them_alive():
    gradient = {"w": torch.ones(1)}
    lengths = {}
    for floor in (0.0, 0.05):
        weights = {"w": torch.zeros(1)}
        optimizer = DenseAdagrad(Pace(0.5, floor=floor), weights)
        for _ in range(1_000):
            before = weights["w"].item()
            optimizer.apply(weights, gradient)
        lengths[floor] = before - weights["w"].item()
    assert lengths[0.0] == pytest.approx(0.5 / 1_000**0.5, rel=1e-3)
    assert lengths[0.05] == pytest.approx(0.05, rel=1e-3)


def test_a_faded_past_makes_longer_steps():
    rows, dense = RowAdagrad(Pace(0.1), 1, CPU), DenseAdagrad(Pace(0.1), {"w": torch.zeros(1)})
    rows.steps(torch.tensor([0]), torch.ones(1, 1), torch.ones(1))
    dense.apply({"w": torch.zeros(1)}, {"w": torch.ones(1)})
    rows.fade(0.25)
    dense.fade(0.25)
    assert (rows.vectors[0].item(), rows.biases[0].item(), dense.squares["w"].item()) == (0.25, 0.25, 0.25)
