"""Known answers of every figure, by hand or against scipy."""

import math

import numpy as np
import pytest
from scipy import stats

from online_model.evaluation.bootstrap import paired_bootstrap
from online_model.evaluation.calibration import N_BINS, calibration
from online_model.evaluation.folds import folds
from online_model.evaluation.heads import mean_squared_error, pr_auc, roc_auc, root_mean_squared_error
from online_model.evaluation.metrics import RankLog, by_group, cutoffs


def test_figures_at_cutoffs_by_hand():
    log = RankLog()
    for place, rank in enumerate([1, 2, 6, 15, 30, 0]):
        log.add(place, rank)
    found = log.accuracy(6).at
    assert [found[k].recall for k in (1, 5, 10, 20)] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6])
    assert [found[k].mrr for k in (1, 5, 10)] == pytest.approx([1 / 6, 1.5 / 6, (1.5 + 1 / 6) / 6])
    gains = [1, 1 / math.log2(3), 1 / math.log2(7), 1 / math.log2(16)]
    assert [found[k].ndcg for k in (1, 5, 10, 20)] == pytest.approx([sum(gains[: n + 1]) / 6 for n in range(4)])
    assert (log.accuracy(6).recall, log.accuracy(6).mrr) == (found[20].recall, found[20].mrr)


def test_groups_are_told_apart_and_targets_seen_before_are_told_alone():
    late, early = by_group(np.array([1, 0, 4, 0, 21]), ["late", "early", "late", "early", "late"])
    assert (late.name, late.scored, late.seen) == ("late", 3, 3)
    assert late.recall == late.recall_seen == pytest.approx(2 / 3)
    assert late.mrr == late.mrr_seen == pytest.approx((1 + 1 / 4) / 3)
    assert (early.name, early.scored, early.recall, early.mrr) == ("early", 2, 0, 0)
    assert (early.seen, early.recall_seen, early.mrr_seen) == (0, None, None)


def test_no_events_have_no_figures():
    assert cutoffs(np.zeros(0, np.int64)) == {}
    assert calibration(np.zeros(0), np.zeros(0, np.bool_)) is None
    with pytest.raises(ValueError, match="at least one event"):
        paired_bootstrap(np.zeros(0, np.int64), np.zeros((0, 1)))
    with pytest.raises(ValueError, match="no event is scored"):
        folds(np.zeros(0, np.int64), np.zeros(0, np.int64), 10, 2)


def test_ranks_beyond_32_bits_are_misses():
    log = RankLog()
    log.add(0, 2**31)
    assert log.ranks().tolist() == [0]


def test_errors_by_hand():
    assert mean_squared_error(np.array([1.0, 3.0]), np.array([2.0, 1.0])) == 2.5
    assert root_mean_squared_error(np.array([1.0, 3.0]), np.array([2.0, 1.0])) == pytest.approx(math.sqrt(2.5))
    with pytest.raises(ValueError, match=r"shapes \(2,\) and \(1,\)"):
        mean_squared_error(np.zeros(2), np.zeros(1))
    with pytest.raises(ValueError, match="finite"):
        mean_squared_error(np.array([math.nan]), np.zeros(1))


def test_roc_auc_is_the_rank_statistic_with_ties_as_halves():
    chance = np.random.default_rng(1)
    scores = chance.integers(0, 8, 200) / 8
    outcomes = chance.random(200) < 0.2 + 0.6 * scores
    statistic = stats.mannwhitneyu(scores[outcomes], scores[~outcomes]).statistic
    assert roc_auc(scores, outcomes) == pytest.approx(statistic / (outcomes.sum() * (~outcomes).sum()))
    assert roc_auc(scores, np.ones(200)) is None


def test_average_precision_does_not_depend_on_the_order_of_ties():
    # Thresholds .9: 1 of 1; .5: 2 of 4; .1: 3 of 5. Recall rises by a third at each.
    scores, outcomes = np.array([0.9, 0.5, 0.5, 0.5, 0.1]), np.array([1, 0, 1, 0, 1])
    assert pr_auc(scores, outcomes) == pytest.approx((1 + 2 / 4 + 3 / 5) / 3)
    assert pr_auc(scores[::-1], outcomes[::-1]) == pr_auc(scores, outcomes)
    assert pr_auc(scores, np.zeros(5)) is None


