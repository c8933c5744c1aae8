"""What a learner made from a source of candidates alone promises."""

from dataclasses import replace

import pytest

from online_model.baselines.simple import markov, mf, rules, stan, vsknn
from online_model.baselines.sourced import SourceLearner
from online_model.protocol import Context, Example


def test_known_first_by_score_then_by_popularity_then_what_is_popular(config, context, asking):
    learner = markov(config)
    learner.learn([Example(context(), item) for item in ("c", "c", "d", "e", "e", "e", "on")])
    report = learner.learn([Example(context("on"), item) for item in ("b", "d", "c", "b")])
    assert report.n_targets == 4
    (listed,) = learner.recommend([asking("on")], 10)
    assert listed.items == ["b", "c", "d", "e"]
    assert listed.sources == ["transitions", "transitions", "transitions", "popular"]
    assert listed.scores[:3] == [2.0, 1.0, 1.0]
    (short,) = learner.recommend([asking("on", exclude=frozenset({"on", "c"}))], 2)
    assert short.items == ["b", "d"]


def test_ties_count_against_the_target_among_the_known_and_behind_them(config, context, asking):
    learner = markov(config)
    learner.learn([Example(context(), item) for item in ("on", "a", "b", "c", "d", "e", "e")])
    learner.learn([Example(context("on"), item) for item in ("a", "b")])
    learner.learn([Example(context(), item) for item in ("on", "e", "d", "c")])
    later_of_equals = learner.rank([asking("on")] * 5, ["b", "a", "e", "c", "d"])
    assert later_of_equals == [1, 2, 3, 4, 5]
    assert learner.rank([asking("on", exclude=frozenset({"on", "b"}))] * 2, ["a", "e"]) == [1, 2]


def test_equals_in_score_and_popularity_share_the_last_rank(config, context, asking):
    # So slow a fading that sightings count alike to the last bit of what is compared.
    learner = markov(replace(config, popularity_half_life=1e300))
    learner.learn([Example(context(), item) for item in ("on", "x", "y")])
    learner.learn([Example(context("on"), item) for item in ("a", "b")])
    assert learner.rank([asking("on")] * 4, ["a", "b", "x", "y"]) == [2, 2, 4, 4]


@pytest.mark.parametrize("make", [rules, vsknn, stan, mf])
def test_what_follows_is_learned_and_attributed(config, context, asking, make):
    learner = make(config)
    now = 0
    for round_ in range(60):
        for first, second in (("a", "b"), ("c", "d"), ("e", "f")):
            now += 10
            opening = (first, "view", now)
            after = Context((opening,), 0, now + 1)
            learner.learn([Example(Context((), 0, now), first), Example(after, second)])
        assert learner.n_items == 6, round_
    label = {"rules": "rules", "mf": "factors"}.get(learner.kind, "neighbours")
    for first, second in (("a", "b"), ("c", "d"), ("e", "f")):
        (listed,) = learner.recommend([asking(first)], 1)
        assert listed.items == [second]
        assert listed.sources == [label]
        assert learner.rank([asking(first)], [second]) == [1]


def test_rules_reach_further_back_than_the_current_item(config, context, asking):
    learner = rules(config)
    learner.learn([Example(context(), item) for item in ("a", "x", "goal")])
    learner.learn([Example(context("a"), "goal"), Example(context(), "x")])
    (listed,) = learner.recommend([asking("a", "x")], 1)
    assert (listed.items, listed.sources) == (["goal"], ["rules"])


def test_signals_of_a_lost_source_are_named(config):
    learner = markov(config)
    state = learner.state()
    del state.metadata["source"]
    with pytest.raises(ValueError, match="lacks facts about its source"):
        learner.load_state(state)


def test_factors_of_another_width_are_refused(config, context):
    from online_model.candidates.factors import Factors

    learner = SourceLearner("mf", config, Factors(hidden=8), (1.0,))
    learner.learn([Example(context("a"), "b"), Example(context(), "a")])
    with pytest.raises(ValueError, match="have 8 numbers, the settings say 4"):
        SourceLearner("mf", config, Factors(hidden=4), (1.0,)).load_state(learner.state())


def test_a_markov_chain_knows_only_the_item_one_is_on_and_only_in_this_sitting(config, context, asking):
    learner = markov(config)
    learner.learn([Example(context(), "a"), Example(context("a"), "b"), Example(context("a", "b"), "c")])
    assert learner.recommend([asking("b", "a")], 1)[0].items == ["b"]
    assert learner.recommend([asking("a", "c")], 1)[0].sources == ["popular"]
    paused = replace(asking("a"), context=replace(context("a"), sitting=1))
    assert set(learner.recommend([paused], 5)[0].sources) == {"popular"}


@pytest.mark.parametrize("gone", ["leader", "follower"])
def test_who_takes_over_a_row_inherits_no_transitions(config, context, asking, gone):
    learner = markov(replace(config, max_items=3, probation_share=0.4))
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
