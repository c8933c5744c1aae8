"""Several models on one stream: segments, lists, sittings, the offline rival."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_model.baselines.popularity import PopularityLearner
from online_model.baselines.simple import markov
from online_model.config import ModelConfig
from online_model.evaluation.batches import Batches
from online_model.evaluation.contestant import Contestant
from online_model.evaluation.folds import evaluate
from online_model.evaluation.prequential import Prequential
from online_model.evaluation.race import Race, RaceOutcome
from online_model.evaluation.retrained import Retrained
from online_model.evaluation.sequences import Sequences, Step
from online_model.evaluation.sittings import SittingLog
from online_model.evaluation.streams import StreamEvent
from online_model.evaluation.summary import summarise
from online_model.protocol import Example, LearnReport, Ranked, Request

ROLES = {"view": ("view", "interest"), "buy": ("buy", "strong")}
MINUTE = 60_000


def stream(text: str) -> list[Step]:
    """`a1` is user a on item 1, a minute after the event before; `.` pauses for an hour, `!` buys."""
    now, found = 0, []
    for number, word in enumerate(text.split(), 1):
        now += 61 * MINUTE if word.startswith(".") else MINUTE
        bare = word.strip(".!")
        found.append(StreamEvent(number, bare[0], bare[1:], "buy" if "!" in word else "view", now))
    return list(Sequences(ROLES, 30 * MINUTE).follow(found))  # type: ignore[arg-type]


class Fixed:
    """Answers every request with the same list."""

    def __init__(self, items: str, probabilities: list[float] | None = None) -> None:
        self.ranked = Ranked(list(items), [0.0] * len(items), ["fixed"] * len(items), len(items), probabilities)
        self.learned: list[list[str | None]] = []

    def recommend(self, requests: Sequence[Request], k: int) -> list[Ranked]:
        return [self.ranked for _ in requests]

    def rank(self, requests: Sequence[Request], targets: Sequence[str]) -> list[int]:
        items = self.ranked.items
        return [items.index(target) + 1 if target in items else 0 for target in targets]

    def learn(self, examples: Sequence[Example]) -> LearnReport:
        self.learned.append([example.item for example in examples])
        return LearnReport(len(examples), 0, None, 0, 0)


def race(steps: list[Step], batch_size: int = 2, *, repeats: bool = False, **learners: object) -> RaceOutcome:
    contestants = [Contestant(name, learner, lists=True) for name, learner in learners.items()]  # type: ignore[arg-type]
    return Race(contestants, batch_size, len(steps), repeats=repeats).run(steps)


def test_segments_by_hand():
    #                  first unseen       old     first  ->     returning        returning, buy
    outcome = race(stream("a1 a2 b1 b2 a1 .b3 b1 b2 !b1"), fixed=Fixed("12"))
    segments = outcome.watch.segments.segments()
    assert outcome.watch.segments.places().tolist() == [1, 3, 4, 6, 7, 8]
    assert segments["user"]["returning"].tolist() == [False, False, False, True, True, True]
    assert segments["item"]["unseen"].tolist() == [True, False, False, False, False, False]
    assert segments["item"]["new"].tolist() == [False, True, True, True, True, True]
    assert segments["position"]["1"].tolist() == [True, True, False, True, False, False]
    assert segments["position"]["2"].tolist() == [False, False, True, False, True, False]
    assert segments["position"]["3-5"].tolist() == [False] * 5 + [True]
    assert segments["behavior"]["buy"].tolist() == [False] * 5 + [True]
    assert outcome.watch.segments.users().tolist() == [0, 1, 0, 1, 1, 1]


def test_an_item_is_old_after_10000_events():
    steps = stream("a1 " + "b2 c3 " * 4_999 + "b2 d5 d1 d3")
    watch = race(steps, 64, repeats=True, fixed=Fixed("1")).watch
    found = watch.segments.segments()["item"]
    # 1 came 10,001 events before, 3 came 10,000 events before.
    assert found["old"][-2:].tolist() == [True, False]
    assert not found["old"][:-2].any()
    n_lists = len(watch.segments)
    # Item 1 stands in every list, and is old in the last two.
    assert watch.lists["fixed"].breadth().new_share == pytest.approx((n_lists - 2) / n_lists)


def test_every_division_covers_every_scored_event_once():
    outcome = race(stream("a1 b1 a2 .a1 b2 a3 !b1 b3 a1 a4 a2 a3"), fixed=Fixed("12"))
    for parts in outcome.watch.segments.segments().values():
        assert (sum(mask.astype(int) for mask in parts.values()) == 1).all()


def test_what_lists_hold_by_hand():
    outcome = race(stream("a1 a2 a3 a4 a1 a2 a3 a4 a1 a2"), 1, fixed=Fixed("12", [0.5, 0.25]))
    lists = outcome.watch.lists["fixed"]
    whole = lists.breadth()
    # Nine lists of two; of the four items, two are listed; the head is item 1 alone until it is looked up again.
    assert whole.places == 18
    assert whole.coverage == 0.5
    assert whole.popular_share == 0.5
    assert whole.new_share == 1.0
    stated = lists.calibration()
    assert stated is not None
    assert stated.stated == 18
    assert sum(h * n for h, n in zip(stated.happened, stated.sizes, strict=True)) == pytest.approx(5)
    assert lists.breadth(0, 0).places == 0
    assert lists.calibration(0, 0) is None


def test_further_items_of_the_sitting_by_hand():
    # a's further items at 2: 2, 3, 1; at 3: 3, 1; at 1: 1. After the pause: 9 at its second event.
    outcome = race(stream("a1 a2 a3 a1 .a7 a9"), fixed=Fixed("12"))
    found = outcome.watch.sittings.further("fixed", outcome.watch.segments.places() >= 0)
    assert found is not None
    assert found.precision == pytest.approx((2 + 1 + 1 + 0) / 4 / 20)
    assert found.recall == pytest.approx((2 / 3 + 1 / 2 + 1 / 1 + 0) / 4)
    assert found.f1 == pytest.approx((4 / 23 + 2 / 22 + 2 / 21 + 0) / 4)


def test_what_a_sitting_keeps_is_bounded():
    log = SittingLog(["model"], max_sitting=3, max_open=2)
    steps = stream("a1 a2 b1 c1 a3 a4 a5")
    # c opens a third sitting, so a, idle longest, is over there; and its next three events are a sitting.
    (batch,) = Batches(64).cut(steps)
    lists = [Ranked(["2", "3", "5"], [], [], 3) for _ in batch.scored]
    log.note(batch, {"model": lists})
    assert len(log._open) <= 2
    log.finish()
    assert log._open == {}
    assert list(log._n_further) == [1, 3, 2, 1]
    assert list(log._hits["model"]) == [1, 2, 1, 1]


words = st.lists(st.tuples(st.booleans(), st.sampled_from("abc"), st.sampled_from("12345")), min_size=2, max_size=40)


@given(words)
def test_further_items_are_those_that_a_look_ahead_finds(chosen):
    steps = stream(" ".join(("." if pause else "") + user + item for pause, user, item in chosen))
    outcome = race(steps, 3, fixed=Fixed("135"))
    expected = []
    for place in outcome.watch.segments.places().tolist():
        further = set()
        for step in steps[place:]:
            if step.key == steps[place].key:
                if step is not steps[place] and step.unscored == "first":
                    break
                further.add(step.example.item)
        expected.append((len(further), len(further & set("135"))))
    log = outcome.watch.sittings
    assert list(zip(log._n_further, log._hits["fixed"], strict=True)) == expected


def test_every_model_meets_the_same_mini_batches_and_ranks_as_alone():
    steps = stream("a1 b1 a2 b3 a3 b2 a1 c1 c2 c3 a2 b1 c1")
    one, other = Fixed("21"), Fixed("3")
    outcome = race(steps, 4, one=one, other=other, markov=markov(ModelConfig()))
    assert one.learned == other.learned
    assert [len(batch) for batch in one.learned] == [4, 4, 4, 1]
    alone = Prequential(markov(ModelConfig()), 4).run(steps)
    assert outcome.ranks["markov"].tolist() == alone.ranks.tolist()
    assert outcome.unscored == alone.unscored
    assert set(outcome.costs) == {"one", "other", "markov"}


def test_a_live_list_is_the_one_that_was_served_before():
    steps = stream("a1 a2 b1 b2 a1 a2")
    contestant = Contestant("popular", PopularityLearner(ModelConfig()), served=True, lists=True)
    outcome = Race([contestant], 2, len(steps)).run(steps)
    assert (
        outcome.ranks["popular"].tolist()
        == Prequential(PopularityLearner(ModelConfig()), 2, served=True).run(steps).ranks.tolist()
    )
    assert outcome.watch.lists["popular"].breadth().places > 0


def test_two_models_need_two_names():
    with pytest.raises(ValueError, match="two models are called x"):
        Race([Contestant("x", Fixed("1")), Contestant("x", Fixed("2"))], 2, 4)


def test_repeats_are_scored_and_may_be_listed():
    steps = stream("a1 a1 a2 a2")
    (batch,) = Batches(8, repeats=True).cut(steps)
    assert batch.scored == [1, 2, 3]
    assert [request.exclude for request in batch.requests] == [frozenset()] * 3
    (plain,) = Batches(8).cut(steps)
    assert plain.scored == [2]
    assert plain.requests[0].exclude == {"1"}


class Recorder(Fixed):
    """Knows how it was trained; answers with what it learned last."""

    def __init__(self) -> None:
        super().__init__("")

    def rank(self, requests: Sequence[Request], targets: Sequence[str]) -> list[int]:
        return [sum(map(len, self.learned))] * len(requests)


def test_the_offline_rival_knows_all_that_came_before_its_tenth_and_nothing_of_it():
    steps = stream(" ".join(f"a{n}" for n in range(40)))
    built: list[Recorder] = []

    def build() -> Recorder:
        built.append(Recorder())
        return built[-1]

    rival = Retrained(build, lambda: steps, 40, batch_size=2, epochs=2)  # type: ignore[arg-type, return-value]
    ranks = []
    for batch in Batches(2).cut(steps):
        ranks.append(rival.rank(batch.requests, batch.targets)[-1])
        rival.learn(batch.examples)
    # Tenths of four events; twice through what came before.
    assert ranks == [n_before * 2 for tenth in range(10) for n_before in (4 * tenth, 4 * tenth)]
    assert len(built) == 9
    assert [item for batch in built[0].learned for item in batch] == ["0", "1", "2", "3"] * 2
    assert rival.recommend([], 5) == []


def test_the_offline_rival_answers_nothing_before_it_was_trained():
    rival = Retrained(Recorder, lambda: [], 40, batch_size=2)  # type: ignore[arg-type]
    (request,) = next(Batches(2).cut(stream("a1 a2"))).requests
    assert rival.rank([request], ["2"]) == [0]
    assert rival.recommend([request], 5)[0].items == []
    with pytest.raises(ValueError, match="epochs must be at least 1, not 0"):
        Retrained(Recorder, lambda: [], 40, batch_size=2, epochs=0)  # type: ignore[arg-type]


def test_the_summary_tells_gains_of_the_first_model():
    steps = stream("a1 a2 a1 a2 b1 b2 b1 b2 c1 c2 c1 c2 c1 c2 c1 c2 c1 c2 c1 c2")
    found = summarise(race(steps, 2, good=Fixed("12"), bad=Fixed("34")))
    assert list(found["models"]) == ["good", "bad"]
    assert list(found["gains"]) == ["bad"]
    gain = found["gains"]["bad"]["last_70"]
    assert found["gains"]["bad"]["of"] == "good"
    assert gain["recall"]["difference"] == 1.0
    assert 0 < gain["mrr"]["low"] <= gain["mrr"]["difference"] <= gain["mrr"]["high"] < 1
    good = found["models"]["good"]
    assert sum(tenth["scored"] for tenth in good["tenths"]) == found["scored"] == good["all"]["scored"]
    assert good["last_70"]["scored"] == sum(tenth["scored"] for tenth in good["tenths"][3:])
    assert good["all"]["probability"] is None


def test_folds_are_those_of_the_pass():
    steps = stream("a1 a2 a1 a2 b1 b2 b1 b2")
    found, cost = evaluate(Fixed("12"), steps, 8, 2, batch_size=2)
    # Of the first fold, item 2 was new once.
    assert found.recall == [pytest.approx(2 / 3), 1.0]
    assert cost.wall_seconds > 0
