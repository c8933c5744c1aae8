import torch

from online_model.optimizer import DenseAdagrad, RowAdagrad


def test_rows_move_by_adagrad_and_others_stay():
    optimizer = RowAdagrad(0.1, 2, torch.device("cpu"))
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
    optimizer = RowAdagrad(0.1, 2, torch.device("cpu"))
    optimizer.steps(torch.tensor([5]), torch.ones(1, 2), torch.ones(1))
    optimizer.reserve(5_000)
    assert len(optimizer.vectors) >= 5_000
    assert optimizer.vectors[5].tolist() == [1.0, 1.0]
    assert float(optimizer.vectors.sum()) == 2.0


def test_dense_weights_move_by_adagrad():
    weights = {"w": torch.tensor([1.0, 1.0])}
    optimizer = DenseAdagrad(0.5, weights)
    optimizer.apply(weights, {"w": torch.tensor([2.0, 0.0])})
    torch.testing.assert_close(weights["w"], torch.tensor([0.5, 1.0]))
    optimizer.apply(weights, {"w": torch.tensor([2.0, 0.0])})
    torch.testing.assert_close(weights["w"], torch.tensor([0.5 - 0.5 * 2 / 8**0.5, 1.0]))
