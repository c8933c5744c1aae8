"""The synthetic stream in which an old learner has to learn anew."""

from dataclasses import replace
from itertools import islice

from online_model.config import ModelConfig
from stream.benchmarks import endless
from stream.benchmarks.endless import Walks, run, small


def followers(walks: Walks, n_batches: int) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for batch in islice(walks, n_batches):
        for example in batch:
            if example.context.history:
                found.setdefault(example.context.history[-1][0], set()).add(example.item or "")
    return found


def test_walks_follow_a_few_relations_until_these_are_replaced():
    walks = Walks(n_items=50, n_walkers=40, seed=1)
    before = followers(walks, 200)
    assert max(map(len, before.values())) <= 4
    walks.permute()
    next(iter(walks))  # walks in progress still hold an item that they reached before
    after = followers(walks, 200)
    assert max(map(len, after.values())) <= 4
    assert sum(before[item] == after[item] for item in before) < 5


def test_the_same_seed_makes_the_same_stream():
    one, other = (list(islice(Walks(50, 10, seed=3), 20)) for _ in range(2))
    assert one == other


def test_recovery_is_told_for_both_changes_and_is_none_where_the_stream_is_too_short(monkeypatch):
    changed = {"WINDOW": 400, "TOLD_EVERY": 10, "SCORED_EVERY": 1, "EARLY": 0.1, "LATE": 0.5}
    for name, value in changed.items():
        monkeypatch.setattr(endless, name, value)
    seen: list[int] = []
    config = replace(small(ModelConfig()), hidden=8)
    result = run(config, 20_000, n_items=40, on_events=lambda n, recall: seen.append(n))
    assert result.level_late > result.level_early > 0.1
    assert result.recovery_early is not None
    assert result.recovery_late is not None
    assert result.ratio == result.recovery_late / result.recovery_early
    assert 400 < result.recovery_early
    assert seen == sorted(seen)
    assert len(seen) >= 5
    monkeypatch.setattr(endless, "WINDOW", 5_000)
    short = run(config, 3_000, n_items=40)
    assert short.recovery_early is short.recovery_late is short.ratio is None
