"""What every learner promises, the baselines included."""

import random
from collections.abc import Callable
from dataclasses import replace
from math import isfinite

import pytest
import torch

from online_model.config import ModelConfig
from online_model.evaluation.contestant import Admits
from online_model.learners import DEFAULT, LEARNERS, build
from online_model.protocol import Context, Example, Learner, Ranked, Request, State, Visit

Make = Callable[..., Learner]


def same(one: State, other: State) -> bool:
    assert one.tensors.keys() == other.tensors.keys()
    return one.metadata == other.metadata and all(
        torch.equal(tensor, other.tensors[name]) for name, tensor in one.tensors.items()
    )


def requests_of(batch: list[Example]) -> list[Request]:
    return [
        Request(example.context, frozenset(visit[0] for visit in example.context.history[-1:])) for example in batch
    ]


def answers(learner: Learner, batch: list[Example]) -> tuple[list[Ranked], list[int]]:
    requests = requests_of(batch)
    return learner.recommend(requests, 10), learner.rank(requests, [example.item or "" for example in batch])


INDEXED = "two-stage, indexed"


@pytest.fixture(params=[*sorted(LEARNERS), INDEXED])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make(kind: str, config: ModelConfig) -> Make:
    def make(**changes: object) -> Learner:
        if kind == INDEXED:
            # From the first item on: few are found by it that all would not find, but all in its way.
            return build(DEFAULT, replace(config, **{"index_from": 1, **changes}))  # type: ignore[arg-type]
        return build(kind, replace(config, **changes))  # type: ignore[arg-type]

    return make


@pytest.fixture
def taught(make: Make, batches: Callable[..., list[list[Example]]]) -> Learner:
    learner = make()
    for batch in batches(20):
        learner.learn(batch)
    return learner


def test_predicting_changes_nothing(taught, batches):
    before = taught.state()
    first = answers(taught, batches(1, seed=9)[0])
    assert answers(taught, batches(1, seed=9)[0]) == first
    assert same(taught.state(), before)


def test_save_load_continue_equals_never_stopping(make, taught, batches):
    other = make()
    other.load_state(taught.state())
    assert same(other.state(), taught.state())
    for batch in batches(10, seed=1, n_items=60):
        assert other.learn(batch) == taught.learn(batch)
    assert same(other.state(), taught.state())
    assert answers(other, batches(1, seed=2)[0]) == answers(taught, batches(1, seed=2)[0])


def test_a_saved_state_is_a_copy(taught, batches):
    state, again = taught.state(), taught.state()
    taught.learn(batches(1, seed=3)[0])
    assert same(state, again)


def test_same_batches_same_learner(make, batches):
    one, other = make(), make()
    for batch in batches(10):
        assert one.learn(batch) == other.learn(batch)
    assert same(one.state(), other.state())


@pytest.mark.parametrize(
    "bad",
    [
        Example(Context(), None, "interest"),
        Example(Context(), "", "strong"),
        Example(Context(), "\ud800", "interest"),
        Example(Context(), 7, "interest"),  # type: ignore[arg-type]
        Example(Context(), "a", "hover"),  # type: ignore[arg-type]
        Example(Context(), "a", weight=float("nan")),
        Example(Context(), "a", weight=-1.0),
        Example(Context(), "a", importance=-1.0),
        Example(Context((), 1), "a"),
        Example(Context((("a", "view"),), 0), "b"),  # type: ignore[arg-type]
    ],
)
def test_a_malformed_batch_changes_nothing(taught, batches, bad):
    before = taught.state()
    with pytest.raises(ValueError, match="example 3"):
        taught.learn([*batches(1, seed=5, n_items=500)[0][:3], bad])
    assert same(taught.state(), before)


def test_a_state_of_another_kind_is_refused_by_name(make, taught):
    state = taught.state()
    kind = state.metadata["kind"]
    state.metadata["kind"] = "oracle"
    other = make()
    before = other.state()
    with pytest.raises(ValueError, match=f"'oracle'.*'{kind}'"):
        other.load_state(state)
    assert same(other.state(), before)


