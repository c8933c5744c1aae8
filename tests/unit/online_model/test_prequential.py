"""Known answers: streams small enough to rank by hand."""

from collections.abc import Sequence

import pytest

from online_model.baselines.popularity import PopularityLearner
from online_model.baselines.simple import markov
from online_model.config import ModelConfig
from online_model.evaluation.metrics import RankLog
from online_model.evaluation.prequential import Freeze, Prequential
from online_model.evaluation.sequences import Sequences, Step
from online_model.evaluation.streams import StreamEvent
from online_model.learner import OnlineLearner
from online_model.protocol import Example, LearnReport, Ranked, Request

ROLES = {
    "view": ("view", "interest"),
    "click": ("view", "interest"),
    "return": ("return", "negative"),
    "search": ("search", "signal"),
}


def events(text: str, *, every_ms: int = 1_000) -> list[StreamEvent]:
    """`a1` is user a on item 1; a pause is written `.`, a return `-`, both before the event."""
    found, now = [], 0
    for number, word in enumerate(text.split(), 1):
        now += every_ms
        if word.startswith("."):
            now += 3_600_000
        bare = word.strip(".-")
        found.append(StreamEvent(number, bare[0], bare[1:], "return" if "-" in word else "click", now))
    return found


def steps(text: str, gap_ms: int | None = 1_800_000, *, drop_repeats: bool = False) -> list[Step]:
    return list(Sequences(ROLES, gap_ms, drop_repeats=drop_repeats).follow(events(text)))  # type: ignore[arg-type]


def histories(found: Sequence[Step]) -> list[str]:
    return [
        "".join(visit[0] for visit in step.example.context.history[step.example.context.sitting :]) for step in found
    ]


def test_contexts_are_what_came_before_in_the_sitting():
    found = steps("a1 b1 a2 a2 .a3 a4")
    assert histories(found) == ["", "", "1", "12", "", "3"]
    assert [step.unscored for step in found] == ["first", "first", None, "repeat", "first", None]
    assert [len(step.example.context.history) for step in found] == [0, 0, 1, 2, 3, 4]
    assert found[1].example.context.now == 2_000
    assert found[2].example.context.history == (("1", "view", 1_000),)


def test_without_gaps_a_key_has_one_sitting():
    assert histories(steps("a1 .a2 .a3", None)) == ["", "1", "12"]


def test_repeats_leave_the_stream_but_not_across_sittings():
    found = steps("a1 a1 b1 a2 a2 .a2 a2 a1", drop_repeats=True)
    assert [step.example.item for step in found] == ["1", "1", "2", "2", "1"]
    assert [step.unscored for step in found] == ["first", "first", None, "first", None]


def test_returns_stand_in_no_history_and_are_no_targets():
    found = steps("a1 -a1 a2")
    assert [(step.example.role, step.unscored) for step in found] == [
        ("interest", "first"),
        ("negative", "role"),
        ("interest", None),
    ]
    assert histories(found) == ["", "1", "1"]


def test_a_context_holds_the_last_20():
    found = steps(" ".join(f"a{number % 7}" for number in range(30)) + " .a1 a2")
    assert [len(step.example.context.history) for step in found[18:23]] == [18, 19, 20, 20, 20]
    assert found[-1].example.context.sitting == 19
    assert found[-1].unscored is None


def test_events_that_cannot_be_used_are_told_by_line():
    refused: list[tuple[int, str]] = []
    sequences = Sequences(ROLES, None, refuse=lambda line, reason: refused.append((line, reason)))  # type: ignore[arg-type]
    odd = [
        StreamEvent(4, "a", "1", "hover", 0),
        StreamEvent(5, "a", None, "click", 0),
        StreamEvent(6, "a", None, "return", 0),
        StreamEvent(7, "a", None, "search", 0),
    ]
    assert [step.example.role for step in sequences.follow(odd)] == ["signal"]
    assert refused == [
        (4, "unknown behavior 'hover'"),
        (5, "a view needs an item_id"),
        (6, "a return needs an item_id"),
    ]


class Oracle:
    """Ranks from a list; notes what it was asked and taught, in order."""

    def __init__(self, ranks: Sequence[int] = ()) -> None:
        self.ranks = list(ranks)
        self.asked: list[tuple[str, str, frozenset[str]]] = []
        self.log: list[str] = []

    def admit(self, examples: Sequence[Example]) -> list[str]:
        self.log.append("admit " + "".join(example.item or "" for example in examples))
        return []

    def rank(self, requests: Sequence[Request], targets: Sequence[str]) -> list[int]:
        for request, target in zip(requests, targets, strict=True):
            self.asked.append(("".join(v[0] for v in request.context.history), target, frozenset(request.exclude)))
        self.log.append("rank " + "".join(targets))
        return [self.ranks.pop(0) for _ in targets]

    def learn(self, examples: Sequence[Example]) -> LearnReport:
        self.log.append("learn " + "".join(example.item or "" for example in examples))
        return LearnReport(len(examples), 0, None, 0, 0)

    def recommend(self, requests: Sequence[Request], k: int) -> list[Ranked]:
        raise NotImplementedError

    def state(self) -> object:
        raise NotImplementedError

    def load_state(self, state: object) -> None:
        raise NotImplementedError


