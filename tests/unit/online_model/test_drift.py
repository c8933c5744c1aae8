import random
from dataclasses import replace

import torch

from online_model.drift import DriftWatch
from online_model.learner import OnlineLearner


def losses(n: int, mean: float, seed: int = 0) -> list[float]:
    chance = random.Random(seed)
    return [chance.gauss(mean, 0.1) for _ in range(n)]


def test_it_tells_when_losses_grow_and_says_nothing_when_they_fall():
    watch = DriftWatch()
    assert not any(map(watch.observe, losses(1_000, 0.5)))
    assert sum(map(watch.observe, losses(200, 1.0))) == 1
    assert not any(map(watch.observe, losses(1_000, 1.0)))
    assert not any(map(watch.observe, losses(1_000, 0.3)))


def test_save_load_continue_equals_never_stopping():
    course = losses(9_000, 0.5) + losses(400, 0.52, seed=1) + losses(500, 0.9, seed=2)
    watch = DriftWatch()
    noticed = []
    for number, loss in enumerate(course):
        if number % 700 == 0:
            other = DriftWatch()
            other.load_state(watch.state())
            watch = other
        noticed.append(watch.observe(loss))
    straight = DriftWatch()
    assert list(map(straight.observe, course)) == noticed
    assert any(noticed)
    assert torch.equal(straight.state(), watch.state())


def test_its_state_stays_small():
    watch = DriftWatch()
    for loss in losses(20_000, 0.5):
        watch.observe(loss)
        assert len(watch.state()) <= 8192


def test_a_learner_whose_past_fades_goes_on_alike_after_a_restart(config, batches):
    fading = replace(config, row_half_life=5.0, dense_half_life=10.0, rate_floor=0.01, drift_forget=0.9)
    one = OnlineLearner(fading)
    course = batches(150) + batches(100, prefix="other ")
    for number, batch in enumerate(course):
        if number % 50 == 25:
            other = OnlineLearner(fading)
            other.load_state(one.state())
            one = other
        one.learn(batch)
    straight = OnlineLearner(fading)
    for batch in course:
        straight.learn(batch)
    assert all(torch.equal(one.state().tensors[name], tensor) for name, tensor in straight.state().tensors.items())


def test_drift_makes_a_learner_forget_its_past_steps(config, batches, monkeypatch):
    learners = [OnlineLearner(replace(config, drift_forget=share)) for share in (0.0, 0.75)]
    monkeypatch.setattr(DriftWatch, "observe", lambda watch, loss: True)
    (batch,) = batches(1)
    for learner in learners:
        for _ in range(2):
            learner.learn(batch)
    never, always = (learner.state().tensors["bias_squares"] for learner in learners)
    assert (always <= never).all()
    assert (always < never).any()
