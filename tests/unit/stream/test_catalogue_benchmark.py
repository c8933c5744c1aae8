"""The benchmark of large catalogues, on small ones."""

from online_model.config import ModelConfig
from stream.benchmarks.catalogue import run


def test_both_ways_are_measured_on_the_same_weights():
    config = ModelConfig(hidden=8, negatives=64, device="cpu", max_items=10, neighbour_sittings=64)
    told: list[int] = []
    found = run(config, (100, 300), 1_280, on_events=told.append)
    assert [(result.n_items, result.way) for result in found] == [
        (100, "exact"),
        (100, "index"),
        (300, "exact"),
        (300, "index"),
    ]
    # So few items all lie in the cells that are visited.
    assert all(result.shared > 0.98 for result in found)
    assert all(result.learn_ms > 0 < result.recommend_1_ms for result in found)
    recalls = [result.recall for result in found]
    assert min(recalls) > 0.1
    assert [round(recall, 2) for recall in recalls[::2]] == [round(recall, 2) for recall in recalls[1::2]]
    assert told == list(range(64, 2_561, 64))
