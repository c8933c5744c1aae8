"""What the recurrent learner alone promises."""

from dataclasses import replace

import pytest
import torch

from online_model.learner import OnlineLearner
from online_model.protocol import Example, ModelDiverged, Request
from online_model.serving import ServingModel


def same_tensors(one, other) -> bool:
    one, other = one.state().tensors, other.state().tensors
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def vector(learner: OnlineLearner, item: str) -> torch.Tensor:
    update = learner.update(full=True)
    return update.vectors[update.ids.index(item)]


@pytest.fixture
def config(config):
    """The first stage alone."""
    return replace(config, ranking="none")


@pytest.fixture
def taught(config, batches) -> OnlineLearner:
    learner = OnlineLearner(config)
    for batch in batches(30):
        learner.learn(batch)
    return learner


def test_it_learns_what_follows_what(config, batches, asking):
    learner = OnlineLearner(config)
    for batch in batches(400):
        learner.learn(batch)
    hits = sum(str((item + 1) % 40) in learner.recommend([asking(str(item))], 3)[0].items for item in range(40))
    assert hits >= 36


def test_admit_and_then_learn_equals_learn(config, batches, asking):
    one, other = (OnlineLearner(replace(config, max_items=60)) for _ in range(2))
    for batch in batches(20, n_items=300):
        new = other.admit(batch)
        assert all(item in other for item in new)
        report = one.learn(batch)
        assert len(new) == report.n_new_items
        assert other.learn(batch) == replace(report, n_new_items=0)
    assert one.n_evicted == other.n_evicted > 0
    assert same_tensors(one, other)


def test_a_new_item_starts_half_way_from_the_item_before_it(config, context):
    learner = OnlineLearner(replace(config, init=1e-3))
    learner.learn([Example(context(), "a")])
    for _ in range(30):
        learner.learn([Example(context("a"), "b"), Example(context("b"), "a"), Example(context("a"), "c")])
    before = vector(learner, "a").clone()
    learner.admit(
        [Example(context("a"), "child"), Example(context("a", "child"), "grandchild"), Example(context(), "lone")]
    )
    assert before.abs().max() > 1e-2
    torch.testing.assert_close(vector(learner, "child"), before / 2, atol=1e-3, rtol=0)
    torch.testing.assert_close(vector(learner, "grandchild"), before / 4, atol=1e-3, rtol=0)
    assert vector(learner, "lone").abs().max() <= 1e-3


def test_items_of_earlier_sittings_and_unknown_ones_are_not_seen(taught, asking, context):
    whole = asking("7", "8", "nobody knows", "9")
    late = replace(whole, context=replace(context("30", "31", "8", "9"), sitting=2))
    early = replace(whole, context=context("8", "9"))
    assert taught.recommend([late], 5) == taught.recommend([early], 5)
    no_sitting = replace(whole, context=replace(context("8", "9"), sitting=2))
    assert set(taught.recommend([no_sitting], 5)[0].sources) == {"popular"}


def test_answers_do_not_depend_on_who_else_asks(taught, asking):
    requests = [asking(*map(str, range(start, start + length))) for start in range(5) for length in range(1, 6)]
    together = taught.recommend(requests, 5)
    for request, answer in zip(requests, together, strict=True):
        (alone,) = taught.recommend([request], 5)
        assert alone.items == answer.items
        assert alone.scores == pytest.approx(answer.scores, abs=1e-5)


def test_growing_keeps_old_vectors_and_their_past(taught, context):
    before = taught.state()
    n_items = taught.n_items
    for start in range(0, 3_000, 100):
        taught.admit([Example(context(), f"new {number}") for number in range(start, start + 100)])
    after = taught.state()
    assert taught.n_items == 1_000
    for name in ("vectors", "biases", "vector_squares", "bias_squares"):
        assert torch.equal(after.tensors[name][:n_items], before.tensors[name])


def test_the_first_two_items_are_no_lesson_yet(config, context):
    """A target and the item that the user is on leave nothing to compare with."""
    learner = OnlineLearner(config)
    report = learner.learn([Example(context(), "a"), Example(context("a"), "b")])
    assert (report.n_targets, report.loss) == (0, None)
    assert learner.learn([Example(context("b"), "c")]).n_targets == 1


def test_bfloat16_products_list_nearly_the_same(config, taught, batches):
    rough = OnlineLearner(replace(config, score_dtype="bfloat16"))
    rough.load_state(taught.state())
    copy = ServingModel(rough.update())
    requests = [Request(example.context) for example in batches(1, size=50)[0]]
    both = list(zip(rough.recommend(requests, 10), taught.recommend(requests, 10), strict=True))
    assert copy.recommend(requests, 10) == [listed for listed, _ in both]
    assert sum(len(set(one.items) & set(other.items)) for one, other in both) >= 0.95 * 10 * len(both)
    for one, other in both:
        assert one.scores == pytest.approx(other.scores, abs=0.1)


def test_exposures_and_signals_teach_nothing(taught, context):
    before = taught.state()
    report = taught.learn([Example(context("1"), "2", "exposure"), Example(context("1"), None, "signal")])
    assert (report.n_targets, report.loss) == (0, None)
    after = taught.state()
    assert all(torch.equal(after.tensors[name], tensor) for name, tensor in before.tensors.items())


def test_a_disliked_item_sinks_and_an_unknown_one_is_ignored(taught, context, asking):
    ask = asking("3", exclude=frozenset())
    (before,) = taught.rank([ask], ["4"])
    n_items = taught.n_items
    for _ in range(50):
        report = taught.learn(
            [Example(context("3"), "4", "negative"), Example(context("3"), "no such item", "negative")]
        )
    (after,) = taught.rank([ask], ["4"])
    assert after > before
    assert taught.n_items == n_items
    assert (report.n_targets, report.loss) == (0, None)


