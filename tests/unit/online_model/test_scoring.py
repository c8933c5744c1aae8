import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from online_model.scoring import best_columns, count_at_least, score_catalogue, top_k


def full_sort(scores: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    best, columns = torch.sort(scores, dim=1, descending=True, stable=True)
    return best[:, :k], columns[:, :k]


@settings(deadline=None)
@given(
    n_items=st.one_of(st.integers(0, 300), st.integers(3_000, 9_000)),
    k=st.integers(1, 40),
    levels=st.sampled_from([2, 10, 1_000, 10**9]),
    masked=st.floats(0, 1),
    seed=st.integers(0, 2**31),
)
def test_top_k_equals_a_full_sort_whatever_is_tied_or_left_out(n_items, k, levels, masked, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(levels, (3, n_items), generator=generator).float()
    scores[torch.rand(3, n_items, generator=generator) < masked] = -torch.inf
    before = scores.clone()
    best, columns = top_k(scores, k)
    expected, expected_columns = full_sort(scores, k)
    assert torch.equal(best, expected)
    live = expected.isfinite()
    assert torch.equal(columns[live], expected_columns[live])
    np.testing.assert_array_equal(best_columns(scores, k)[live.numpy()], expected_columns[live].numpy())
    assert torch.equal(scores, before)


def test_equal_scores_on_both_sides_of_the_cut_across_blocks():
    scores = torch.zeros(1, 64 * 100)
    scores[0, 6_000] = 1.0
    best, columns = top_k(scores, 3)
    assert best.tolist() == [[1.0, 0.0, 0.0]]
    assert columns.tolist() == [[6_000, 0, 1]]


@pytest.mark.parametrize("n_items", [1, 64, 4_095, 4_096, 4_097, 10_000])
def test_the_catalogue_is_scored_whole(n_items):
    hidden, vectors, biases = torch.randn(5, 7), torch.randn(n_items, 7), torch.randn(n_items)
    scores = score_catalogue(hidden, vectors, biases)
    assert scores.shape == (5, n_items)
    torch.testing.assert_close(scores, hidden @ vectors.t() + biases)


def test_ties_count():
    scores = torch.tensor([[3.0, 1.0, 3.0, 2.0], [0.0, 0.0, 0.0, -torch.inf]])
    assert count_at_least(scores, torch.tensor([3.0, 0.0])).tolist() == [2, 3]
    assert count_at_least(scores, torch.tensor([2.0, 5.0])).tolist() == [3, 0]


def test_ties_count_in_some_lines_alone():
    scores = torch.tensor([[3.0, 1.0, 3.0, 2.0], [0.0, 0.0, 0.0, -torch.inf], [5.0, 5.0, 5.0, 5.0]])
    for lines, limits, expected in (([2, 0], [5.0, 2.0], [4, 3]), ([1, 1], [0.0, 1.0], [3, 0]), ([], [], [])):
        found = count_at_least(scores, torch.tensor(limits), torch.tensor(lines, dtype=torch.int64))
        assert found.tolist() == expected
        assert found.dtype == torch.int64
