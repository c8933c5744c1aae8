import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from online_model.candidates.queries import queries
from online_model.candidates.similarity import SIMILARITIES, on_device, similarities
from online_model.protocol import Context

N_ITEMS = 12
VECTORS = torch.randn(N_ITEMS, 5, generator=torch.Generator().manual_seed(1))


def compared(sittings: list[list[int]], candidates: list[list[int]], vectors: torch.Tensor = VECTORS):
    asked = queries([Context(tuple((str(row), "view", 0) for row in rows)) for rows in sittings], int)
    rows = np.array(candidates, np.int32)
    found, elsewhere = similarities(vectors, asked, rows), on_device(vectors, asked, rows)
    np.testing.assert_allclose(elsewhere[rows >= 0], found[rows >= 0], atol=1e-5)
    return found


@settings(deadline=None)
@given(
    st.lists(st.lists(st.integers(0, N_ITEMS - 1), min_size=1, max_size=14), min_size=1, max_size=4),
    st.integers(1, 5),
    st.randoms(use_true_random=False),
)
def test_cosines_are_those_of_plain_numpy(sittings, n_candidates, chance):
    candidates = [[chance.randrange(-1, N_ITEMS) for _ in range(n_candidates)] for _ in sittings]
    found = compared(sittings, candidates)
    assert found.shape == (len(sittings), n_candidates, len(SIMILARITIES))
    assert found.dtype == np.float32
    units = VECTORS.numpy() / np.linalg.norm(VECTORS.numpy(), axis=1, keepdims=True)
    for rows, line, pairs in zip(sittings, candidates, found, strict=True):
        for candidate, pair in zip(line, pairs, strict=True):
            if candidate >= 0:
                cosines = units[rows[-10:]] @ units[candidate]
                assert pair.tolist() == pytest.approx([cosines.max(), cosines[-1]], abs=1e-5)


def test_one_beside_longer_sittings_is_compared_with_its_own_items_alone():
    alone = compared([[3]], [[4, 5, 3]])
    beside = compared([[3], list(range(12))], [[4, 5, 3], [0, 1, 2]])
    np.testing.assert_allclose(beside[:1], alone, atol=1e-6)
    # All against one item: the nearest is that one, even where it points the other way.
    np.testing.assert_allclose(alone[..., 0], alone[..., 1])
    assert alone[0, 2].tolist() == pytest.approx([1.0, 1.0])


def test_items_beyond_the_last_ten_are_too_far_back():
    vectors = torch.eye(N_ITEMS)
    assert compared([[0, *[1] * 9]], [[0]], vectors).tolist() == [[[1.0, 0.0]]]
    assert compared([[0, *[1] * 10]], [[0]], vectors).tolist() == [[[0.0, 0.0]]]


def test_a_vector_of_zeros_is_near_nothing():
    vectors = torch.zeros(3, 4)
    vectors[1] = 1.0
    found = compared([[0], [1]], [[0, 1, -1], [0, 1, -1]], vectors)
    assert np.isfinite(found).all()
    assert found[0].tolist() == [[0.0, 0.0]] * 3
    assert found[1, 0].tolist() == [0.0, 0.0]
    assert found[1, 1].tolist() == pytest.approx([1.0, 1.0])


def test_vectors_are_left_untouched():
    before = VECTORS.clone()
    compared([[0, 1], [2]], [[1, 2], [3, -1]])
    assert VECTORS.equal(before)


def test_an_empty_sitting_is_near_nothing():
    found = compared([[], [3]], [[0, 1, -1], [3, 4, 5]])
    assert not found[0].any()
    np.testing.assert_allclose(found[1:], compared([[3]], [[3, 4, 5]]), atol=1e-6)
