"""Sparse scores, pools of candidates and places in the history, against plain Python."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from online_model.candidates.pool import history_places, pool
from online_model.candidates.queries import queries, visit_keys
from online_model.candidates.scratch import Scratch
from online_model.candidates.sparse import SparseScores
from online_model.protocol import Context

N_ROWS = 9
N_SIGNALS = 2

# Few values, so that many are equal.
Part = st.dictionaries(
    st.integers(0, N_ROWS - 1), st.tuples(*[st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0])] * N_SIGNALS), max_size=N_ROWS
)
Candidates = st.integers(1, 6).flatmap(
    lambda width: arrays.arrays(np.int32, st.tuples(st.integers(1, 4), st.just(width)), elements=st.integers(-1, 8))
)


def sparse(parts: list[dict[int, tuple[float, ...]]]) -> SparseScores:
    return SparseScores(
        np.cumsum([0, *map(len, parts)]).astype(np.int64),
        np.array([row for part in parts for row in part], np.int32),
        np.array([values for part in parts for values in part.values()], np.float32).reshape(-1, N_SIGNALS),
    )


# Compiled parts are loaded within the first example.
@settings(deadline=None)
@given(st.lists(Part, min_size=1, max_size=4), st.integers(0, N_SIGNALS - 1), st.integers(1, 12))
def test_the_best_are_those_of_a_stable_sort(parts, column, n):
    found = sparse(parts).best(column, n)
    assert found.shape == (len(parts), n)
    for line, part in zip(found.tolist(), parts, strict=True):
        positive = sorted((row for row in part if part[row][column] > 0), key=lambda row: -part[row][column])
        assert line == [*positive[:n], *[-1] * (n - len(positive[:n]))]


@settings(deadline=None)
@given(st.lists(Part, min_size=4, max_size=4), Candidates)
def test_a_look_up_finds_what_is_known_and_wipes_its_marks(parts, candidates):
    marks = Scratch().of(N_ROWS)
    found = sparse(parts[: len(candidates)]).look_up(candidates, marks)
    for line, part, rows in zip(found.tolist(), parts, candidates.tolist(), strict=False):
        assert line == [list(part.get(row, (0.0,) * N_SIGNALS)) for row in rows]
    assert not marks.any()


def merged(proposals: list[list[int]], limit: int) -> tuple[list[int], list[int]]:
    """Rows in the order of their first appearance, and the number of the proposal where each stood highest."""
    rows: list[int] = []
    for proposal in proposals:
        for row in proposal:
            if row >= 0 and row not in rows and len(rows) < limit:
                rows.append(row)
    places = [
        min((proposal.index(row), number) for number, proposal in enumerate(proposals) if row in proposal)
        for row in rows
    ]
    return rows, [number for _, number in places]


@settings(deadline=None)
@given(st.data(), st.integers(1, 4), st.integers(1, 12))
def test_a_pool_is_that_of_the_reference(data, n_queries, limit):
    widths = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=4))
    proposals = [
        data.draw(arrays.arrays(np.int32, (n_queries, width), elements=st.integers(-1, N_ROWS - 1))) for width in widths
    ]
    marks = Scratch().of(N_ROWS)
    found = pool(proposals, marks, limit)
    widest = max(1, *(len(merged([p[line].tolist() for p in proposals], limit)[0]) for line in range(n_queries)))
    assert found.rows.shape == found.sources.shape == (n_queries, widest)
    for line in range(n_queries):
        rows, sources = merged([proposal[line].tolist() for proposal in proposals], limit)
        assert found.rows[line].tolist() == [*rows, *[-1] * (widest - len(rows))]
        assert found.sources[line].tolist() == [*sources, *[-1] * (widest - len(rows))]
    assert not marks.any()


def test_a_candidate_comes_from_where_it_stood_highest():
    first, second = np.array([[1, 2, 3]], np.int32), np.array([[3, 2, 4]], np.int32)
    found = pool([first, second], np.zeros(5, np.int64), 10)
    assert found.rows.tolist() == [[1, 2, 3, 4]]
    # Both had 2 in the second place: the earlier proposal counts.
    assert found.sources.tolist() == [[0, 0, 1, 1]]


Histories = st.lists(st.tuples(st.lists(st.integers(-2, 6), max_size=9), st.integers(0, 9)), min_size=4, max_size=4)


def contexts_of(histories: list[tuple[list[int], int]]) -> list[Context]:
    """Contexts after visits to these rows, one each 10 milliseconds; rows below 0 are unknown items."""
    return [
        Context(
            tuple((str(row), "view", 10 * place) for place, row in enumerate(rows)),
            min(sitting, len(rows)),
            10 * len(rows) + 500,
        )
        for rows, sitting in histories
    ]


def row_of(item: str) -> int:
    return max(-1, int(item))


@settings(deadline=None)
@given(Histories, Candidates)
def test_places_count_back_from_the_latest_visit_and_visits_add_up(histories, candidates):
    asked = queries(contexts_of(histories[: len(candidates)]), row_of)
    found = history_places(asked, candidates)
    for line, (rows, sitting), wanted in zip(found.tolist(), histories, candidates.tolist(), strict=False):
        parts = [
            [row for row in reversed(rows[min(sitting, len(rows)) :]) if row >= 0],
            [row for row in reversed(rows[: min(sitting, len(rows))]) if row >= 0],
        ]
        places = [[part.index(row) + 1 if row in part else 0 for part in parts] for row in wanted]
        visits = [sum(part.count(row) for part in parts) for row in wanted]
        assert line == [[*place, n] for place, n in zip(places, visits, strict=True)]


@settings(deadline=None)
@given(Histories)
def test_queries_hold_the_known_items_and_the_last_visit_of_each_sitting(histories):
    contexts = contexts_of(histories)
    asked = queries(contexts, row_of)
    assert len(asked) == len(contexts)
    for place, (rows, sitting) in enumerate(histories):
        cut = min(sitting, len(rows))
        current = asked.rows[asked.starts[place] : asked.starts[place + 1]]
        older = asked.older[asked.older_starts[place] : asked.older_starts[place + 1]]
        assert current.tolist() == [row for row in rows[cut:] if row >= 0]
        assert older.tolist() == [row for row in rows[:cut] if row >= 0]
        last = rows[-1] if cut < len(rows) else -1
        (key,) = visit_keys(np.array([max(-1, last)]), np.array([10 * len(rows) - 10]))
        assert asked.visits[place] == key
        assert (key == 0) == (last < 0)
        assert asked.pauses[place] == (pytest.approx(0.51) if cut < len(rows) else 0.0)


def test_pauses_are_neither_negative_nor_endless():
    visit = (("1", "view", 1_000_000),)
    pauses = queries([Context(visit, 0, 0), Context(visit, 0, 10**13)], row_of).pauses
    assert pauses.tolist() == [0.0, 30 * 86_400.0]


def test_visits_to_other_rows_or_at_other_times_have_other_keys():
    rows, times = np.meshgrid(np.arange(300), np.arange(1_700_000_000_000, 1_700_000_000_300))
    keys = visit_keys(rows.ravel(), times.ravel())
    assert len(set(keys.tolist())) == rows.size


def test_memory_to_write_on_grows_and_stays():
    scratch = Scratch()
    small = scratch.of(10)
    assert scratch.of(len(small)) is small
    large = scratch.of(len(small) + 1)
    assert len(large) > len(small)
    assert not large.any()
    assert scratch.of(3) is large
