import json

import pytest

from online_model.evaluation.arms import LiveMeasure, MeasuredEvent, MeasurePlan, in_sample
from online_model.evaluation.tally import ARMS, RIVALS, Tally
from online_model.protocol import Context, Example, LearnReport, State

HOUR = 3_600_000


class Counting:
    """A small learner: the most often seen item ranks first."""

    def __init__(self, counts=None):
        self.counts = dict(counts or {})
        self.asked = []

    def rank(self, requests, targets):
        self.asked.append(len(requests))
        ranks = []
        for request, target in zip(requests, targets, strict=True):
            order = sorted(set(self.counts) - request.exclude, key=lambda item: (-self.counts[item], item))
            ranks.append(order.index(target) + 1 if target in order else 0)
        return ranks

    def recommend(self, requests, k):
        raise NotImplementedError

    def learn(self, examples):
        for example in examples:
            self.counts[example.item] = self.counts.get(example.item, 0) + 1
        return LearnReport(len(examples), 0, None, 0, len(self.counts))

    def state(self):
        return State({}, {"counts": dict(self.counts)})

    def load_state(self, state):
        self.counts = dict(state.metadata["counts"])

    @classmethod
    def restored(cls, state):
        return cls(state.metadata["counts"])


def build(learner, **plan):
    return LiveMeasure(
        MeasurePlan(**{"sample": 1.0, "frozen_after": 2, **plan}),
        copy=lambda: Counting(learner.counts),
        restore=Counting.restored,
        popularity=Counting(),
        exclude=lambda context: {context.history[-1][0]} if context.history else set(),
    )


def event(item, *, before="x", live_rank=0, unscored=None, **rest):
    return MeasuredEvent("u", Context([(before, "view", 0)], 0, 1), item, live_rank, unscored, **rest)


def learn(measure, learner, items, now, n_learned):
    examples = [Example(Context(), item) for item in items]
    learner.learn(examples)
    measure.learned(examples, n_learned, now)


def cells(measure, quantity, origin="organic"):
    return {arm: n for (arm, o), n in measure.totals()[quantity].items() if o == origin}


def test_each_arm_answers_from_what_it_knew_before_the_event():
    learner = Counting()
    measure = build(learner)
    measure.observe([event("a", live_rank=1)])
    assert cells(measure, "scored") == {"live": 1, "frozen": 0, "nightly": 0, "popularity": 1}
    learn(measure, learner, ["a", "a"], now=0, n_learned=2)  # the frozen copy knows a
    learn(measure, learner, ["b"], now=24 * HOUR, n_learned=3)  # the nightly copy knows b too
    measure.observe([event("b", live_rank=4), event("a")])
    assert cells(measure, "scored") == {"live": 3, "frozen": 2, "nightly": 2, "popularity": 3}
    assert cells(measure, "hits") == {"live": 2, "frozen": 1, "nightly": 2, "popularity": 2}
    assert cells(measure, "reciprocal_rank") == {"live": 1.25, "frozen": 1.0, "nightly": 1.5, "popularity": 1.5}
    pairs = measure.totals()["pairs"]
    assert {outcome: n for (rival, outcome), n in pairs.items() if rival == "frozen"} == {
        "both": 0,
        "live_only": 1,
        "other_only": 1,
        "neither": 0,
    }


def test_an_item_that_nobody_had_seen_is_a_miss_for_every_arm():
    learner = Counting()
    measure = build(learner)
    learn(measure, learner, ["a", "b"], now=0, n_learned=2)
    measure.observe([event("new")])
    assert set(cells(measure, "hits").values()) == {0}
    assert cells(measure, "scored")["frozen"] == 1


def test_the_item_the_user_is_on_stands_in_no_arm_s_list():
    learner = Counting()
    measure = build(learner)
    learn(measure, learner, ["a", "a", "b"], now=0, n_learned=3)
    measure.observe([event("b", before="a", live_rank=1)])
    assert cells(measure, "reciprocal_rank")["frozen"] == 1.0


def test_attributed_events_count_apart_and_in_no_pair():
    learner = Counting()
    measure = build(learner)
    learn(measure, learner, ["a", "b"], now=0, n_learned=2)
    measure.observe([event("a", live_rank=1, attributed=True, late_list=True)])
    assert cells(measure, "hits", "attributed")["live"] == 1
    assert set(cells(measure, "scored").values()) == {0}
    assert set(measure.totals()["pairs"].values()) == {0}
    assert measure.totals()["late_lists"] == {(): 1}


