import random

import numpy as np
import pytest

from producers.shop_config import LIST_LENGTH
from producers.tastes import Mood, Tastes

MOODS = [
    Mood(None, 0.0, 3),
    Mood(17, 0.75, 3),
    Mood(17, 0.4, 0),
    Mood(17, 0.0, -2),
    Mood(None, 0.0, -1),
]


@pytest.fixture(scope="module")
def tastes():
    return Tastes(200, 6, random.Random(4))


@pytest.mark.parametrize("mood", MOODS)
def test_draws_follow_the_distribution(tastes, mood):
    n = 20_000
    rng = random.Random(1)
    counts = np.bincount([tastes.draw(mood, rng) for _ in range(n)], minlength=200)
    chances = tastes.distribution(mood)
    assert chances.sum() == pytest.approx(1)
    if mood.slot is not None:
        assert chances[mood.slot] == 0
        assert counts[mood.slot] == 0
    # Five standard deviations each, and a little for the rare ones.
    assert np.all(np.abs(counts - n * chances) < 5 * np.sqrt(n * chances) + 5)


@pytest.mark.parametrize("mood", MOODS)
@pytest.mark.parametrize("boosts", [{}, {5: 0.15}, {5: 0.1, 60: 0.02}])
def test_no_list_hits_more_often_than_the_best_reachable(tastes, mood, boosts):
    rng = random.Random(2)
    chances = (1 - sum(boosts.values())) * tastes.distribution(mood)
    for slot, share in boosts.items():
        chances[slot] += share
    best = set(np.argsort(-chances)[:LIST_LENGTH].tolist())
    reach = tastes.best_reachable(mood, boosts)
    n = 10_000
    hits = 0
    for _ in range(n):
        left = rng.random()
        boosted = next((slot for slot, share in boosts.items() if (left := left - share) < 0), None)
        hits += (tastes.draw(mood, rng) if boosted is None else boosted) in best
    assert reach == pytest.approx(np.sort(chances)[-LIST_LENGTH:].sum())
    assert hits / n == pytest.approx(reach, abs=0.025)
    for _ in range(20):
        other = rng.sample(range(200), LIST_LENGTH)
        assert chances[other].sum() <= reach + 1e-9


def test_the_structure_follows_from_the_seed():
    one, other, third = (Tastes(100, 4, random.Random(seed)) for seed in (7, 7, 8))
    assert np.array_equal(one.distribution(Mood(3, 0.7, 1)), other.distribution(Mood(3, 0.7, 1)))
    assert not np.array_equal(one.distribution(Mood(3, 0.7, 1)), third.distribution(Mood(3, 0.7, 1)))


def test_popularity_is_a_power_law():
    popularity = np.sort(Tastes(600, 4, random.Random(0)).popularity)[::-1]
    assert popularity[:60].sum() > 3 * popularity[-300:].sum() / 2
    assert popularity[0] > 10 * popularity[300]
