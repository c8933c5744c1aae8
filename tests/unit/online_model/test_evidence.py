"""Signals of candidates on a stream made by hand, and copies of the counts that are told the same."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from online_model.candidates.evidence import SOURCES, Evidence, Examined
from online_model.candidates.folds import Fold, from_tensors, to_tensors
from online_model.candidates.queries import Occurrences, queries, visit_keys
from online_model.candidates.signals import FACTS, SIGNALS
from online_model.candidates.similarity import SIMILARITIES
from online_model.protocol import Context
from online_model.tensor_bytes import decode, encode

NONE = np.zeros(0, np.int64)


def context(*items: int, sitting: int = 0, start: int = 0, pause: int = 1_000) -> Context:
    """After visits to these rows, one a second."""
    visits = tuple((str(item), "view", start + 1_000 * place) for place, item in enumerate(items))
    return Context(visits, sitting, start + 1_000 * (len(items) - 1) + pause)


def came(*events: tuple[Context, int]) -> Fold:
    """What came in each context."""
    items = np.array([item for _, item in events], np.int32)
    times = np.array([before.now for before, _ in events], np.int64)
    return Fold(
        NONE,
        Occurrences(
            queries([before for before, _ in events], int),
            items,
            visit_keys(items.astype(np.int64), times),
            np.ones(len(events), np.float32),
        ),
    )


def examine(evidence: Evidence, contexts: list[Context], retrieved: list[list[int]], n_rows: int) -> Examined:
    """With neural scores of 10 and less by place, and likenesses of 1 / 2 and 1 / 4."""
    candidates = evidence.gather(queries(contexts, int), np.array(retrieved, np.int32), n_rows)
    scores = np.broadcast_to(10.0 - np.arange(candidates.rows.shape[1], dtype=np.float32), candidates.rows.shape)
    alike = np.broadcast_to(np.array([0.5, 0.25], np.float32), (*candidates.rows.shape, len(SIMILARITIES)))
    return evidence.complete(candidates, scores, alike)


def signal(examined: Examined, line: int, row: int, name: str) -> float:
    (column,) = np.flatnonzero(examined.rows[line] == row)
    return float(examined.signals[line, column, SIGNALS.index(name)])


def source(examined: Examined, line: int, row: int) -> str:
    (column,) = np.flatnonzero(examined.rows[line] == row)
    return SOURCES[examined.sources[line, column]]


@pytest.fixture
def evidence(config) -> Evidence:
    """Two people went 0, 1, 2; one 0, 3; rows 4 and 5 were only seen alone; 6 and more never."""
    evidence = Evidence(replace(config, retrieved=2, candidates=20, follower_half_life=0.0))
    for start in (0, 100_000):
        evidence.fold(came((context(start=start), 0), (context(0, start=start), 1), (context(0, 1, start=start), 2)))
    evidence.fold(came((context(0, start=200_000), 3), (context(), 4), (context(), 5), (context(), 4)))
    return evidence


def test_each_signal_stands_in_its_column(evidence):
    examined = examine(evidence, [context(0, pause=3_000)], [[6, 1]], 8)
    assert examined.rows[0, :2].tolist() == [6, 1]
    assert set(examined.rows[0].tolist()) == set(range(7))

    def of(row: int, name: str) -> float:
        return signal(examined, 0, row, name)

    floor = np.log(1e-3)
    assert [of(row, "neural_score") for row in (6, 1)] == [10.0, 9.0]
    # Those that the recurrent model did not propose all stand behind the two that it did.
    assert of(6, "neural_rank") == 0.0
    assert of(1, "neural_rank") == pytest.approx(-np.log(2))
    assert [of(row, "neural_rank") for row in (0, 2, 3, 4, 5)] == pytest.approx([-np.log(3)] * 5)
    # After 0 came 1 twice and 3 once, and 2 twice two steps later.
    assert of(1, "next_count") == pytest.approx(np.log1p(2))
    assert of(3, "next_count") == pytest.approx(np.log1p(1))
    assert of(2, "next_count") == 0.0
    assert of(1, "next_share") == pytest.approx(np.log(2 / 5 + 1e-3) - floor, rel=1e-5)
    assert of(2, "rules_share") == pytest.approx(np.log(1 / 5 + 1e-3) - floor, rel=1e-5)
    assert of(3, "rules_share") == pytest.approx(np.log(1 / 5 + 1e-3) - floor, rel=1e-5)
    assert of(1, "all_rules_share") == pytest.approx(np.log(2 / 5 + 1e-3) - floor, rel=1e-5)
    assert of(4, "all_rules_share") == of(4, "next_share") == of(4, "rules_share") == 0.0
    assert all(of(row, "back_count") == 0.0 for row in range(7))
    assert of(1, "vsknn") > of(6, "vsknn") == 0.0
    assert of(1, "stan") > of(2, "stan") > of(4, "stan") == 0.0
    # Two sightings of ten, the later one the latest of all.
    for name in ("popular_500", "popular_5k", "popular_50k"):
        assert of(4, name) == pytest.approx(np.log(2.01 / 0.01), abs=0.02)
        assert of(5, name) == pytest.approx(np.log(1.01 / 0.01), abs=0.02)
        assert of(6, name) == pytest.approx(0.0, abs=1e-6)
    assert of(4, "popular_500") < of(4, "popular_5k") < of(4, "popular_50k")
    assert of(4, "age") == pytest.approx(np.log1p(3) - 8)
    assert of(4, "unseen_for") == pytest.approx(np.log1p(1) - 6)
    assert of(5, "unseen_for") == pytest.approx(np.log1p(2) - 6)
    assert {of(row, "nearest_cosine") for row in range(7)} == {0.5}
    assert {of(row, "last_cosine") for row in range(7)} == {0.25}


def test_facts_tell_about_the_query(evidence):
    examined = examine(evidence, [context(0, pause=3_000), context(9, 8, 9, 1, pause=0)], [[6, 1], [2, 3]], 10)
    facts = [dict(zip(FACTS, line, strict=True)) for line in examined.facts.tolist()]
    # After 0: 1, 1, 3 directly; each 1, and two more at a distance of 2.
    assert facts[0]["next_total"] == pytest.approx(np.log1p(3))
    assert facts[0]["rules_total"] == pytest.approx(np.log1p(4))
    assert facts[1]["next_total"] == facts[1]["rules_total"] == pytest.approx(np.log1p(2))
    assert facts[0]["neighbours_total"] > 0.0
    assert [fact["sitting_length"] for fact in facts] == [0.0, pytest.approx(np.log(4))]
    assert facts[0]["current_popularity"] == pytest.approx(np.log1p(2), abs=0.01)
    assert [fact["pause"] for fact in facts] == [pytest.approx(np.log1p(3)), 0.0]
    # How far the first stands before the last, or the twentieth; 0 where there are not so many.
    assert (examined.rows[:, -1] >= 0).tolist() == [False, True]
    assert [fact["confidence"] for fact in facts] == [0.0, examined.rows.shape[1] - 1.0]


def test_the_history_is_told_apart_from_the_sitting(evidence):
    examined = examine(evidence, [context(5, 3, 5, 1, 0, sitting=3)], [[5, 2]], 8)
    names = ("in_sitting", "sitting_place", "in_history", "history_place", "visits")
    expected = {0: (1, 1, 0, 0, 1), 1: (1, 2, 0, 0, 1), 5: (0, 0, 1, 1, 2), 3: (0, 0, 1, 2, 1), 2: (0, 0, 0, 0, 0)}
    for row, (within, place, before, older, visits) in expected.items():
        found = [signal(examined, 0, row, name) for name in names]
        assert found == pytest.approx([within, np.log1p(place), before, np.log1p(older), np.log1p(visits)])


def test_all_of_the_history_is_among_the_candidates_of_a_full_pool(evidence):
    rows = [row % 10 for row in range(20)]
    examined = examine(evidence, [context(*rows, sitting=18)], [[7]], 10)
    assert set(examined.rows[0].tolist()) == set(range(10))


def test_how_often_one_came_back_counts(evidence):
    examined = examine(evidence, [context(1)], [[0, 2]], 8)
    assert signal(examined, 0, 0, "back_count") == pytest.approx(np.log1p(2))
    assert signal(examined, 0, 2, "back_count") == 0.0


def test_candidates_come_from_all_sources(evidence):
    examined = examine(evidence, [context(7, 0, sitting=1)], [[6, 9]], 10)
    sources = {row: source(examined, 0, row) for row in examined.rows[0].tolist() if row >= 0}
    assert set(sources) == {6, 9, 0, 1, 2, 3, 4, 5, 7}
    assert sources[6] == sources[9] == "recurrent"
    assert sources[7] == "history"
    # Seen most: that is where it stands highest of all.
    assert sources[0] in ("history", "neighbours", "popular")
    assert sources[4] == sources[5] == "popular"
    assert sources[3] in ("rules", "neighbours", "transitions")
    assert set(sources.values()) <= set(SOURCES)


def test_nothing_is_known_beyond_the_last_candidate(evidence):
    examined = examine(evidence, [context(0), context(8)], [[0, 1], [8, -1]], 9)
    absent = examined.rows < 0
    assert absent.any()
    assert not absent[:, 0].any()
    assert (examined.sources[absent] == -1).all()
    assert not examined.signals[absent].any()
    assert np.isfinite(examined.signals).all()
    assert np.isfinite(examined.facts).all()


def test_items_that_were_only_admitted_have_not_been_seen(evidence):
    assert evidence.seen(np.array([4, 6, 5_000], np.int32)).tolist() == [True, False, False]


def test_a_pool_ends_at_the_limit(config):
    evidence = Evidence(replace(config, retrieved=2, candidates=3))
    evidence.fold(came(*((context(), row) for row in range(9))))
    assert examine(evidence, [context(0)], [[7, 8]], 9).rows.shape == (1, 3)


def random_folds(n_folds: int, seed: int, n_rows: int = 12) -> list[Fold]:
    """Sittings of six people; now and then some rows change hands, alone or before what happened next."""
    chance = random.Random(seed)
    sittings: dict[int, list[int]] = {}
    folds = []
    for number in range(n_folds):
        events = []
        for place in range(chance.randrange(6)):
            who = chance.randrange(6)
            items = sittings.setdefault(who, [])
            item = chance.randrange(-1, n_rows)
            events.append((context(*items[-15:], start=100_000 * who, pause=1_000 + 100 * number + place), item))
            items += [item] if item >= 0 else []
        gone = np.array(chance.sample(range(n_rows), chance.choice([0, 0, 1, 2])), np.int64)
        step = came(*events)
        folds.append(Fold(gone, None if number % 5 == 4 else step.occurrences))
    return folds


def same(one: Evidence, other: Evidence, n_rows: int = 12) -> bool:
    ours, theirs = one.state(n_rows), other.state(n_rows)
    assert ours.tensors.keys() == theirs.tensors.keys()
    return ours.metadata == theirs.metadata and all(
        torch.equal(tensor, theirs.tensors[name]) for name, tensor in ours.tensors.items()
    )


def alike(one: Evidence, other: Evidence) -> bool:
    asking, retrieved = [context(0, 3, 2, sitting=1), context(5), context(11, 2)], [[1, 2], [3, 4], [7, 9]]
    ours, theirs = (examine(evidence, asking, retrieved, 12) for evidence in (one, other))
    return all(
        np.array_equal(getattr(ours, part), getattr(theirs, part)) for part in ("rows", "sources", "signals", "facts")
    )


@pytest.mark.parametrize("neighbour_sittings", [0, 8])
def test_copies_that_are_told_the_same_are_the_same(config, neighbour_sittings):
    config = replace(config, neighbour_sittings=neighbour_sittings, follower_slots=3, follower_half_life=9.0)
    one, other = Evidence(config), Evidence(config)
    folds = random_folds(60, seed=3)
    for start in range(0, len(folds), 4):
        part = folds[start : start + 4]
        tensors, _ = decode(encode(to_tensors(part), {}))
        told = from_tensors(tensors)
        assert len(told) == len(part)
        for step, again in zip(part, told, strict=True):
            one.fold(step)
            other.fold(again)
        assert same(one, other)
    assert alike(one, other)


def test_no_folds_are_no_tensors():
    assert to_tensors([]) == {}
    assert from_tensors({}) == []


def test_folds_with_a_part_missing_are_refused():
    tensors = to_tensors(random_folds(3, seed=1))
    for name in tensors:
        if not name.endswith((".forgotten", ".items")):
            with pytest.raises(KeyError, match=name):
                from_tensors({other: tensor for other, tensor in tensors.items() if other != name})


def test_asking_changes_nothing(config):
    one, other = Evidence(config), Evidence(config)
    for step in random_folds(30, seed=5):
        one.fold(step)
        other.fold(step)
    assert alike(one, one)
    assert same(one, other)


def test_save_load_continue_equals_never_stopping(config):
    config = replace(config, follower_slots=3)
    one, other = Evidence(config), Evidence(config)
    folds = random_folds(60, seed=7)
    for step in folds[:30]:
        one.fold(step)
    other.load_state(one.state(12))
    for step in folds[30:]:
        one.fold(step)
        other.fold(step)
    assert same(one, other)
    assert alike(one, other)


@pytest.mark.parametrize("part", ["pairs", "trends", "neighbours"])
def test_a_state_with_a_part_missing_is_refused_by_name(config, part):
    state = Evidence(config).state(3)
    del state.metadata[part]
    with pytest.raises(ValueError, match=f"lacks {part}"):
        Evidence(config).load_state(state)
