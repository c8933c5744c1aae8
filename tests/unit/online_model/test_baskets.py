"""The next basket: who is scored, when a list is made, what it is compared with."""

from collections.abc import Sequence
from itertools import count

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_model.baselines.simple import history
from online_model.config import ModelConfig
from online_model.evaluation.baskets import BasketOutcome, BasketRace, basket_figures
from online_model.evaluation.sequences import Sequences, Step
from online_model.evaluation.streams import StreamEvent
from online_model.protocol import Example, LearnReport, Ranked, Request

ROLES = {"buy": ("buy", "strong"), "return": ("return", "negative")}


def stream(text: str) -> list[Step]:
    """`a12-3` is user a with a basket of 1 and 2 that gives back 3; baskets come a minute apart, `+` joins moments."""
    events, numbers, now = [], count(1), 0
    for moment in text.split():
        now += 60_000
        for basket in moment.split("+"):
            bought, _, returned = basket[1:].partition("-")
            lines = [(item, "buy") for item in bought] + [(item, "return") for item in returned]
            events += [StreamEvent(next(numbers), basket[0], item, behavior, now) for item, behavior in lines]
    return list(Sequences(ROLES, None).follow(events))  # type: ignore[arg-type]


class Recorder:
    """Answers with fixed lists, and notes what it was asked and told."""

    def __init__(self, items: str = "123") -> None:
        self.items = list(items)
        self.notes: list[str] = []

    def recommend(self, requests: Sequence[Request], k: int) -> list[Ranked]:
        assert k == 20
        self.notes += ["?" + "".join(visit[0] for visit in request.context.history) for request in requests]
        return [Ranked(self.items, [0.0] * len(self.items), ["fixed"] * len(self.items), 9) for _ in requests]

    def rank(self, requests: Sequence[Request], targets: Sequence[str]) -> list[int]:
        raise AssertionError("nobody asks for ranks")

    def learn(self, examples: Sequence[Example]) -> LearnReport:
        for example in examples:
            before = "".join(visit[0] for visit in example.context.history)
            self.notes.append(f"{before}>{example.item}")
        return LearnReport(len(examples), 0, None, 0, 0)


def race(text: str, model: Recorder, batch_size: int = 100, *, at_once: bool = False) -> BasketOutcome:
    return BasketRace({"model": model}, batch_size, at_once=at_once).run(stream(text))


def test_figures_by_hand():
    #                    both first      1 of 3       2 of 2
    outcome = race("a1+b2 a145 b12", Recorder("123"))
    assert outcome.events == 7
    assert outcome.unscored == {"first": 2}
    assert outcome.owners.tolist() == [0, 1]
    assert outcome.recall["model"] == pytest.approx([1 / 3, 1.0])
    ideal = 1 + 1 / np.log2(3) + 1 / np.log2(4)
    assert outcome.ndcg["model"] == pytest.approx([1 / ideal, 1.0])


def test_returns_are_no_targets_and_a_basket_of_returns_is_not_scored():
    outcome = race("a1 a-1 a2-1", Recorder("1"))
    assert outcome.unscored == {"first": 1, "no target": 1}
    assert outcome.recall["model"].tolist() == [0.0]


def test_an_item_twice_in_a_basket_is_one_target():
    assert race("a1 a112", Recorder("1")).recall["model"].tolist() == [0.5]


def test_lists_are_made_before_the_batch_is_learned_from_what_stood_before_the_basket():
    model = Recorder()
    race("a1 b2 a34 b5", model, batch_size=3)
    assert model.notes == ["?1", ">1", ">2", "1>3", "?2", "13>4", "2>5"]


def test_at_once_every_line_is_learned_with_what_stood_before_the_basket():
    model = Recorder()
    race("a1 a23 a4", model, batch_size=2, at_once=True)
    assert model.notes == ["?1", ">1", "1>2", "?123", "1>3", "123>4"]


def test_people_who_buy_in_the_same_moment_have_baskets_of_their_own():
    outcome = race("a1+b2 a3+b12+a2", Recorder("12"))
    assert outcome.owners.tolist() == [0, 1]
    assert outcome.recall["model"].tolist() == [0.5, 1.0]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.text("12345", min_size=1, max_size=5)), max_size=20))
def test_the_size_of_mini_batches_changes_no_figure_of_a_model_that_never_learns(baskets):
    text = " ".join(owner + items for owner, items in baskets)
    whole = race(text, Recorder("123"))
    for batch_size in (1, 2, 7):
        cut = race(text, Recorder("123"), batch_size)
        assert cut.recall["model"].tolist() == whole.recall["model"].tolist()
        assert cut.ndcg["model"].tolist() == whole.ndcg["model"].tolist()
        assert cut.unscored == whole.unscored


@given(st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=8), st.sets(st.sampled_from("abcdefxy"), min_size=1))
def test_figures_lie_within_bounds_and_a_perfect_list_has_both(items, targets):
    recall, ndcg = basket_figures(items, targets)
    assert 0.0 <= recall <= 1.0
    assert 0.0 <= ndcg <= 1.0 + 1e-12
    assert basket_figures(sorted(targets), targets) == pytest.approx((1.0, 1.0))


def test_own_items_most_frequent_first_then_the_latest_then_what_is_popular(context, asking):
    learner = history(ModelConfig())
    learner.learn([Example(context(), item) for item in "abcdzz"])
    (listed,) = learner.recommend([asking(*"abcab", exclude=frozenset({"c"}))], 20)
    assert listed.items == ["b", "a", "z", "d"]  # c is excluded
    assert listed.sources == ["history", "history", "popular", "popular"]