def test_unscored_events_are_counted_by_reason_and_ask_no_arm():
    learner = Counting()
    measure = build(learner)
    learn(measure, learner, ["a", "b"], now=0, n_learned=2)
    measure.observe([event("a", unscored="first"), event("a", unscored="no_list"), event("a", unscored="first")])
    assert measure.totals()["unscored"] == {
        ("first",): 2,
        ("repeat",): 0,
        ("filtered",): 0,
        ("no_list",): 1,
        ("late",): 0,
    }
    assert set(cells(measure, "scored").values()) == {0}
    with pytest.raises(ValueError, match="expected a reason"):
        measure.observe([event("a", unscored="moon")])


def test_the_frozen_copy_is_taken_once_and_the_nightly_one_by_the_stream_s_clock():
    learner = Counting()
    measure = build(learner, nightly_hours=1.0)
    learn(measure, learner, ["a"], now=None, n_learned=1)
    learn(measure, learner, ["b"], now=5 * HOUR, n_learned=2)
    assert set(measure.states()) == {"measure", "popularity", "frozen"}
    learn(measure, learner, ["c"], now=6 * HOUR - 1, n_learned=3)
    assert set(measure.states()) == {"measure", "popularity", "frozen"}
    learn(measure, learner, ["d"], now=6 * HOUR, n_learned=4)
    learn(measure, learner, ["e"], now=7 * HOUR - 1, n_learned=5)
    states = measure.states()
    assert states["frozen"].metadata["counts"] == {"a": 1, "b": 1}
    assert states["nightly"].metadata["counts"] == {"a": 1, "b": 1, "c": 1, "d": 1}
    learn(measure, learner, ["f"], now=7 * HOUR, n_learned=6)
    assert "f" in measure.states()["nightly"].metadata["counts"]


def test_saved_and_loaded_it_goes_on_as_if_nothing_had_been():
    learner = Counting()
    measure = build(learner, nightly_hours=1.0)
    for hour in range(3):
        measure.observe([event("a", live_rank=3), event("b", unscored="late")])
        learn(measure, learner, ["a", f"item-{hour}"], now=hour * HOUR, n_learned=2 * (hour + 1))
    restored = build(learner, nightly_hours=1.0)
    states = {name: State({}, json.loads(json.dumps(state.metadata))) for name, state in measure.states().items()}
    restored.load_states(states)
    for one in (measure, restored):
        one.observe([event("item-1"), event("item-2")])
    assert restored.totals() == measure.totals()
    assert restored.states() == measure.states()
    assert measure.totals()["reciprocal_rank"]["live", "organic"] == 3 * (1 / 3)


def test_a_batch_is_one_question_to_each_arm():
    learner = Counting()
    measure = build(learner)
    measure.observe([event("a"), event("b"), event("c", unscored="first")])
    assert measure._popularity.asked == [2]


def test_the_sample_is_sticky_and_nested():
    users = [f"user-{n}" for n in range(2000)]
    small = {user for user in users if in_sample(user, 0.1)}
    assert 150 < len(small) < 250
    assert small < {user for user in users if in_sample(user, 0.3)}
    assert all(in_sample(user, 1.0) for user in users)
    learner = Counting()
    measure = build(learner, sample=0.1)
    inside, outside = next(iter(small)), next(user for user in users if user not in small)
    for user in (inside, outside):
        measure.observe([MeasuredEvent(user, Context(), "a", 1, None)])
    assert cells(measure, "scored")["live"] == 1


def test_lists_shorter_than_twenty_bound_every_arm():
    tally = Tally(depth=5)
    tally.count("organic", {"live": 5, "frozen": 6}, late_list=False)
    assert tally.totals()["hits"]["live", "organic"] == 1
    assert tally.totals()["hits"]["frozen", "organic"] == 0
    assert Tally(depth=100).depth == 20


def test_a_rank_of_none_of_the_list_is_no_hit():
    tally = Tally()
    tally.count("organic", dict.fromkeys(ARMS, 0), late_list=False)
    assert all(tally.totals()["pairs"][rival, "neither"] == 1 for rival in RIVALS)
    tally.count("organic", {"live": 21, "frozen": 20}, late_list=False)
    assert tally.totals()["pairs"]["frozen", "other_only"] == 1


def test_the_labels_are_those_that_the_metrics_expect():
    from monitoring.measure import LABELS, cells

    totals = Tally().totals()
    assert set(totals) == set(LABELS)
    for quantity, values in totals.items():
        assert set(values) == set(cells(quantity))
