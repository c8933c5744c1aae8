"""The synthetic stream that tells what an item should be compared with."""

from collections import Counter
from itertools import islice

import pytest

from online_model.config import ModelConfig
from stream.benchmarks.endless import Walks
from stream.benchmarks.negatives import run


def test_a_slope_makes_some_items_far_more_popular():
    def share_of_the_first_tenth(slope: float) -> float:
        walks = Walks(200, 50, seed=1, slope=slope)
        seen = Counter(int(example.item or 0) for batch in islice(walks, 100) for example in batch)
        assert set(seen) <= set(range(200))
        return sum(n for item, n in seen.items() if item < 20) / 5_000

    assert share_of_the_first_tenth(0.0) == pytest.approx(0.1, abs=0.05)
    assert share_of_the_first_tenth(1.0) > 0.4


def test_every_share_is_measured_on_the_same_stream():
    config = ModelConfig(hidden=8, negatives=64, device="cpu", max_items=10)
    told: list[int] = []
    found = run(config, 300, 6_400, shares=(0.0, 0.5), on_events=told.append)
    assert [result.share for result in found] == [0.0, 0.5]
    assert found[0].scored == found[1].scored > 100
    assert all(0.2 < result.recall <= 1.0 and result.mrr <= result.recall for result in found)
    assert told == list(range(64, 12_801, 64))