def test_calibration_by_hand():
    stated, came = np.array([0.2] * 5 + [0.6] * 10), np.array([True] + [False] * 4 + [True] * 3 + [False] * 7)
    found = calibration(stated, came)
    assert found is not None
    assert found.sizes == [1] * N_BINS
    assert found.brier == pytest.approx((0.64 + 4 * 0.04 + 3 * 0.16 + 7 * 0.36) / 15)
    assert found.brier_of_share == pytest.approx(4 / 15 * 11 / 15)
    losses = -(math.log(0.2) + 4 * math.log(0.8) + 3 * math.log(0.6) + 7 * math.log(0.4)) / 15
    assert found.log_loss == pytest.approx(losses)


def test_bins_hold_equal_mass_and_their_gaps_are_the_error():
    chance = np.random.default_rng(1)
    stated = chance.random(100_000) ** 3
    honest = calibration(stated, chance.random(100_000) < stated)
    boastful = calibration(np.sqrt(stated), chance.random(100_000) < stated)
    assert honest is not None
    assert boastful is not None
    assert max(honest.sizes) - min(honest.sizes) <= 1
    assert honest.calibration_error < 0.01
    assert boastful.calibration_error == pytest.approx(float((np.sqrt(stated) - stated).mean()), abs=0.01)
    # Certain and wrong is a large loss, not an infinite one.
    certain = calibration(np.ones(1), np.array([False]))
    assert certain is not None
    assert certain.log_loss == pytest.approx(-math.log(1e-7), rel=1e-3)


@pytest.mark.parametrize("wrong", [1.5, -0.1, math.nan])
def test_what_is_no_probability_is_refused(wrong):
    with pytest.raises(ValueError, match="within 0 to 1"):
        calibration(np.array([wrong]), np.array([True]))


def test_the_bootstrap_resamples_users_not_events():
    chance = np.random.default_rng(1)
    user_effects = chance.normal(0.1, 1, 50)
    users = np.repeat(np.arange(50), 40)
    differences = user_effects[users][:, None]
    (found,) = paired_bootstrap(users, differences)
    (by_event,) = paired_bootstrap(np.arange(2_000), differences)
    assert found.difference == pytest.approx(user_effects.mean())
    assert by_event.difference == pytest.approx(user_effects.mean())
    # Copies of a user's event tell nothing new: the interval is that of 50 users.
    error = user_effects.std() / math.sqrt(50)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * error, rel=0.15)
    assert by_event.high - by_event.low < 0.25 * (found.high - found.low)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    chance = np.random.default_rng(2)
    held = 0
    for trial in range(100):
        users = chance.integers(0, 60, 300)
        (found,) = paired_bootstrap(users, chance.normal(0.3, 1, (300, 1)), seed=trial, n_resamples=200)
        held += found.low <= 0.3 <= found.high
    assert 85 <= held <= 100


def test_a_seed_fixes_the_interval_and_columns_share_resamples():
    chance = np.random.default_rng(3)
    users, one = chance.integers(0, 30, 200), chance.random((200, 1))
    both = paired_bootstrap(users, np.hstack([one, 2 * one]), seed=5)
    assert paired_bootstrap(users, one, seed=5) == paired_bootstrap(users, one, seed=5)
    assert both[0].low == pytest.approx(paired_bootstrap(users, one, seed=5)[0].low)
    assert both[1].low == pytest.approx(2 * both[0].low)
    assert paired_bootstrap(users, one, seed=6) != paired_bootstrap(users, one, seed=5)


def test_folds_follow_each_other_by_events_of_the_stream():
    ranks, places = np.array([1, 0, 0, 2, 1, 1]), np.array([0, 1, 2, 3, 8, 9])
    found = folds(ranks, places, 10, 5)
    assert found.recall == [0.5, 0.5, 1.0]
    assert found.mean("recall") == pytest.approx(2 / 3)
    assert found.std("recall") == pytest.approx(np.std([0.5, 0.5, 1.0], ddof=1))
    assert folds(ranks, places, 10, 1).std("mrr") == 0.0
