"""The ring of the latest targets against a plain list."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from online_model import latest
from online_model.latest import LatestRows

Additions = st.lists(st.lists(st.integers(0, 50), max_size=9), max_size=12)


def ring(additions: list[list[int]]) -> LatestRows:
    rows = LatestRows()
    for addition in additions:
        rows.add(np.array(addition, np.int64))
    return rows


def drawn(rows: LatestRows, n: int = 40) -> list[int]:
    found: list[int] = rows.draw(n, torch.Generator().manual_seed(1)).tolist()
    return found


@given(Additions)
def test_it_holds_the_latest_and_goes_on_after_a_restart_as_if_there_had_been_none(additions):
    kept, latest.KEPT = latest.KEPT, 16
    try:
        rows, told = ring(additions), [row for addition in additions for row in addition]
        assert rows.state().tolist() == told[-16:]
        assert set(drawn(rows)) <= set(told[-16:])
        assert len(drawn(rows)) == (40 if told else 0)
        restored = LatestRows()
        restored.load_state(rows.state())
        for more in ([], [3, 4], list(range(20))):
            rows.add(np.array(more, np.int64))
            restored.add(np.array(more, np.int64))
            assert drawn(rows) == drawn(restored)
    finally:
        latest.KEPT = kept


def test_all_of_what_is_remembered_is_drawn():
    assert set(drawn(ring([[1, 2, 3]]), 200)) == {1, 2, 3}
    assert drawn(ring([[1]]), 0) == []
