"""The view as it is drawn, in terminals of several sizes."""

import io
import math

import pytest
from rich.console import Console

from stream.live import plain
from stream.live.facts import Acted, Answered, Drifted, FirstShown, Launched, Place, Readings, ShopStatus, Titled
from stream.live.model import LiveState, Surroundings
from stream.live.render import View

INF = math.inf
SIZES = [(80, 24), (120, 40), (200, 60), (60, 18), (40, 10), (20, 5)]


def empty_state() -> LiveState:
    surroundings = Surroundings(
        broker="embedded mock Kafka 127.0.0.1:9",
        limits="keeps nothing",
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
    return LiveState(surroundings, started=0.0)


def busy_state() -> LiveState:
    state = empty_state()
    for second in range(61):
        n = float(second)
        arms = {"live": 100 * n, "frozen": 100 * n}
        hits = {"live": 40 * n, "frozen": 30 * n}
        latency = {0.005: 100 * n, 0.01: 200 * n, INF: 200 * n}
        state.feed(
            Readings(n, {"accepted": 200 * n}, 200 * n, latency, latency, arms, hits, 200 * n, 3.25, 42, 642, 1502), n
        )
    state.feed(ShopStatus(1, 0.5, 0.5), 60.0)
    for number in range(40):
        state.feed(Titled(f"i{number}", f"Nordic Wok {number}"), 0.0)
    for number in range(6):
        state.feed(Acted("u0042", f"i{number}", "view", number), 60.0)
    state.tick(60.0)
    state.feed(Answered("u0042", 5, tuple(Place(f"i{n}", 29.5 - n, "recurrent") for n in range(20, 40))), 60.0)
    return state


def drawn(state: LiveState, width: int, height: int, now: float = 61.0) -> list[str]:
    console = Console(
        width=width, height=height, file=io.StringIO(), force_terminal=True, color_system=None, record=True
    )
    console.print(View(state, now), height=height, end="")
    return console.export_text().splitlines()


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("make", [empty_state, busy_state])
def test_fits_into_any_terminal(make: object, width: int, height: int) -> None:
    lines = drawn(make(), width, height)  # type: ignore[operator]
    assert len(lines) <= height
    assert max(len(line) for line in lines) <= width


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40)])
def test_shows_what_it_is_for(width: int, height: int) -> None:
    text = "\n".join(drawn(busy_state(), width, height))
    for part in (
        *("events/s", "200", "p50", "5.0 ms", "p99", "9.9 ms", "3.250", "v42", "642", "1,502"),
        *("live", "40.0%", "80%", "frozen", "30.0%", "60%", "best reachable 50.0%", "copied every 72 s"),
        *("user u0042", "Nordic Wok 5", "Nordic Wok 20", "9.50", "recurrent"),
        *("127.0.0.1:9", "user-events", "recommendations", "rejected-events", "http://127.0.0.1:8/metrics"),
        *("millstream tail", "embedded mock Kafka", "keeps nothing", "new item", "quit"),
    ):
        assert part in text, part


def test_says_that_the_worker_is_silent() -> None:
    assert "silent" not in "\n".join(drawn(busy_state(), 80, 24, now=64.0))
    assert "worker: silent 8 s" in "\n".join(drawn(busy_state(), 80, 24, now=68.0))
    assert "silent for 8 s" in plain.line(busy_state(), 68.0)


@pytest.mark.parametrize("width", [80, 120])
def test_an_arm_that_is_not_there_yet_squeezes_no_other(width: int) -> None:
    state = empty_state()
    for n in (0.0, 20.0):
        state.feed(Readings(n, scored={"live": 100 * n}, hits={"live": 45.5 * n}), n)
    text = "\n".join(drawn(state, width, 24, now=21.0))
    assert "copied after 4,000 examples" in text
    assert "live        45.5%" in text
    assert "popularity" in text


def test_says_how_long_a_launched_item_took() -> None:
    state = busy_state()
    state.feed(Launched("i99", "Alpine Kite", 1000), 60.0)
    assert "launched Alpine Kite: nobody was recommended it yet" in "\n".join(drawn(state, 80, 24))
    state.feed(FirstShown("i99", 1412), 60.5)
    assert "launched Alpine Kite: first recommended after 412 ms" in "\n".join(drawn(state, 80, 24))


def test_says_that_tastes_were_turned_over_for_a_while() -> None:
    state = busy_state()
    state.feed(Drifted(1), 60.0)
    assert "tastes turned over 5 s ago" in "\n".join(drawn(state, 80, 24, now=65.0))
    assert "tastes turned over" not in "\n".join(drawn(state, 80, 24, now=165.0))


def test_titles_are_text_and_no_markup() -> None:
    state = busy_state()
    state.feed(Titled("i20", "[bold]Wok[/] \x1b[31m"), 0.0)
    state.feed(Acted("[red]u\x1b", "i1", "[b]v", 9), 60.0)
    text = "\n".join(drawn(state, 120, 40))
    assert "[bold]Wok[/]  [31m" in text
    assert "\x1b" not in text


def test_what_is_not_known_is_not_shown_as_zero() -> None:
    text = "\n".join(drawn(empty_state(), 80, 24))
    assert "0.0%" not in text
    assert "0.000" not in text


def test_a_plain_line_says_the_same() -> None:
    line = plain.line(busy_state(), 61.0)
    assert "\n" not in line
    for part in ("1:01", "events/s 200", "answered 12,000", "p50 5.0 ms", "live 40.0%", "80% of the best", "nightly -"):
        assert part in line, part
    assert "waiting" in plain.line(empty_state(), 1.0)


def test_the_summary_leaves_out_arms_that_never_were() -> None:
    assert plain.summary(busy_state(), 61.0) == (
        "answered 12,000 events in 1:01; hit rate at 20, each since it was there: live 40.0% of 6,000, "
        "frozen 30.0% of 6,000"
    )
