from dataclasses import replace

import pytest
import torch

from online_model.config import ModelConfig
from online_model.learner import OnlineLearner
from online_model.protocol import Example, Request
from online_model.serving import ServingModel, UpdateRefused
from online_model.updates import Update


@pytest.fixture(params=[0, 1], ids=["all scored", "indexed"])
def learner(request, config, batches) -> OnlineLearner:
    learner = OnlineLearner(replace(config, index_from=request.param), lineage="01RUN")
    for batch in batches(10):
        learner.learn(batch)
    return learner


@pytest.fixture
def copy(learner) -> ServingModel:
    return ServingModel.from_update(learner.update())


def answers(model, batch):
    requests = [Request(example.context) for example in batch]
    return model.recommend(requests, 10), model.rank(requests, [example.item or "" for example in batch])


def as_in(state, other) -> bool:
    return state.metadata == other.metadata and all(
        torch.equal(tensor, other.tensors[name]) for name, tensor in state.tensors.items()
    )


def test_an_update_survives_its_bytes(learner, copy, batches):
    learner.learn(batches(1, seed=2)[0])
    update = learner.update()
    again = Update.decode(update.encode())
    assert not again.full
    assert (again.base, again.version, again.lineage, again.ids) == (10, 11, "01RUN", update.ids)
    copy.apply(again)
    assert answers(copy, batches(1)[0]) == answers(learner, batches(1)[0])


def test_an_update_holds_only_what_changed_and_shares_nothing(config, batches, context):
    learner = OnlineLearner(replace(config, negatives=4))
    learner.learn([Example(context(), f"i{number}") for number in range(500)])
    assert len(learner.update().rows) == 500
    assert len(learner.update().rows) == 0
    learner.learn([Example(context("i1"), "i2"), Example(context(), "i3")])
    update = learner.update()
    assert {"i1", "i2", "i3"} <= set(update.ids)
    assert len(update.rows) <= 7
    before = update.encode()
    learner.learn([Example(context("i1"), "i2"), Example(context(), "i3")])
    assert update.encode() == before


def test_a_late_copy_may_take_an_update_that_reaches_back_further(learner, batches):
    learner.update()
    learner.learn(batches(1, seed=2)[0])
    late = ServingModel(learner.update(full=True))
    learner.learn(batches(1, seed=3)[0])
    update = learner.update()
    assert update.base == 10 < late.version == 11
    late.apply(update)
    assert answers(late, batches(1)[0]) == answers(learner, batches(1)[0])


def test_a_copy_starts_full(learner):
    learner.update()
    with pytest.raises(UpdateRefused, match="starts from a full update") as caught:
        ServingModel(learner.update())
    assert caught.value.reason == "gap"


@pytest.mark.parametrize("part", ["vectors", "biases", "counts", "encoder"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("full", [True, False])
def test_what_is_not_finite_never_reaches_the_copy(learner, copy, batches, part, bad, full):
    learner.learn(batches(1, seed=2)[0])
    update = learner.update(full=full)
    if part == "encoder":
        update.encoder["weight_hh_l0"][3, 1] = bad
    else:
        getattr(update, part)[-1] = bad
    before, answered = copy.state(), answers(copy, batches(1)[0])
    with pytest.raises(UpdateRefused, match="version 11 holds numbers that are not finite") as caught:
        copy.apply(update)
    assert caught.value.reason == "non-finite"
    assert as_in(copy.state(), before)
    assert answers(copy, batches(1)[0]) == answered
    if full:
        with pytest.raises(UpdateRefused):
            ServingModel(update)


def test_gaps_other_runs_old_and_misfit_updates_are_refused_by_name(config, learner, copy, batches):
    before = copy.state()
    updates = []
    for batch in batches(3, seed=4, n_items=90):
        learner.learn(batch)
        updates.append(learner.update())
    other = OnlineLearner(config, lineage="01OTHER")
    other.update()
    small = OnlineLearner(replace(config, hidden=4), lineage="01RUN")
    refused = {
        "gap": updates[1],
        "lineage": other.update(),
        "size": small.update(),
    }
    for reason, update in refused.items():
        with pytest.raises(UpdateRefused) as caught:
            copy.apply(update)
        assert caught.value.reason == reason
    assert as_in(copy.state(), before)
    for update in updates:
        copy.apply(update)
    with pytest.raises(UpdateRefused, match="at 11, this copy at 13") as caught:
        copy.apply(updates[0])
    assert caught.value.reason == "stale"
    assert answers(copy, batches(1)[0]) == answers(learner, batches(1)[0])


def test_a_full_update_may_come_from_another_run(config, copy, batches):
    other = OnlineLearner(config, lineage="01OTHER")
    other.learn(batches(1, prefix="other ")[0])
    copy.apply(other.update())
    assert (copy.lineage, copy.version, copy.n_items) == ("01OTHER", 1, other.n_items)
    assert answers(copy, batches(1, prefix="other ")[0]) == answers(other, batches(1, prefix="other ")[0])


def test_after_loading_the_first_update_is_full(learner, copy, batches):
    learner.learn(batches(1, seed=2)[0])
    resumed = OnlineLearner(learner.config, lineage="02RUN")
    resumed.load_state(learner.state())
    update = resumed.update()
    assert update.full
    assert (update.version, update.lineage) == (11, "02RUN")
    copy.apply(update)
    assert answers(copy, batches(1)[0]) == answers(learner, batches(1)[0])


def test_a_copy_can_be_kept_and_taken_up_again(config, learner, copy, batches):
    learner.learn(batches(1, seed=2)[0])
    state = copy.state()
    kept = ServingModel.from_state(state)
    assert as_in(kept.state(), state)
    kept.apply(learner.update())
    assert answers(kept, batches(1)[0]) == answers(learner, batches(1)[0])
    kept.load_state(state)
    assert answers(kept, batches(1)[0]) == answers(copy, batches(1)[0])
    with pytest.raises(ValueError, match=r"'two-stage'.*'serving'"):
        ServingModel.from_state(learner.state())
    small = ServingModel(OnlineLearner(ModelConfig(hidden=4, device="cpu")).update())
    with pytest.raises(ValueError, match=r"hidden = 8.*hidden = 4"):
        small.load_state(state)


@pytest.mark.parametrize("damage", [b"", b"junk", b"\xff" * 100])
def test_bytes_that_are_no_update_are_refused(damage):
    with pytest.raises(ValueError, match="not a whole safetensors block"):
        Update.decode(damage)


def test_a_torn_update_is_refused(learner):
    data = learner.update().encode()
    for end in (7, 100, len(data) // 2, len(data) - 1):
        with pytest.raises(ValueError, match="not a whole safetensors block"):
            Update.decode(data[:end])


def test_an_update_whose_parts_do_not_fit_is_refused(learner):
    state = learner.update().state()
    state.tensors["biases"] = state.tensors["biases"][1:]
    with pytest.raises(ValueError, match=r"an update of 33 rows .* biases 32"):
        Update.from_state(state)
    state = learner.update(full=True).state()
    state.tensors["rows"] = state.tensors["rows"] + 1
    with pytest.raises(ValueError, match="rows outside"):
        Update.from_state(state)
