import random

from online_model.falls import FallWatch, LeadWatch


def levels(n, mean, seed=0, deviation=0.06):
    chance = random.Random(seed)
    return [chance.gauss(mean, deviation) for _ in range(n)]


def first_fall(watch, values, start=0):
    return next((mark for mark, value in enumerate(values, start) if watch.observe(value, mark)), None)


def test_a_level_that_stays_or_rises_has_not_fallen():
    watch = FallWatch()
    assert first_fall(watch, levels(3_000, 0.4)) is None
    assert first_fall(watch, levels(1_000, 0.5), 3_000) is None


def test_a_fall_is_found_soon_and_dated_by_where_it_began():
    watch = FallWatch()
    assert first_fall(watch, levels(1_000, 0.4)) is None
    found = first_fall(watch, levels(100, 0.3, seed=1), 1_000)
    assert found is not None
    assert found < 1_020
    assert watch.since is not None
    assert 990 <= watch.since <= 1_003


def test_before_there_is_a_past_nothing_falls():
    assert first_fall(FallWatch(), [0.4] * 20 + [0.0] * 15) is None


def test_saved_and_loaded_it_goes_on_alike():
    one, straight = FallWatch(), FallWatch()
    for mark, value in enumerate(levels(300, 0.4) + levels(100, 0.35)):
        one = FallWatch(**one.facts())
        assert one.observe(value, mark) == straight.observe(value, mark)
    assert one == straight


def test_equal_ones_give_no_evidence_and_a_better_one_does():
    chance = random.Random(3)
    equal, better = LeadWatch(), LeadWatch()
    most = 0.0
    for _ in range(20_000):
        ahead = chance.random() < 0.5
        equal.observe(ahead, not ahead)
        most = max(most, equal.log_evidence)
        ahead = chance.random() < 0.7
        better.observe(ahead, not ahead)
    assert most < 11.5
    assert better.log_evidence == better.most


def test_what_was_long_ago_does_not_protect():
    watch = LeadWatch()
    watch.observe(0, 100_000)
    watch.observe(80, 0)
    assert watch.log_evidence > 13.8
