"""Which settings are tried, and what a stopped search keeps."""

import random

import pytest

from online_model.evaluation.search import Range, TrialLog, identity, trials

SPACE = {"hidden": [50, 100], "birth": [0.0, 0.5, 1.0]}
DEFAULTS = {"hidden": 100, "birth": 0.5, "seed": 1}


def test_a_grid_is_all_of_it_once_the_defaults_first():
    found = trials(SPACE, DEFAULTS, None, None)
    assert found[0] == {"hidden": 100, "birth": 0.5}
    assert len(found) == 6
    assert all(found.count(settings) == 1 for settings in found)


def test_a_grid_that_is_larger_than_the_budget_is_told():
    with pytest.raises(ValueError, match="the grid has 6 settings"):
        trials(SPACE, DEFAULTS, 5, None)
    with pytest.raises(ValueError, match="rate is a range"):
        trials({"rate": Range(0.1, 1)}, {"rate": 0.5}, None, None)


def test_random_draws_are_seeded_distinct_and_within_the_space():
    space = {**SPACE, "rate": Range(0.01, 1.0), "window": Range(5, 40, integer=True)}
    defaults = {**DEFAULTS, "rate": 0.07, "window": 20}
    found = trials(space, defaults, 12, 3)
    assert found == trials(space, defaults, 12, 3)
    assert found != trials(space, defaults, 12, 4)
    assert len(found) == 12
    assert all(found.count(settings) == 1 for settings in found)
    assert all(0.01 <= settings["rate"] <= 1 and 5 <= settings["window"] <= 40 for settings in found)
    assert all(type(settings["window"]) is int for settings in found)
    # A space that is smaller than the budget ends.
    assert len(trials({"hidden": [50, 100]}, DEFAULTS, 12, 3)) == 2


def test_positive_ranges_are_even_in_the_logarithm():
    chance = random.Random(1)
    drawn = [Range(0.001, 10).draw(chance) for _ in range(2_000)]
    assert sum(value < 0.1 for value in drawn) / 2_000 == pytest.approx(0.5, abs=0.05)
    assert sum(value < 0.5 for value in (Range(0, 1).draw(chance) for _ in range(2_000))) == pytest.approx(
        1_000, abs=90
    )


@pytest.mark.parametrize(("low", "high"), [(1, 1), (2, 1), (0, float("inf"))])
def test_a_range_must_rise(low, high):
    with pytest.raises(ValueError, match="a range must rise"):
        Range(low, high)


def test_what_decides_a_trial_names_it():
    assert identity({"a": 1, "b": 2}) == identity({"b": 2, "a": 1})
    assert identity({"a": 1}) != identity({"a": 2})


def test_finished_trials_are_found_again_torn_ones_are_not(tmp_path):
    path = tmp_path / "trials.jsonl"
    log = TrialLog(path)
    log.add({"id": "x", "recall": 0.5})
    log.add({"id": "y", "recall": 0.25})
    path.write_bytes(path.read_bytes()[:-4])
    again = TrialLog(path)
    assert again.get("x") == {"id": "x", "recall": 0.5}
    assert again.get("y") is None
    again.add({"id": "z", "recall": None})
    assert len(TrialLog(path)) == 2
    assert TrialLog(path).get("z") == {"id": "z", "recall": None}
