"""The vocabulary against a slow model of it that keeps lists."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from online_model.vocabulary import Vocabulary

ids = st.one_of(st.integers(0, 12), st.integers(0, 60)).map(str)
# A loaded machine is no reason to fail: no example has a deadline.
unhurried = settings(deadline=None)
streams = st.lists(st.lists(ids, max_size=12), max_size=30)


def sound(vocabulary: Vocabulary) -> None:
    index = vocabulary.index
    assert len(index.ids) == len(set(index.ids)) == len(index.rows) <= vocabulary.max_items
    assert all(index.rows[item] == row for row, item in enumerate(index.ids))
    state = vocabulary.state().tensors
    assert sorted([*state["probation"].tolist(), *state["settled"].tolist()]) == list(range(len(index)))


@unhurried
@given(streams, st.integers(2, 30), st.integers(1, 3), st.floats(0.05, 1))
def test_rows_and_ids_stay_one_to_one(stream, max_items, admit_after, share):
    vocabulary = Vocabulary(max_items, admit_after, share)
    tenants: dict[int, str] = {}
    for batch in stream:
        plan = vocabulary.plan(batch)
        before = dict(vocabulary.index.rows)
        assert not set(plan.births) & set(before)
        assert set(plan.evicted) <= set(before)
        assert not set(plan.evicted) & set(batch)
        vocabulary.commit(plan)
        sound(vocabulary)
        for item, row in plan.evicted.items():
            assert tenants[row] == item
        tenants |= {row: item for item, row in plan.births.items()}
        assert tenants == dict(enumerate(vocabulary.index.ids))
        # What neither entered nor left has kept its row.
        assert all(vocabulary.index.rows[item] == row for item, row in before.items() if item not in plan.evicted)
        assert all(plan.row(item) == vocabulary.index.rows.get(item, -1) for item in {*batch, *before})


@unhurried
@given(streams, st.integers(2, 30), st.integers(1, 3))
def test_planning_changes_nothing_and_state_tells_all(stream, max_items, admit_after):
    one, other = Vocabulary(max_items, admit_after), Vocabulary(max_items, admit_after)
    for batch in stream:
        one.plan(["something", "else"])
        one.commit(one.plan(batch))
        fresh = Vocabulary(max_items, admit_after)
        fresh.load_state(other.state())
        fresh.commit(fresh.plan(batch))
        other = fresh
        mine, its = one.state(), other.state()
        assert mine.metadata == its.metadata
        assert all(torch.equal(tensor, its.tensors[name]) for name, tensor in mine.tensors.items())


@unhurried
@given(streams, st.integers(2, 30), st.integers(1, 3))
def test_letting_in_first_makes_no_difference(stream, max_items, admit_after):
    one, other = Vocabulary(max_items, admit_after), Vocabulary(max_items, admit_after)
    for batch in stream:
        one.commit(one.plan(batch))
        other.commit(other.plan(batch), count_sightings=False)
        plan = other.plan(batch)
        # A batch with more new ids than there is room for lets in the rest on the second occasion at the earliest.
        if plan.births:
            return
        other.commit(plan)
        assert one.state().tensors.keys() == other.state().tensors.keys()
        for name, tensor in one.state().tensors.items():
            assert torch.equal(tensor, other.state().tensors[name]), name


@unhurried
@given(st.lists(ids, max_size=100), st.integers(1, 4))
def test_admission_takes_as_many_sightings_as_asked(stream, admit_after):
    vocabulary = Vocabulary(1_000, admit_after)
    seen: Counter[str] = Counter()
    for item in stream:
        vocabulary.commit(vocabulary.plan([item]))
        seen[item] += 1
        assert (item in vocabulary) == (seen[item] >= admit_after)


@settings(deadline=None, max_examples=10)
@given(st.integers(20, 60), st.randoms(use_true_random=False))
def test_a_flood_turns_over_the_probation_share_alone(max_items, chance):
    vocabulary = Vocabulary(max_items)
    catalogue = [f"c{number}" for number in range(int(max_items * 0.8))]
    for _ in range(2):
        vocabulary.commit(vocabulary.plan(catalogue))
    for number in range(5 * max_items):
        vocabulary.commit(vocabulary.plan([f"spam {number}"]))
        sound(vocabulary)
    assert all(item in vocabulary for item in catalogue)
    # What is sighted again settles, and then the least recently seen of the catalogue leave one by one.
    for number in range(max_items):
        for _ in range(2):
            vocabulary.commit(vocabulary.plan([f"new {number}"]))
    kept = [item for item in catalogue if item in vocabulary]
    assert kept == catalogue[len(catalogue) - len(kept) :]
    assert f"new {max_items - 1}" in vocabulary


@pytest.mark.parametrize("wanted", [3, 30])
def test_a_batch_beyond_the_ceiling_lets_in_what_fits(wanted):
    vocabulary = Vocabulary(5)
    vocabulary.commit(vocabulary.plan(["a", "b", "c", "d", "e"]))
    vocabulary.commit(vocabulary.plan([str(number) for number in range(wanted)]))
    sound(vocabulary)
    assert len(vocabulary) == 5
    assert "0" in vocabulary
