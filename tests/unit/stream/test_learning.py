import math

import pytest
import torch

from online_model.protocol import ModelDiverged
from stream.learning import Learning, MiniBatch, to_example
from stream.overload import LearningPressure, is_sampled
from stream.records import TrainingExample, encode_example
from stream.settings import OverloadSettings, Settings

SETTINGS = Settings(
    model={"hidden": 8, "negatives": 16, "device": "cpu"},
    measure={"sample": 1.0, "frozen_after": 40, "nightly_hours": 1},
)
START = 1_700_000_000_000


def example(offset, /, *, partition=0, **changes):
    item = f"i{offset % 7}"
    facts = {
        "topic": "tag",
        "partition": partition,
        "offset": offset,
        "time": START + offset * 60_000,
        "logged_at": START + offset * 60_000,
        "user": f"u{offset % 5}",
        "behavior": "view",
        "role": "interest",
        "history": [(f"i{(offset + 3) % 7}", "view", START)],
        "sitting": 0,
        "item": item,
        "scored": True,
        "rank": offset % 3,
    }
    return TrainingExample(**facts | changes)


def batch_of(learning, examples, first=0):
    batch = MiniBatch()
    for offset, record in enumerate(examples, first):
        batch.take(offset, record if isinstance(record, bytes | None) else encode_example(record), learning.ledger)
    return batch


def weights(learning):
    return learning.learner.state().tensors


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_each_record_ends_in_exactly_one_way():
    learning = Learning(SETTINGS, "run")
    learning.learn(batch_of(learning, [example(0), example(1)]))
    batch = batch_of(
        learning,
        [example(1), example(2), example(2), b"x", None, example(3, sitting=9), example(0, partition=1)],
        first=2,
    )
    assert batch.end == 9
    learning.learn(batch)
    assert learning.ledger.counts == {"learned": 4, "sampled_out": 0, "quarantined": 3, "duplicate": 2}


def test_a_source_that_can_be_none_is_quarantined_without_being_known():
    learning = Learning(SETTINGS, "run")
    record = encode_example(example(0)).replace(b"\xa6offset\x00", b"\xa6offset\xff")  # -1
    batch = batch_of(learning, [record, example(1)])
    assert batch.undecodable == [(0, "expected a source offset of at least 0, got -1")]
    learning.learn(batch)
    assert learning.ledger.counts["quarantined"] == learning.ledger.counts["learned"] == 1


def pressed(lag_seconds):
    """The pressure of a trainer that is live and so far behind."""
    pressure = LearningPressure(OverloadSettings(), 64)
    pressure.caught_up(START)
    pressure.observe(lag_seconds)
    return pressure


def sampled_batch(learning, examples, lag_seconds, timestamp=START + 1):
    batch = MiniBatch()
    pressure = pressed(lag_seconds)
    for offset, record in enumerate(examples):
        batch.take(offset, encode_example(record), learning.ledger, pressure, timestamp)
    return batch


def test_of_a_sample_each_example_ends_in_one_way_and_the_same_one_in_every_run():
    """Seen to turn red where the verdict depends on the place in the log instead of the source."""
    learning, again = Learning(SETTINGS, "run"), Learning(SETTINGS, "run")
    examples = [example(n) for n in range(100)]
    batch = sampled_batch(learning, examples, 121)
    learned = {record.offset for record, one in zip(batch.records, batch.fresh, strict=True) if one.importance}
    assert learned == {n for n in range(100) if is_sampled(("tag", 0), n, 0.5)}
    assert {one.importance for one in batch.fresh} == {0.0, 2.0}
    assert batch.n_lessons == len(learned)
    other = sampled_batch(again, examples[50:] + examples[:50], 121)
    assert {record.offset for record, one in zip(other.records, other.fresh, strict=True) if one.importance} == learned
    (step,) = learning.learn(batch)
    assert learning.ledger.counts == {
        "learned": len(learned),
        "sampled_out": 100 - len(learned),
        "quarantined": 0,
        "duplicate": 0,
    }
    assert step.n_sampled_out == 100 - len(learned)
    repeated = sampled_batch(learning, examples, 0)
    assert repeated.n_duplicates == 100


def test_who_is_not_in_the_sample_is_counted_like_all_others():
    """All but the networks is as if all had been learned: vocabulary, popularity, transitions, sittings, clock."""
    sampling, plain = Learning(SETTINGS, "run"), Learning(SETTINGS, "run")
    examples = [example(n, item=f"i{n % 40}", role="strong" if n % 3 else "interest") for n in range(100)]
    sampling.learn(sampled_batch(sampling, examples, 10_000))
    plain.learn(sampled_batch(plain, examples, 0))
    assert sampling.ledger.counts["sampled_out"] > 80
    one, other = sampling.learner.state(), plain.learner.state()
    counted = [name for name in one.tensors if name.startswith(("evidence", "counts", "vocabulary", "ids"))]
    assert counted
    for name in counted:
        assert torch.equal(one.tensors[name], other.tensors[name]), name
    assert sampling.measure.totals() == plain.measure.totals()
    assert sampling.clock.now == plain.clock.now


