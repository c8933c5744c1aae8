"""The most recent events of a file, whatever its order."""

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from online_model.evaluation.guess import Guess
from online_model.evaluation.recent import Recent, recent_events
from online_model.evaluation.streams import StreamEvent
from online_model.evaluation.tables import Row, Table
from online_model.evaluation.times import TimeFormat

ROLES = {"view": ("view", "interest"), "click": ("view", "interest"), "search": ("search", "signal")}
GUESS = Guess({"user_id": "u", "item_id": "i", "behavior": "b", "timestamp": "t"}, TimeFormat("s"), ())


class Listed(Table):
    columns = ("u", "i", "b", "t")

    def __init__(self, rows: list[Row | str]) -> None:
        super().__init__(Path("listed"))
        self._listed = rows

    def _rows(self):
        yield from enumerate(self._listed, 2)


def read(rows: list[Row | str], limit: int = 100) -> Recent:
    return recent_events(Listed(rows), GUESS, ROLES, limit)  # type: ignore[arg-type]


@given(some.lists(some.integers(0, 50), max_size=60), some.integers(1, 70))
def test_the_latest_in_time_with_ties_in_the_order_of_the_file(times, limit):
    recent = read([["u", str(place), "view", time] for place, time in enumerate(times)], limit)
    expected = sorted(range(len(times)), key=lambda place: (times[place], place))[-limit:]
    assert [event.item for event in recent.events] == [str(place) for place in expected]
    assert recent.n_events == len(times)
    assert (recent.n_disordered == 0) == (times == sorted(times))


def test_never_more_than_twice_the_limit_is_held(monkeypatch):
    from online_model.evaluation import recent as module

    held = []
    keep = module._keep
    monkeypatch.setattr(module, "_keep", lambda events, limit: (held.append(len(events)), keep(events, limit)))
    chance = random.Random(1)
    read([["u", "i", "view", chance.randrange(1_000)] for _ in range(500)], limit=20)
    assert max(held) == 40


def test_behaviours():
    recent = read(
        [["u", "i", "CLICK", 1], ["u", "i", "pv", 2], ["u", "", "Search", 3], ["u", "i", None, 4], ["u", "i", "pv", 5]]
    )
    assert [event.behavior for event in recent.events] == ["view", "view", "search", "view", "view"]
    assert list(recent.unknown) == ["pv"]
    assert recent.bad.count == 0


def test_ids():
    recent = read([[7, 12.0, "view", 1], ["7", "12", "view", 1.5]])
    assert recent.events == [StreamEvent(2, "7", "12", "view", 1_000), StreamEvent(3, "7", "12", "view", 1_500)]


@pytest.mark.parametrize(
    "row",
    [
        "torn",
        [None, "i", "view", 1],
        ["", "i", "view", 1],
        ["u", "", "view", 1],
        ["u", "x" * 257, "view", 1],
        ["u", "i", "view", "soon"],
        ["u", "i", "view", None],
        ["u", "\udcff", "view", 1],
        ["u", 1.5, "view", 1],
        [True, "i", "view", 1],
        [["u"], "i", "view", 1],
    ],
)
def test_a_line_that_is_no_event_is_counted_with_its_number(row):
    recent = read([row, ["u", "i", "view", 1]])
    assert len(recent.events) == 1
    assert recent.bad.count == 1
    assert recent.bad.first[0].startswith("line 2: ")
