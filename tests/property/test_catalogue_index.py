"""The index over a catalogue whose vectors move, whose rows change hands and which grows: against scoring all of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from online_model.config import ModelConfig
from online_model.index.catalogue import CatalogueIndex
from online_model.index.cells import Cells
from online_model.index.quantiser import Quantiser, train
from online_model.table import ItemTable

HIDDEN = 6
CPU = torch.device("cpu")

# Rows written, and by how much they move; or how many new ones come.
Acts = st.lists(
    st.one_of(
        st.tuples(st.lists(st.integers(0, 39), min_size=1, max_size=20, unique=True), st.floats(0.0, 2.0)),
        st.integers(1, 30),
        st.just("ask"),
        st.just("train"),
        st.just("aside"),
    ),
    max_size=12,
)


def drawn(n: int, scale: float, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(n, HIDDEN, generator=generator) * scale, torch.randn(n, generator=generator) * 0.1


@settings(max_examples=60, deadline=None)
@given(Acts, st.integers(1, 90), st.integers(0, 2**31))
def test_whatever_moved_lists_are_full_of_live_rows_with_scores_of_now(monkeypatch_aside, acts, n, seed):
    """Red without `_note` in `ItemTable._mirror`: rows stay in the cells of vectors that they no longer have."""
    generator = torch.Generator().manual_seed(seed)
    table = ItemTable(HIDDEN, CPU)
    table.write(torch.arange(40), *drawn(40, 1.0, generator))
    index = CatalogueIndex(ModelConfig(hidden=HIDDEN, index_from=1, device="cpu"), table)
    index.learned(0, 1)
    for number, act in enumerate(acts):
        if isinstance(act, tuple):
            rows, scale = torch.tensor(act[0]), act[1]
            # By steps, and by new tenants of rows that others gave up.
            (table.add if number % 2 else table.write)(rows, *drawn(len(rows), scale, generator))
        elif isinstance(act, int):
            table.write(torch.arange(table.n_rows, table.n_rows + act), *drawn(act, 1.0, generator))
        elif act == "ask":
            index.search(torch.zeros(1, HIDDEN), 1)
        else:
            made = train(table.vectors, table.biases, version=number, seed=1)
            index.adopt(made, aside=act == "aside")
    hidden = drawn(3, 1.0, generator)[0]
    found, scores = index.search(hidden, n)
    exact = hidden @ table.vectors.t() + table.biases
    assert found.shape == (3, min(n, table.n_rows))
    for line in range(3):
        assert len({*found[line].tolist()}) == found.shape[1]
        assert 0 <= found[line].min() <= found[line].max() < table.n_rows
        assert np.allclose(scores[line], exact[line].numpy()[found[line]], atol=1e-4)
        assert (np.diff(scores[line]) <= 0).all()
    # So few items are all scored.
    best = exact.topk(min(n, table.n_rows), dim=1).values.numpy()
    assert np.allclose(scores, best, atol=1e-4)
    assert _of_every_row(index).tolist() == index._catch_up()[0].cells(table.vectors, table.biases).tolist()


@pytest.fixture(scope="module", name="monkeypatch_aside")
def _aside() -> object:
    """Small catalogues are put into new cells in another thread too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("online_model.index.catalogue._ASIDE_FROM", 1)
        yield


def _of_every_row(index: CatalogueIndex) -> np.ndarray:
    return index._catch_up()[1].of_rows


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3)), max_size=60), st.integers(0, 20))
def test_cells_hold_each_row_once_where_it_was_put_last(moves, n_rows):
    cells = Cells(np.zeros(n_rows, np.int32), 4)
    where = dict.fromkeys(range(n_rows), 0)
    for row, cell in moves:
        row = min(row, len(where))  # new ones leave no hole
        where[row] = cell
        cells.move(np.array([row]), np.array([cell], np.int32))
    held = [sorted(cells.members(cell).tolist()) for cell in range(4)]
    assert held == [sorted(row for row in where if where[row] == cell) for cell in range(4)]


def clustered(n_items: int, seed: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Vectors in groups, most of them hardly taught, and states that look for a group."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(40, 32, generator=generator)
    group = torch.randint(40, (n_items,), generator=generator)
    taught = torch.rand(n_items, generator=generator) ** 6
    vectors = centres[group] * taught[:, None] * 0.5 + torch.randn(n_items, 32, generator=generator) * 0.1
    states = centres[:32] + torch.randn(32, 32, generator=generator) * 0.5
    return vectors, torch.randn(n_items, generator=generator) * 0.05, states


def test_nearly_all_of_the_best_are_found_and_still_are_after_vectors_have_moved():
    vectors, biases, states = clustered(20_000)
    table = ItemTable(32, CPU)
    table.write(torch.arange(len(vectors)), vectors, biases)
    index = CatalogueIndex(ModelConfig(hidden=32, index_from=1, device="cpu"), table)
    index.learned(0, 1)
    for _ in range(2):
        found, _ = index.search(states, 50)
        best = (states @ table.vectors.t() + table.biases).topk(50, dim=1).indices.numpy()
        shares = [len({*one.tolist()} & {*other.tolist()}) / 50 for one, other in zip(found, best, strict=True)]
        assert np.mean(shares) > 0.95
        # Half of them end up somewhere else; the cells are as they were.
        rows = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(1))[: len(vectors) // 2]
        table.write(rows, vectors[rows.roll(1)], biases[rows.roll(1)])


def test_cells_depend_on_the_weights_alone_and_survive_their_tensors():
    vectors, biases, states = clustered(2_000)
    made = train(vectors, biases, version=7, seed=1)
    again = Quantiser.from_tensors(train(vectors, biases, version=7, seed=1).tensors())
    assert again is not None
    assert (again.n_items, again.version, again.n_cells) == (2_000, 7, made.n_cells)
    assert np.array_equal(made.order(states), again.order(states))
    assert np.array_equal(made.cells(vectors, biases), again.cells(vectors, biases))


def test_an_index_is_asked_from_the_size_that_was_set():
    table = ItemTable(HIDDEN, CPU)
    config = ModelConfig(hidden=HIDDEN, index_from=20, device="cpu")
    index, never = CatalogueIndex(config, table), CatalogueIndex(replace(config, index_from=0), table)
    table.write(torch.arange(19), torch.ones(19, HIDDEN), torch.zeros(19))
    index.learned(19, 1)
    assert not index.active
    table.write(torch.arange(19, 20), torch.ones(1, HIDDEN), torch.zeros(1))
    for one in (index, never):
        one.learned(1, 2)
    assert index.active
    assert not never.active