@pytest.mark.parametrize(("changes", "timestamp"), [({"backlog": True}, START + 1), ({}, START - 1), ({}, -1)])
def test_what_was_no_live_example_is_never_sampled(changes, timestamp):
    """Red where a backlog can be live."""
    learning = Learning(SETTINGS, "run")
    batch = sampled_batch(learning, [example(n, **changes) for n in range(30)], 10_000, timestamp)
    assert batch.oldest_live is None
    assert batch.n_lessons == 30
    learning.learn(batch)
    assert learning.ledger.counts["learned"] == 30


def test_nothing_is_recorded_before_it_is_learned():
    learning = Learning(SETTINGS, "run")
    batch_of(learning, [example(0), b"broken"])
    assert set(learning.ledger.counts.values()) == {0}
    assert learning.ledger.fresh(("tag", 0), 0)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"time": 2**63}, "64 bits"),
        ({"unscored": "moon", "scored": False}, "expected unscored out of first"),
        ({"sitting": 2}, "sitting must be within"),
        ({"item": None}, "needs an item id"),
        ({"weight": math.inf}, "weight must be"),
        ({"weight": -1.0}, "weight must be"),
    ],
)
def test_what_cannot_be_an_example_is_quarantined_with_its_reason(changes, expected):
    with pytest.raises(ValueError, match=expected):
        to_example(example(0, **changes))
    learning = Learning(SETTINGS, "run")
    batch = batch_of(learning, [example(0, **changes), example(1)])
    assert len(batch.malformed) == 1
    learning.learn(batch)
    assert learning.ledger.counts["quarantined"] == learning.ledger.counts["learned"] == 1
    again = batch_of(learning, [example(0, **changes)], first=2)
    assert again.n_duplicates == 1


def test_an_event_without_an_item_is_an_example_and_no_target():
    learning = Learning(SETTINGS, "run")
    (step,) = learning.learn(
        batch_of(learning, [example(0, item=None, role="signal", behavior="search", scored=False)])
    )
    assert step.report.n_targets == 0
    assert learning.ledger.counts["learned"] == 1
    assert set(learning.measure.totals()["unscored"].values()) == {0}


def test_a_batch_is_measured_before_it_is_learned():
    learning = Learning(SETTINGS, "run")
    learning.learn(batch_of(learning, [example(n) for n in range(7)]))
    totals = learning.measure.totals()
    assert totals["hits"]["popularity", "organic"] == 0
    assert totals["scored"]["popularity", "organic"] == 7


def poison(monkeypatch, learning, bad):
    """Let every mini-batch that holds one of the bad items diverge, as a learner does: its weights stay."""
    learn = learning.learner.learn

    def poisoned(examples):
        if any(one.item in bad for one in examples):
            raise ModelDiverged("loss nan")
        return learn(examples)

    monkeypatch.setattr(learning.learner, "learn", poisoned)


def test_of_a_batch_that_diverges_only_the_cause_is_quarantined(monkeypatch):
    learning, plain = Learning(SETTINGS, "run"), Learning(SETTINGS, "run")
    poison(monkeypatch, learning, {"bad"})
    examples = [example(n) for n in range(10)]
    examples[4] = example(4, item="bad")
    steps = learning.learn(batch_of(learning, examples))
    assert len(steps) == 9
    assert learning.ledger.counts["learned"] == 9
    assert learning.ledger.counts["quarantined"] == 1
    assert not learning.ledger.fresh(("tag", 0), 4)
    for one in examples[:4] + examples[5:]:
        plain.learner.learn([to_example(one)])
    assert same(weights(learning), weights(plain))


def test_weights_that_are_broken_end_the_run(monkeypatch):
    learning = Learning(SETTINGS, "run")
    learning.learn(batch_of(learning, [example(n) for n in range(10)]))
    poison(monkeypatch, learning, {"i3"})
    state = learning.learner.state()
    state.tensors["biases"][2] = math.nan
    monkeypatch.setattr(learning.learner, "state", lambda: state)
    with pytest.raises(ModelDiverged, match="biases holds numbers that are not finite"):
        learning.learn(batch_of(learning, [example(n) for n in range(10, 20)], first=10))
    assert learning.ledger.counts["quarantined"] == 0


def test_saved_and_loaded_it_learns_on_bit_for_bit():
    learning = Learning(SETTINGS, "first")
    for first in range(0, 160, 16):
        if first == 96:
            restored = Learning(SETTINGS, "second")
            restored.load_states(learning.states())
        learning.learn(batch_of(learning, [example(n) for n in range(first, first + 16)], first=first))
    for first in range(96, 160, 16):
        restored.learn(batch_of(restored, [example(n) for n in range(first, first + 16)], first=first))
    assert "frozen" in learning.states()
    assert "nightly" in learning.states()
    for name, state in learning.states().items():
        other = restored.states()[name]
        assert same(state.tensors, other.tensors), name
        assert state.metadata | {"lineage": None} == other.metadata | {"lineage": None}, name


def test_a_checkpoint_of_another_size_is_refused_in_one_line():
    states = Learning(SETTINGS, "run").states()
    larger = Learning(Settings(model={"hidden": 9, "device": "cpu"}), "run")
    with pytest.raises(ValueError, match=r"hidden = 8.*hidden = 9"):
        larger.load_states(states)
    del states["clock"]
    with pytest.raises(ValueError, match="lacks 'clock'"):
        Learning(SETTINGS, "run").load_states(states)
