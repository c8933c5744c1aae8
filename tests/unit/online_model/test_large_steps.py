"""A step over a large catalogue sorts its rows instead of marking them: it is the same step."""

import pytest
import torch

from online_model.learner import OnlineLearner


def test_a_step_is_the_same_however_its_rows_are_told_apart(config, batches, monkeypatch: pytest.MonkeyPatch):
    marking, sorting = OnlineLearner(config), OnlineLearner(config)
    for batch in batches(10):
        report = marking.learn(batch)
        with monkeypatch.context() as patch:
            patch.setattr("online_model.step._LARGE", 0)
            assert sorting.learn(batch) == report
    one, other = marking.state().tensors, sorting.state().tensors
    assert all(torch.equal(one[name], other[name]) for name in one)
