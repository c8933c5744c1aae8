import numpy as np
import pytest

from online_model.evaluation.streams import StreamEvent
from stream.benchmarks.poisons import POISONED, POISONS

START, END, N = 100, 140, 200


def spoilt(name):
    items = [None if n % 10 == 0 else f"i{n % 7}" for n in range(N)]
    events = [StreamEvent(n, f"u{n % 5}", item, "view", n) for n, item in enumerate(items)]
    return events, list(POISONS[name](iter(events), START, END, np.random.default_rng(1)))


@pytest.mark.parametrize("name", POISONS)
def test_what_comes_before_is_left_alone_and_what_is_spoilt_is_marked(name):
    events, found = spoilt(name)
    assert found[:START] == events[:START]
    marked = [place for place, event in enumerate(found) if event.group == POISONED]
    assert bool(marked) == (name not in ("none", "season"))
    assert all(place >= START for place in marked)


def test_a_season_gives_every_item_another_place_from_the_start_on():
    events, found = spoilt("season")
    names = {before.item: after.item for before, after in zip(events[START:], found[START:], strict=True)}
    assert sorted(filter(None, names.values())) == sorted(filter(None, names))
    assert any(before != after for before, after in names.items())


def test_a_flood_is_one_item_of_people_who_come_once():
    _, found = spoilt("flood")
    flood = [event for event in found if event.group == POISONED]
    assert len({event.key for event in flood}) == 3 * (END - START)
    assert sum(event.item == "the-one-item" for event in flood) == 3 * (END - START)


def test_noise_ends_and_half_does_not():
    assert all(event.group == "" for event in spoilt("noise")[1][END:])
    assert any(event.group == POISONED for event in spoilt("half")[1][END:])