def test_a_weight_of_0_teaches_nothing_but_counts(taught, context):
    report = taught.learn([Example(context("3"), "4", weight=0.0)])
    assert report.n_targets == 0


@pytest.mark.parametrize("poison", ["vectors", "encoder.weight_hh_l0"])
def test_divergence_changes_nothing_but_who_is_in(config, taught, batches, poison):
    state = taught.state()
    state.tensors[poison] = torch.full_like(state.tensors[poison], torch.nan)
    broken = OnlineLearner(replace(config, max_items=45))
    broken.load_state(state)
    batch = batches(1, seed=8, n_items=80)[0]
    broken.admit(batch)
    before = broken.state()
    with pytest.raises(ModelDiverged, match="not finite"):
        broken.learn(batch)
    after = broken.state()
    for name, tensor in before.tensors.items():
        assert torch.equal(after.tensors[name].nan_to_num(7), tensor.nan_to_num(7)), name
    assert before.metadata == after.metadata


def test_a_state_of_another_size_is_refused_by_both_sizes(config, taught):
    other = OnlineLearner(replace(config, hidden=16))
    before = OnlineLearner(replace(config, hidden=16))
    with pytest.raises(ValueError, match=r"hidden = 8.*hidden = 16"):
        other.load_state(taught.state())
    assert same_tensors(other, before)
    small = OnlineLearner(replace(config, max_items=10))
    with pytest.raises(ValueError, match=r"40 items.*allows 10"):
        small.load_state(taught.state())


def test_items_wait_for_their_second_sighting_where_asked(config, context, asking):
    learner = OnlineLearner(replace(config, admit_after=2))
    learner.learn([Example(context(), "a"), Example(context(), "b")])
    assert learner.n_items == 0
    other = OnlineLearner(replace(config, admit_after=2))
    other.load_state(learner.state())
    for each in (learner, other):
        assert each.admit([Example(context(), "b")]) == ["b"]
        each.learn([Example(context(), "b"), Example(context(), "c")])
        assert each.recommend([asking()], 5)[0].items == ["b"]
    assert same_tensors(learner, other)


def test_a_large_state_can_go_on_with_a_batch_that_names_no_item(config, context):
    learner = OnlineLearner(replace(config, max_items=5_000))
    learner.admit([Example(context(), str(number)) for number in range(3_000)])
    resumed = OnlineLearner(learner.config)
    resumed.load_state(learner.state())
    report = resumed.learn([Example(context("1"), None, "signal")])
    assert (report.n_items, report.n_targets) == (3_000, 0)
    assert len(resumed.update().rows) == 3_000


def test_who_takes_over_a_row_has_no_past(config, batches, context):
    learner = OnlineLearner(replace(config, max_items=40))
    for batch in batches(30):
        learner.learn(batch)
    newcomers = [f"new {number}" for number in range(20)]
    evicted = {row: item for row, item in enumerate(learner.update(full=True).ids)}
    assert learner.admit([Example(context(), item) for item in newcomers]) == newcomers
    update, state = learner.update(full=True), learner.state()
    rows = torch.tensor([update.ids.index(item) for item in newcomers])
    assert not {evicted[row] for row in rows.tolist()} & set(update.ids)
    assert update.vectors[rows].abs().max() <= config.init
    for name in ("biases", "vector_squares", "bias_squares", "counts"):
        assert not state.tensors[name][rows].any(), name
    assert state.tensors["vector_squares"].any()


def test_a_flood_of_ids_that_come_once_leaves_the_catalogue(config, batches, context):
    learner = OnlineLearner(replace(config, max_items=100))
    for batch in batches(30):
        learner.learn(batch)
    for number in range(200):
        learner.learn([Example(context("1"), f"spam {number} {place}") for place in range(10)])
    assert learner.n_items == 100
    assert all(str(item) in learner for item in range(40))


def test_a_serving_copy_follows_through_evictions(config, batches):
    learner = OnlineLearner(replace(config, max_items=50), lineage="run")
    copy = ServingModel(learner.update())
    for number, batch in enumerate(batches(60, n_items=200)):
        learner.learn(batch)
        if number % 3 == 0:
            copy.apply(learner.update())
            assert (copy.version, copy.lineage, copy.n_items) == (learner.version, "run", learner.n_items)
            assert same_answers(copy, learner, batch)
    assert learner.n_evicted > 100


def same_answers(copy, learner, batch) -> bool:
    requests = [Request(example.context) for example in batch]
    targets = [example.item or "" for example in batch]
    return copy.recommend(requests, 20) == learner.recommend(requests, 20) and copy.rank(
        requests, targets
    ) == learner.rank(requests, targets)


def test_recent_negatives_push_down_what_was_a_target_of_late_and_nothing_else(config, context):
    learner = OnlineLearner(replace(config, recent_negatives=1.0, negatives=200))
    items = [str(item) for item in range(30)]
    learner.learn([Example(context(), item) for item in items])
    learner.learn([Example(context("0"), item) for item in ("1", "2")])
    before = {item: vector(learner, item) for item in items}
    learner.learn([Example(context("3"), "4")])
    moved = {item for item in items if not torch.equal(before[item], vector(learner, item))}
    assert moved == {"1", "2", "3", "4"}


def test_with_recent_negatives_a_restart_changes_nothing(config, batches):
    config = replace(config, recent_negatives=0.5, max_items=60)
    whole, stopped = OnlineLearner(config), OnlineLearner(config)
    for batch in batches(20, n_items=300):
        whole.learn(batch)
        stopped.learn(batch)
        restarted = OnlineLearner(config)
        restarted.load_state(stopped.state())
        stopped = restarted
    assert same_tensors(whole, stopped)
