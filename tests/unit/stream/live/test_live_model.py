"""The view's model: facts in, figures out."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from monitoring.metrics import Metrics
from stream.live.facts import (
    Acted,
    Answered,
    Drifted,
    FirstShown,
    Launched,
    Place,
    Readings,
    ShopStatus,
    Titled,
    Trouble,
)
from stream.live.model import LiveState, Surroundings
from stream.live.people import MAX_USERS, MIN_ITEMS, SILENT_SECONDS, People
from stream.live.readings import Window, quantile, read_exposition
from stream.live.sources import read_shop_line
from stream.live.words import bar, sparkline

INF = math.inf


def readings(at: float, scored: float = 0.0, hits: float = 0.0, **others: float) -> Readings:
    return Readings(at=at, scored={"live": scored}, hits={"live": hits}, **others)  # type: ignore[arg-type]


def test_reads_what_the_worker_really_exposes() -> None:
    metrics = Metrics(CollectorRegistry())
    metrics.count_events("accepted", 7)
    metrics.count_rejected("schema", 2)
    metrics.observe_answer(0.004)
    metrics.observe_answer(0.2)
    metrics.count_lists(1, 1)
    metrics.observe_update(12, 0.3)
    metrics.users.set(3)
    metrics.vocabulary_items.set(5)
    totals = {("live", "organic"): 10.0, ("live", "attributed"): 99.0}
    metrics.observe_measure({"scored": totals, "hits": {("live", "organic"): 4.0}})
    got = read_exposition(metrics.exposition().decode(), at=1.5)
    assert got.at == 1.5
    assert got.events["accepted"] == 7
    assert got.events["rejected"] == 2
    assert got.answers == 2
    assert got.latency[0.004] == 1
    assert got.latency[INF] == 2
    assert got.freshness[0.3] == 1
    assert got.scored["live"] == 10
    assert got.hits["live"] == 4
    assert (got.model_version, got.users, got.vocabulary) == (12, 3, 5)
    assert got.loss is None


def test_a_loss_is_read_once_there_is_one() -> None:
    assert read_exposition("# TYPE millstream_learn_loss gauge\nmillstream_learn_loss 2.5\n", 0).loss == 2.5


def test_a_quantile_of_the_last_seconds_leaves_out_what_was_before() -> None:
    window = Window()
    window.add(Readings(at=0.0, latency={0.01: 0.0, 1.0: 100.0, INF: 100.0}))
    window.add(Readings(at=10.0, latency={0.01: 50.0, 1.0: 150.0, INF: 150.0}))
    assert window.quantile(lambda r: r.latency, 0.5, 10.0) == pytest.approx(0.005)


@pytest.mark.parametrize(
    ("histogram", "q", "expected"),
    [
        ({}, 0.5, None),
        ({1.0: 0.0, INF: 0.0}, 0.5, None),
        ({1.0: 0.0, INF: 4.0}, 0.5, 1.0),
        ({1.0: 4.0, INF: 4.0}, 1, 1.0),
    ],
)
def test_quantiles_at_the_ends(histogram: dict[float, float], q: float, expected: float | None) -> None:
    assert quantile(histogram, q) == expected


@given(st.lists(st.floats(0.001, 9.0), min_size=1, max_size=200), st.floats(0.01, 0.99))
def test_a_quantile_lies_in_the_bucket_of_the_true_one(values: list[float], q: float) -> None:
    bounds = [0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0]
    histogram = {bound: float(sum(v <= bound for v in values)) for bound in bounds} | {INF: float(len(values))}
    true = sorted(values)[max(0, math.ceil(q * len(values)) - 1)]
    upper = next(bound for bound in bounds if true <= bound)
    lower = max([0.0, *(bound for bound in bounds if bound < upper)])
    estimate = quantile(histogram, q)
    assert estimate is not None
    assert lower <= estimate <= upper + 1e-9


def test_a_rate_is_that_of_the_last_seconds() -> None:
    window = Window()
    for second in range(11):
        window.add(readings(float(second), answers=float(10 * second if second < 6 else 50 + 100 * (second - 5))))
    assert window.rate(lambda r: r.answers, 5.0) == 100.0
    assert window.rate(lambda r: r.answers, 10.0) == 55.0


def test_nothing_is_made_up_of_one_reading() -> None:
    window = Window()
    assert window.rate(lambda r: r.answers, 5.0) is None
    window.add(readings(0.0, 10, 5))
    assert window.rate(lambda r: r.answers, 5.0) is None
    assert window.hit_rate("live", 5.0) is None
    assert window.hit_rate("frozen", None) is None
    assert window.hit_rate("live", None) == 0.5


def test_the_window_forgets_and_still_reaches_back_far_enough() -> None:
    window = Window(keep_seconds=60.0)
    for second in range(1000):
        window.add(readings(float(second), float(second), 0.0))
    before = window.before(60.0)
    assert before is not None
    assert before.at == 939.0
    assert len(window._readings) <= 62


@pytest.fixture
def state() -> LiveState:
    return LiveState(surroundings(), started=0.0)


def surroundings() -> Surroundings:
    return Surroundings(
        broker="Apache Kafka 127.0.0.1:9",
        limits="",
        bootstrap="127.0.0.1:9",
        metrics_url="http://127.0.0.1:8/metrics",
        events_topic="user-events",
        recommendations_topic="recommendations",
        rejected_topic="rejected-events",
        folder="/tmp/x",
        is_kept=False,
        frozen_after=4000,
        nightly_seconds=72.0,
    )


def test_hit_rates_are_those_of_the_last_seconds_and_a_share_of_the_best(state: LiveState) -> None:
    state.feed(readings(0.0, 1000, 100), 0.0)
    state.feed(readings(20.0, 2000, 500), 20.0)
    assert state.share_of_best("live") is None
    state.feed(ShopStatus(5, 0.7, 0.5), 20.0)
    assert state.hit_rate("live") == 0.4
    assert state.share_of_best("live") == 0.8


def test_a_point_every_two_seconds(state: LiveState) -> None:
    for half_second in range(41):
        state.feed(readings(half_second / 2, 10.0 * half_second, 3.0 * half_second), half_second / 2)
    assert len(state.points) == 10
    assert state.points[-1].live == pytest.approx(0.3)
    assert state.points[-1].frozen is None


def test_the_seconds_from_a_launch_to_the_first_list(state: LiveState) -> None:
    state.feed(Launched("i1", "Alpine Kite", 1000), 1.0)
    assert state.launch is not None
    assert state.launch.seconds is None
    state.feed(Launched("i2", "Nordic Wok", 3000), 3.0)
    state.feed(FirstShown("i2", 3400), 3.5)
    state.feed(FirstShown("i2", 9999), 9.9)
    assert state.launch.seconds is not None
    assert (state.launch.title, state.launch.seconds) == ("Nordic Wok", 0.4)
    assert state.title("i1") == "Alpine Kite"


def test_titles_troubles_and_drift(state: LiveState) -> None:
    state.feed(Titled("i1", "Alpine Kite"), 0.0)
    state.feed(Drifted(5), 7.0)
    state.feed(Trouble("oh"), 8.0)
    assert (state.title("i1"), state.title("i2")) == ("Alpine Kite", "i2")
    assert (state.drifted_at, state.trouble) == (7.0, "oh")


def act(people: People, user: str, n: int, now: float = 0.0, start: int = 0) -> None:
    for offset in range(start, start + n):
        people.act(Acted(user, f"i{offset}", "view", offset), now)


def test_follows_somebody_with_something_to_show() -> None:
    people = People()
    act(people, "few", MIN_ITEMS - 1)
    people.look_round(0.0)
    assert people.followed is None
    act(people, "many", MIN_ITEMS)
    people.look_round(0.0)
    assert people.followed == "many"


def test_follows_another_on_wish_and_when_the_user_has_gone() -> None:
    people = People()
    for user in ("a", "b", "c"):
        act(people, user, MIN_ITEMS)
    people.look_round(0.0)
    seen = [people.followed]
    people.follow_another()
    seen.append(people.followed)
    people.look_round(SILENT_SECONDS + 1)
    seen.append(people.followed)
    assert sorted(map(str, seen)) == ["a", "b", "c"]
    people.follow_another()
    assert people.followed == seen[-1]  # nobody new is left


def test_stays_with_a_user_who_goes_on() -> None:
    people = People()
    act(people, "a", MIN_ITEMS)
    people.look_round(0.0)
    act(people, "b", MIN_ITEMS, now=SILENT_SECONDS)
    act(people, "a", 1, now=SILENT_SECONDS)
    people.look_round(SILENT_SECONDS + 1)
    assert people.followed == "a"


def test_a_deed_knows_its_place_in_the_list_before_it_whatever_comes_first() -> None:
    people = People()
    act(people, "a", MIN_ITEMS)
    people.look_round(0.0)
    people.act(Acted("a", "x", "view", 20), 1.0)
    people.answer(Answered("a", 20, (Place("x", 1.0, "recurrent"),)))
    people.answer(Answered("a", 3, (Place("y", 2.0, "recurrent"), Place("x", 1.0, "recurrent"))))
    people.answer(Answered("b", 4, (Place("x", 1.0, "recurrent"),)))
    newest = people.deeds()[0]
    assert (newest.item_id, newest.rank) == ("x", 2)
    assert people.deeds()[1].rank is None
    assert people.places()[0].item_id == "x"


def test_memory_for_people_is_bounded() -> None:
    people = People()
    for number in range(MAX_USERS + 50):
        act(people, f"u{number}", 2)
    assert len(people._deeds) == MAX_USERS
    assert len(people._last_seen) == MAX_USERS


@pytest.mark.parametrize(
    ("line", "fact"),
    [
        (b'{"launched": "i7", "title": "Wok", "at": 5}', Launched("i7", "Wok", 5)),
        (
            b'{"events": 9, "acknowledged": 8, "rate": 1.0, "best_reachable": null, "best_reachable_recent": 0.5}',
            ShopStatus(9, None, 0.5),
        ),
        (b'{"error": "no command"}', Trouble("the shop: no command")),
        (b"Traceback (most recent call last)", None),
        (b"[1]", None),
        (b'{"else": 1}', None),
    ],
)
def test_reads_what_the_shop_says(line: bytes, fact: object) -> None:
    assert read_shop_line(line) == fact


@given(st.lists(st.none() | st.floats(0, 2), max_size=50), st.floats(0, 2), st.integers(0, 60))
def test_a_sparkline_is_never_wider_than_its_room(values: list[float | None], top: float, width: int) -> None:
    assert len(sparkline(values, top, width)) == min(len(values), width)


@given(st.floats(-1, 3), st.integers(0, 80))
def test_a_bar_fills_its_room(fraction: float, width: int) -> None:
    assert len(bar(fraction, width)) == width
