"""What the Markov chain alone promises."""

from dataclasses import replace

import pytest

from online_model.baselines.markov import MarkovLearner
from online_model.protocol import Example


def test_followers_first_by_count_then_by_popularity_then_what_is_popular(config, context, asking):
    learner = MarkovLearner(config)
    learner.learn([Example(context(), item) for item in ("c", "c", "d", "e", "e", "e", "on")])
    learner.learn([Example(context("on"), item) for item in ("b", "d", "c", "b")])
    (listed,) = learner.recommend([asking("on")], 10)
    assert listed.items == ["b", "c", "d", "e"]
    assert listed.sources == ["transitions", "transitions", "transitions", "popular"]
    assert listed.scores[:3] == [2.0, 1.0, 1.0]
    (short,) = learner.recommend([asking("on", exclude=frozenset({"on", "c"}))], 2)
    assert short.items == ["b", "d"]


def test_only_the_item_one_is_on_counts_and_only_in_this_sitting(config, context, asking):
    learner = MarkovLearner(config)
    learner.learn([Example(context(), "a"), Example(context("a"), "b"), Example(context("a", "b"), "c")])
    assert learner.recommend([asking("b", "a")], 1)[0].items == ["b"]
    paused = replace(asking("a"), context=replace(context("a"), sitting=1))
    assert set(learner.recommend([paused], 5)[0].sources) == {"popular"}


@pytest.mark.parametrize("gone", ["leader", "follower"])
def test_who_takes_over_a_row_inherits_no_transitions(config, context, asking, gone):
    learner = MarkovLearner(replace(config, max_items=3, probation_share=0.4))
    for _ in range(2):
        learner.learn([Example(context(), "old"), Example(context(), "keep")])
    pair = ("old", "keep") if gone == "leader" else ("keep", "old")
    learner.learn([Example(context(pair[0]), pair[1])])
    assert learner.recommend([asking(pair[0])], 1)[0].sources == ["transitions"]
    # "old" is now the least recently seen, and both newcomers are seen often enough to stay.
    learner.learn([Example(context(), "keep")])
    for _ in range(2):
        learner.learn([Example(context(), "new"), Example(context(), "newer"), Example(context(), "keep")])
    assert learner.rank([asking()], ["old"]) == [0]
    for item in ("keep", "new", "newer"):
        (listed,) = learner.recommend([asking(item)], 5)
        assert set(listed.sources) == {"popular"}
    assert learner.state().tensors["pairs"].tolist() == []


def test_followers_are_bounded_and_a_newcomer_gets_in(config, context, asking):
    learner = MarkovLearner(config, max_followers=3)
    learner.learn([Example(context(), "on")])
    for item in ("a", "a", "b", "b", "c", "d"):
        learner.learn([Example(context("on"), item)])
    (listed,) = learner.recommend([asking("on")], 3)
    assert sorted(listed.items) == ["a", "b", "d"]
    assert learner.state().tensors["pair_counts"].tolist() == [2.0, 2.0, 1.0]