def test_a_batch_is_let_in_then_ranked_then_learned():
    oracle = Oracle([1, 4, 21])
    outcome = Prequential(oracle, 3).run(steps("a1 b2 a2 b1 c3 b2"))
    assert oracle.log == ["admit 122", "rank 2", "learn 122", "admit 132", "rank 12", "learn 132"]
    assert oracle.asked == [("1", "2", {"1"}), ("2", "1", {"2"}), ("21", "2", {"1"})]
    assert (outcome.events, outcome.accuracy.scored, outcome.unscored) == (6, 3, {"first": 3})
    # 2 was seen before a took it; rank 21 is beyond the list.
    assert outcome.accuracy.recall == pytest.approx(2 / 3)
    assert outcome.accuracy.mrr == pytest.approx((1 + 1 / 4) / 3)


def test_an_item_never_seen_before_is_a_miss_whatever_its_rank():
    # All in one batch: a2 and b3 are new, so ranks 1 and 2 do not count; b1 and a1 have been seen.
    outcome = Prequential(Oracle([1, 4, 2, 1]), 64).run(steps("a1 a2 b2 b1 b3 a1", None))
    assert outcome.accuracy.scored == 4
    assert outcome.accuracy.recall == 0.5
    assert outcome.accuracy.mrr == pytest.approx((1 / 4 + 1) / 4)


def test_tenths_are_by_place_in_the_stream():
    log = RankLog()
    for place in range(100):
        log.add(place, 1 if place < 10 else 2 if place < 20 else 0)
    accuracy = log.accuracy(100)
    assert accuracy.recall_tenths == [1.0, 1.0, *[0.0] * 8]
    assert accuracy.mrr_tenths == [1.0, 0.5, *[0.0] * 8]
    empty = RankLog().accuracy(0)
    assert (empty.scored, empty.recall, empty.recall_tenths) == (0, None, [None] * 10)


def test_popularity_by_hand():
    """One event a batch. Popular so far, most often seen first, the item one is on left out."""
    learner = PopularityLearner(ModelConfig(popularity_half_life=1e9))
    outcome = Prequential(learner, 1).run(steps("a1 b1 b2 c1 c2 a2 a3 b1", None))
    # b2 new: 0 | c2: 2 alone is left: 1 | a2: on 1, 2 left: 1 | a3 new: 0 | b1: on 2; of 1 (3), 3 (1): 1
    assert outcome.accuracy.scored == 5
    assert outcome.accuracy.recall == pytest.approx(3 / 5)
    assert outcome.accuracy.mrr == pytest.approx(3 / 5)


def test_markov_by_hand():
    learner = markov(ModelConfig(popularity_half_life=1e9))
    outcome = Prequential(learner, 1).run(steps("a1 a2 a3 b1 b3 c1 c2 d1 d2", None))
    # a2, a3 new: 0, 0 | b3: after 1 came 2, then popular without 1: of 3 (1): 2 | c2: after 1 came 2 and 3 once each;
    # 3 is the more popular (2 against 1): 2 | d2: after 1 came 2 twice: 1
    assert outcome.accuracy.scored == 5
    assert outcome.accuracy.mrr == pytest.approx((0 + 0 + 1 / 2 + 1 / 2 + 1) / 5)


def test_a_frozen_copy_is_compared_on_the_same_events():
    live, frozen = Oracle([1] * 9), Oracle([2, 0])
    outcome = Prequential(live, 2, Freeze(6, lambda: frozen)).run(steps("a1 b1 c1 a1 a2 b2 a1 c2", None))
    assert frozen.log == ["rank 12"]
    comparison = outcome.comparison
    assert comparison is not None
    assert (comparison.live.scored, comparison.live.recall, comparison.live.mrr) == (2, 1.0, 1.0)
    assert (comparison.frozen.scored, comparison.frozen.recall, comparison.frozen.mrr) == (2, 0.5, 0.25)


def test_ties_count_against_the_model(context):
    flat = PopularityLearner(ModelConfig(popularity_half_life=1e18))
    flat.learn([Example(context(), item) for item in "abc"])
    assert flat.rank([Request(context())] * 3, ["a", "b", "c"]) == [3, 3, 3]


def test_the_recurrent_learner_scores_items_born_in_the_batch(config):
    outcome = Prequential(OnlineLearner(config), 64).run(steps("a1 b2 a2 b1 c2 c1", None))
    assert outcome.accuracy.scored == 3
    assert outcome.accuracy.recall == 1.0