def test_a_state_with_a_part_missing_changes_nothing(make, taught):
    other = make()
    before = other.state()
    for name in taught.state().tensors:
        state = taught.state()
        del state.tensors[name]
        with pytest.raises(ValueError, match="lacks"):
            other.load_state(state)
        assert same(other.state(), before)


def test_excluded_items_are_never_listed_and_lists_are_filled(taught, asking):
    n_items = taught.n_items
    excluded = frozenset({"1", "2", "3", "no such item"})
    for items in ((), ("1",), ("39", "0"), ("no such item",)):
        (few,) = taught.recommend([asking(*items, exclude=excluded)], 10)
        assert len(few.items) == len(set(few.items)) == 10
        (all_,) = taught.recommend([asking(*items, exclude=excluded)], 1_000)
        assert len(set(all_.items)) == len(all_.items) == all_.n_candidates == n_items - 3
        assert not excluded & set(all_.items)
        assert few.items == all_.items[:10]
        assert len(all_.items) == len(all_.scores) == len(all_.sources)
        assert all(map(isfinite, all_.scores))
        for source in set(all_.sources):
            scores = [score for score, of in zip(all_.scores, all_.sources, strict=True) if of == source]
            assert scores == sorted(scores, reverse=True)


def test_ranks_agree_with_lists(taught, batches):
    for example in batches(1, seed=4)[0]:
        (request,) = requests_of([example])
        (listed,) = taught.recommend([request], 1_000)
        ranks = taught.rank([request] * len(listed.items), listed.items)
        # Ties count against the target, so a rank may be later than the place, never earlier.
        assert all(rank >= place for place, rank in enumerate(ranks, 1))
        assert ranks[-1] == len(listed.items)
        assert ranks == sorted(ranks)


def test_what_may_not_be_listed_has_rank_0(taught, asking):
    assert taught.rank([asking("1"), asking("1"), asking()], ["1", "no such item", "no such item"]) == [0, 0, 0]


def test_strangers_get_what_is_popular_and_sources_say_so(make, batches, asking, context):
    learner = make()
    learner.learn([Example(context(), item) for item in ("a", "b", "c", "b", "c", "c")])
    for request in (asking(), asking("unknown")):
        (listed,) = learner.recommend([request], 2)
        assert listed.items == ["c", "b"]
        assert listed.sources == ["popular", "popular"]
        assert listed.n_candidates == 3
        assert learner.rank([request], ["b"]) == [2]


def test_a_new_item_can_be_recommended_at_once_even_without_history(make, context, asking):
    learner = make()
    learner.learn([Example(context(), "first"), Example(context("first"), "second")])
    report = learner.learn([Example(context(), "alone"), Example(context("first"), "third")])
    assert report.n_new_items == 2
    for request in (asking(), asking("second")):
        (listed,) = learner.recommend([request], 10)
        assert {"alone", "third"} <= set(listed.items)


def test_an_empty_learner_serves_empty_lists(make, asking):
    learner = make()
    assert learner.recommend([asking(), asking("a")], 5) == [Ranked([], [], [], 0)] * 2
    assert learner.rank([asking("a")], ["a"]) == [0]
    assert learner.learn([]).n_examples == 0


def test_no_requests_no_answers(taught):
    assert taught.recommend([], 5) == []
    assert taught.rank([], []) == []
    with pytest.raises(ValueError, match="k must be at least 1, not 0"):
        taught.recommend([], 0)


def test_a_single_item_is_no_lesson(make, context):
    learner = make()
    for _ in range(3):
        learner.learn([Example(context("a"), "a"), Example(context(), "a")])
    assert learner.n_items == 1


