"""Learner and copies with a second stage: orders, memos, updates."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from online_model import ranker as ranker_module
from online_model.candidates.evidence import SOURCES, Examined
from online_model.candidates.signals import SIGNALS
from online_model.config import ModelConfig
from online_model.fusion import FIXED
from online_model.learner import OnlineLearner
from online_model.protocol import Context, Example, Request
from online_model.ranker import Ranker
from online_model.serving import ServingModel
from online_model.two_stage import find, joined
from online_model.updates import Update

RANKINGS = ("network", "gated", "linear", *FIXED)

Batches = Callable[..., list[list[Example]]]


@pytest.fixture
def small(config: ModelConfig) -> ModelConfig:
    """Fewer candidates than there are items."""
    return replace(config, retrieved=5, candidates=12, neighbour_sittings=32)


def requests_of(batch: list[Example]) -> list[Request]:
    return [
        Request(example.context, frozenset(visit[0] for visit in example.context.history[-1:])) for example in batch
    ]


def taught(config: ModelConfig, batches: Batches, n_batches: int = 25) -> OnlineLearner:
    learner = OnlineLearner(config, lineage="01RUN")
    for batch in batches(n_batches):
        learner.learn(batch)
    assert learner.n_items == 40
    return learner


def warm(learner: OnlineLearner, batch: list[Example]) -> list[Request]:
    return [request for request in requests_of(batch) if any(visit[0] in learner for visit in request.context.history)]


@pytest.mark.parametrize("kind", RANKINGS)
def test_every_way_to_rank_lists_all_items_and_agrees_with_its_ranks(small, batches, kind):
    learner = taught(replace(small, ranking=kind), batches)
    for request in warm(learner, batches(1, seed=4, size=10)[0]):
        (listed,) = learner.recommend([request], 1_000)
        assert sorted(listed.items) == sorted({str(number) for number in range(40)} - request.exclude)
        ranks = learner.rank([request] * len(listed.items), listed.items)
        # Scores of candidates and of those beyond them are of two kinds: there is one seam.
        n_candidates = sum(map(bool, (line.any() for line in listed.signals)))
        for part in (slice(0, n_candidates), slice(n_candidates, None)):
            scores = listed.scores[part]
            assert scores == sorted(scores, reverse=True)
            for place, (score, rank) in enumerate(zip(scores, ranks[part], strict=True), part.start or 0):
                assert rank >= place + 1
                if scores.count(score) == 1:
                    assert rank == place + 1
        assert 5 <= n_candidates <= 12
        for k in (1, 3, n_candidates, n_candidates + 1):
            (cut,) = learner.recommend([request], k)
            assert cut.items == listed.items[:k]
            assert cut.scores == listed.scores[:k]
            assert cut.sources == listed.sources[:k]


@pytest.mark.parametrize("kind", RANKINGS)
def test_fixed_orders_learn_nothing_and_others_do(small, batches, kind):
    learner = taught(replace(small, ranking=kind), batches)
    assert (learner._model.ranker.n_outcomes > 0) == (kind not in FIXED)


def by_hand(neural: list[float], rules: list[float], vsknn: list[float], n_rows: int | None = None) -> Examined:
    """One query with these opinions of its candidates."""
    n = len(neural)
    rows = np.arange(n, dtype=np.int32)[None]
    rows[:, n_rows or n :] = -1
    signals = np.zeros((1, n, len(SIGNALS)), np.float32)
    for name, values in (("neural_score", neural), ("all_rules_share", rules), ("vsknn", vsknn)):
        signals[0, :, SIGNALS.index(name)] = values
    return Examined(rows, np.zeros((1, n), np.int8), signals, np.zeros((1, 7), np.float32))


def test_weighted_sums_opinions_scaled_within_the_query():
    examined = by_hand([-4.0, 0.0, 4.0, 0.0], [0.0, 2.0, 1.0, 0.0], [3.0, 0.0, 0.0, 0.0], n_rows=3)
    scores = FIXED["weighted"](examined)
    assert scores[0, :3].tolist() == pytest.approx([0.0 + 0.0 + 0.5, 0.5 + 0.5 + 0.0, 1.0 + 0.25 + 0.0])


def test_weighted_stands_opinions_that_are_all_equal():
    assert FIXED["weighted"](by_hand([1.0, 1.0], [0.0, 0.0], [2.0, 2.0])).tolist() == [[0.0, 0.0]]


def test_reciprocal_ranks_put_what_is_unknown_last():
    examined = by_hand([3.0, 2.0, 1.0, 9.0], [0.0, 5.0, 1.0, 9.0], [0.0, 0.0, 1.0, 9.0], n_rows=3)
    expected = [1 / 61 + 2 / 1_060, 1 / 62 + 1 / 61 + 1 / 1_060, 1 / 63 + 1 / 62 + 1 / 61]
    assert FIXED["reciprocal-ranks"](examined)[0, :3].tolist() == pytest.approx(expected, rel=1e-5)


def test_votes_count_first_and_neural_ranks_break_ties():
    neural = [float(-place) for place in range(25)]
    rules, vsknn = [0.0] * 25, [0.0] * 25
    # Beyond the first twenty of the neural order, but known to both others; and to one alone.
    rules[24], vsknn[24], rules[22] = 1.0, 1.0, 1.0
    order = np.argsort(-FIXED["voting"](by_hand(neural, rules, vsknn))[0], kind="stable").tolist()
    assert order == [24, *range(20), 22, 20, 21, 23]


def test_targets_shuffled_inside_a_batch_change_none_of_its_predictions(small, batches):
    """Also where ranks of all of them are asked for first, as a measurement does."""
    one, other = (taught(small, batches) for _ in range(2))
    batch = [example for example in batches(1, seed=7, size=32)[0] if example.item is not None]
    donors = [*batch[5:], *batch[:5]]
    shuffled = [replace(example, item=donor.item) for example, donor in zip(batch, donors, strict=True)]
    requests = requests_of(batch)
    for learner, examples in ((one, batch), (other, shuffled)):
        learner.admit(examples)
        learner.rank(requests, [example.item or "" for example in examples])
    every = sorted(map(str, range(40)))
    for request in requests[:8]:
        assert one.rank([request] * 40, every) == other.rank([request] * 40, every)
    lists = [learner.recommend(requests, 40) for learner in (one, other)]
    assert lists[0] == lists[1]
    for ours, theirs in zip(*lists, strict=True):
        np.testing.assert_array_equal(ours.signals, theirs.signals)


def test_what_was_ranked_is_examined_once_and_gives_the_same(small, batches, monkeypatch):
    learner = taught(small, batches)
    batch = [example for example in batches(1, seed=3)[0] if example.item is not None]
    contexts = [request.context for request in warm(learner, batch)]
    model = learner._model
    fresh = model.examined(contexts)
    model.rank([Request(context) for context in contexts], ["1"] * len(contexts))
    began = []
    examine = model.examine
    monkeypatch.setattr(model, "examine", lambda contexts: began.append(contexts) or examine(contexts))
    recalled = model.examined(contexts)
    assert not began
    for part in ("rows", "sources", "signals", "facts"):
        np.testing.assert_array_equal(getattr(recalled, part), getattr(fresh, part))
    model.examined(contexts)
    assert len(began) == 1


def test_equal_contexts_of_other_people_and_changed_models_are_examined_anew(small, batches, monkeypatch):
    learner = taught(small, batches)
    model = learner._model
    contexts = [Context((("1", "view", 5),), 0, 9), Context((("2", "view", 5),), 0, 9)]
    copies = [replace(context) for context in contexts]

    def began_after(*steps: Callable[[], object]) -> int:
        model.rank([Request(context) for context in contexts], ["3", "4"])
        for step in steps:
            step()
        began = []
        with monkeypatch.context() as patch:
            examine = model.examine
            patch.setattr(model, "examine", lambda contexts: began.append(1) or examine(contexts))
            model.examined(contexts)
        return len(began)

    assert began_after() == 0
    assert began_after(model.changed) == 1
    assert began_after(lambda: learner.learn(batches(1, seed=8)[0])) == 1
    # Nothing to rank in it, but something to learn.
    assert began_after(lambda: learner.learn([Example(contexts[0], "3", "negative")])) == 1
    assert began_after(lambda: learner.admit([Example(contexts[0], "never seen before")])) == 1
    assert began_after(lambda: model.rank([Request(context) for context in copies], ["3", "4"])) == 1
    assert began_after(lambda: model.rank([Request(contexts[0])], ["3"])) == 1
    # Nothing changes by answering.
    assert began_after(lambda: model.recommend([Request(contexts[1])], 3)) == 0


def test_to_rank_before_learning_changes_nothing_of_what_is_learned(small, batches):
    """An order learned from the candidates of a measurement is the one learned without it."""
    one, other = OnlineLearner(small), OnlineLearner(small)
    for batch in batches(15):
        one.admit(batch)
        one.rank(requests_of(batch), [example.item or "" for example in batch])
        assert one.learn(batch).loss == other.learn(batch).loss
    ours, theirs = one.state(), other.state()
    assert ours.metadata == theirs.metadata
    for name, tensor in ours.tensors.items():
        assert tensor.equal(theirs.tensors[name]), name


@pytest.mark.parametrize("kind", ["network", "weighted", "none"])
def test_a_copy_fed_by_updates_answers_as_the_learner(small, batches, monkeypatch, kind):
    """Through bytes, with tenants that change, steps at which nothing is told, and probabilities from early on."""
    monkeypatch.setattr(ranker_module, "MIN_OUTCOMES", 60)
    learner = OnlineLearner(replace(small, ranking=kind, max_items=30), lineage="01RUN")
    copy: ServingModel | None = None
    probable = 0
    for number, batch in enumerate(batches(14, seed=2)):
        learner.learn(batch)
        if number % 3 == 1:
            continue
        update = Update.decode(learner.update().encode())
        if copy is None:
            copy = ServingModel(update)
        else:
            assert not update.full
            copy.apply(update)
        requests = requests_of(batches(1, seed=100 + number)[0])
        lists = learner.recommend(requests, 35), copy.recommend(requests, 35)
        assert lists[0] == lists[1]
        for ours, theirs in zip(*lists, strict=True):
            np.testing.assert_array_equal(ours.signals, theirs.signals)
            probable += ours.probabilities is not None
        every = [str(item) for item in range(40)]
        for request in requests[:3]:
            assert learner.rank([request] * 40, every) == copy.rank([request] * 40, every)
    assert learner.n_evicted > 0
    assert (probable > 0) == (kind == "network")
    sources = {source for listed in lists[0] for source in listed.sources}
    assert sources <= {*SOURCES}
    assert len(sources) > 2 or kind == "none"


def test_a_full_update_and_the_steps_since_make_equal_copies(small, batches):
    learner = taught(small, batches)
    follower = ServingModel(learner.update())
    for batch in batches(4, seed=5):
        learner.learn(batch)
        follower.apply(learner.update())
    late = ServingModel(learner.update(full=True))
    ours, theirs = follower.state(), late.state()
    assert ours.metadata == theirs.metadata
    for name, tensor in ours.tensors.items():
        assert tensor.equal(theirs.tensors[name]), name


def test_a_copy_that_missed_updates_counts_each_step_once(small, batches):
    """An update since an earlier one tells all steps in between; those that a copy took it does not take again."""
    learner = taught(small, batches)
    learner.update()
    learner.learn(batches(1, seed=5)[0])
    ahead = ServingModel(learner.update(full=True))
    learner.learn(batches(1, seed=6)[0])
    update = learner.update()
    assert len(update.folds or ()) > 1
    ahead.apply(update)
    requests = requests_of(batches(1, seed=7)[0])
    assert ahead.recommend(requests, 40) == learner.recommend(requests, 40)


def test_a_full_update_that_does_not_fit_leaves_a_copy_as_it_was(small, batches):
    learner = taught(small, batches)
    copy = ServingModel(learner.update())
    requests = requests_of(batches(1, seed=7)[0])
    before, n_items = copy.recommend(requests, 10), copy.n_items
    learner.learn([Example(Context((("1", "view", 5),), 0, 9), "never seen before")])
    update = learner.update(full=True)
    narrow = Ranker(replace(small, ranking_hidden=3)).serving_state()
    with pytest.raises(ValueError, match="ranking network has first of"):
        copy.apply(replace(update, ranker=narrow))
    assert copy.n_items == n_items
    assert copy.recommend(requests, 10) == before
    copy.apply(update)
    assert copy.recommend(requests, 10) == learner.recommend(requests, 10)


def test_probabilities_belong_to_the_items_beside_them(small, batches, monkeypatch):
    monkeypatch.setattr(ranker_module, "MIN_OUTCOMES", 1)
    learner = taught(small, batches)
    for request in warm(learner, batches(1, seed=4)[0]):
        (listed,) = learner.recommend([request], 39)
        assert listed.probabilities is not None
        assert len(listed.probabilities) == len(listed.items)
        assert sum(listed.probabilities) <= 1 + 1e-5
        # The chance falls with the score among candidates, and is none beyond them.
        assert listed.probabilities == sorted(listed.probabilities, reverse=True)
        assert listed.probabilities[0] > 0.0 == listed.probabilities[-1]
        fewer = Request(request.context, request.exclude | {listed.items[0]})
        (others,) = learner.recommend([fewer], 5)
        assert others.items == listed.items[1:6]


def test_lists_go_on_in_the_order_of_the_first_stage(small, batches):
    learner = taught(small, batches)
    (request,) = warm(learner, batches(1, seed=4)[0])[:1]
    (listed,) = learner.recommend([request], 39)
    n_candidates = sum(line.any() for line in listed.signals)
    (first,) = learner._model.recurrent.recommend([request], 39)
    candidates = set(listed.items[:n_candidates])
    assert listed.items[n_candidates:] == [item for item in first.items if item not in candidates]
    assert set(listed.sources[n_candidates:]) == {"recurrent"}


def test_portions_of_a_batch_give_what_the_whole_gives(small, batches, monkeypatch):
    learner = taught(small, batches)
    batch = [example for example in batches(1, seed=4, size=24)[0] if example.item is not None]
    requests, targets = requests_of(batch), [example.item or "" for example in batch]
    contexts = [request.context for request in warm(learner, batch)]
    whole = learner.recommend(requests, 20), learner.rank(requests, targets), learner._model.examined(contexts)
    monkeypatch.setattr("online_model.model.MAX_SCORES", 3 * learner.n_items)
    parts = learner.recommend(requests, 20), learner.rank(requests, targets), learner._model.examined(contexts)
    assert [listed.items for listed in parts[0]] == [listed.items for listed in whole[0]]
    assert parts[1] == whole[1]
    assert parts[2].rows.tolist() == whole[2].rows.tolist()
    np.testing.assert_allclose(parts[2].signals, whole[2].signals, rtol=1e-4, atol=1e-4)


def test_parts_of_other_widths_are_joined():
    one, other = by_hand([1.0, 2.0], [0.0] * 2, [0.0] * 2), by_hand([3.0, 4.0, 5.0], [0.0] * 3, [0.0] * 3)
    both = joined([one, other])
    assert both.rows.tolist() == [[0, 1, -1], [0, 1, 2]]
    assert both.sources.tolist() == [[0, 0, -1], [0, 0, 0]]
    assert both.signals[..., 0].tolist() == [[1.0, 2.0, 0.0], [3.0, 4.0, 5.0]]
    assert len(both.facts) == 2
    assert find(both, np.array([1, 7], np.int32)).tolist() == [1, -1]


def test_an_empty_sitting_is_like_nothing_where_the_whole_history_is_read(small, batches):
    """The items before it are what the recurrent model reads; the signals of the current item are then 0."""
    learner = taught(replace(small, whole_history=True), batches)
    context = Context((("7", "view", 0), ("8", "view", 1_000)), 2, 10**8)
    examined = learner._model.examined([context])
    for name in ("next_share", "back_count", "in_sitting", "nearest_cosine", "last_cosine"):
        values = examined.signals[..., SIGNALS.index(name)]
        assert len(set(values[examined.rows >= 0].tolist())) == 1, name
    assert not examined.facts[0, :6].any()