def test_memory_levels_off_under_churn(make, batches):
    learner = make(max_items=50)
    sizes = []
    for number, batch in enumerate(batches(1)[0] for _ in range(100)):
        churn = [
            replace(example, item=None if example.item is None else f"{number:04}-{place:02}")
            for place, example in enumerate(batch)
        ]
        learner.learn(churn)
        sizes.append(sum(tensor.nbytes for tensor in learner.state().tensors.values()))
    assert learner.n_items == 50
    assert max(sizes[50:]) <= 1.05 * min(sizes[50:])


def test_growing_keeps_old_scores(kind, make, batches, context):
    if kind in (DEFAULT, INDEXED):
        pytest.skip("how popular and how old items are, against all others, is part of its scores")
    learner = make(max_items=5_000)
    for batch in batches(20):
        learner.learn(batch)
    old = set(map(str, range(40)))
    requests = requests_of([example for example in batches(1, seed=6)[0] if example.context.history])
    before = learner.recommend(requests, 100)
    # Beyond the room that tables start with; nobody was anywhere before, so there is nothing else to learn.
    learner.learn([Example(context(), f"new {number}") for number in range(1_500)])
    for listed, former in zip(learner.recommend(requests, 2_000), before, strict=True):
        kept = [
            item
            for item, source in zip(listed.items, listed.sources, strict=True)
            if item in old and source != "popular"
        ]
        assert kept == [item for item in former.items if item in set(kept)]


def test_targets_of_a_batch_have_no_part_in_its_predictions(make, batches):
    one, other = make(), make()
    for batch in batches(20):
        one.learn(batch)
        other.learn(batch)
    batch = [example for example in batches(1, seed=7)[0] if example.item is not None]
    shuffled = [
        replace(example, item=donor.item) for example, donor in zip(batch, [*batch[5:], *batch[:5]], strict=True)
    ]
    assert [example.item for example in shuffled] != [example.item for example in batch]
    lists = []
    for learner, examples in ((one, batch), (other, shuffled)):
        if isinstance(learner, Admits):
            learner.admit(examples)
        learner.rank(requests_of(examples), [example.item or "" for example in examples])
        lists.append(learner.recommend(requests_of(examples), 40))
    assert lists[0] == lists[1]


def test_random_labels_are_met_by_chance(make):
    """Sittings that go on inside and across batches, so that a look ahead, or at oneself, would show."""
    learner, chance = make(), random.Random(3)
    histories: dict[int, list[Visit]] = {}
    ranks = []
    for number in range(120):
        batch = []
        for place in range(16):
            history = histories.setdefault(chance.randrange(8) + 8 * (number // 10), [])
            here = history[-1][0] if history else ""
            item = chance.choice([str(row) for row in range(40) if str(row) != here])
            now = 100 * number + place
            batch.append(Example(Context(tuple(history), 0, now), item))
            history.append((item, "view", now))
        if number >= 10:
            ranks += learner.rank(requests_of(batch), [example.item or "" for example in batch])
        learner.learn(batch)
    recall = sum(1 <= rank <= 10 for rank in ranks) / len(ranks)
    # 1,760 draws of 10 out of 39: three standard deviations are .031.
    assert abs(recall - 10 / 39) < 0.032


def test_an_evicted_item_leaves_nothing_behind(make, context, asking):
    """An id that comes back, and the id that took its row, start from nothing."""
    learner = make(max_items=4)
    learner.learn([Example(context("keep"), "keep"), Example(context("keep"), "keep")])
    for _ in range(5):
        learner.learn([Example(context(), "keep"), Example(context("keep"), "old"), Example(context("old"), "old")])
    learner.learn([Example(context(), item) for item in ("x1", "x2", "x3", "x4", "x5", "keep", "x6", "x7")])
    learner.learn([Example(context(), item) for item in ("y1", "y2", "y3", "keep")])
    assert learner.rank([asking()], ["old"]) == [0]
    (listed,) = learner.recommend([asking("keep")], 10)
    assert "old" not in listed.items
    (popular,) = learner.recommend([asking()], 10)
    assert popular.items[0] == "keep"
    assert max(popular.scores[1:]) < 1.5
