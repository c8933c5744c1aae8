"""The benchmarks of the intake and of what a worker remembers, where no Kafka is needed."""

import json
from collections import Counter
from datetime import datetime

import msgspec
import pytest

from online_model.protocol import Recommender, Request
from stream.behaviors import behavior_table
from stream.benchmarks import churn, intake, takers
from stream.benchmarks.population import Constant
from stream.benchmarks.restart import logged
from stream.records import Event, event_decoder
from stream.settings import BehaviorSettings, FieldSettings


def test_a_turnover_brings_as_many_new_users_and_items_as_there_is_room_for() -> None:
    decode = event_decoder(FieldSettings(), behavior_table(BehaviorSettings()))
    found = [list(churn.events(number, 50, 1_700_000_000_000)) for number in range(2)]
    seen = []
    for turnover in found:
        events = [decode(value) for _, value in turnover]
        assert all(isinstance(event, Event) for event in events)
        assert {event.user_id for event in events if isinstance(event, Event)} == {user for user, _ in turnover}
        seen.append({event.item_id for event in events if isinstance(event, Event)})
        assert Counter(user for user, _ in turnover).most_common()[-1][1] == churn.EVENTS_PER_USER
    assert [len(items) for items in seen] == [50, 50]
    assert not seen[0] & seen[1]


def test_growth_is_seen_from_the_first_turnover_on() -> None:
    found = {f"turnover {number}": {"mib": mib} for number, mib in enumerate((1.0, 100.0, 101.0, 105.0))}
    assert churn.growth(found, "mib") == 1.05


def test_a_rival_is_told_by_what_lies_between_its_two_readings() -> None:
    begin = {"events": 10, "seconds": 1.0, "cpu": 2.0, "mib": 9.0}
    end = {"events": 30, "seconds": 2.0, "cpu": 4.0, "mib": 9.5}
    figures = intake._figures(begin, 1.0, end, 1.5)
    assert figures["events_per_second"] == 20
    assert figures["events_per_worker_cpu_second"] == 10
    assert figures["broker_cores"] == 0.5
    assert figures["mib"] == 9.5


def test_a_meter_speaks_at_the_first_batch_and_at_the_last(capsys: pytest.CaptureFixture[str]) -> None:
    meter = takers.Meter(10)
    for n_events in (0, 4, 4, 4, 4):
        meter.count(n_events)
    assert meter.done
    assert [json.loads(line)["events"] for line in capsys.readouterr().out.splitlines()] == [4, 12]


def test_a_rival_keeps_the_last_items_and_passes_over_what_it_has_applied() -> None:
    state = [-1, []]
    for offset in (*range(25), 3):
        answer = takers._apply(state, msgspec.json.encode({"item_id": f"i{offset}", "event_id": f"e{offset}"}), offset)
    assert state == [24, [f"i{number}" for number in range(5, 25)]]
    assert msgspec.json.decode(answer) == ["e3", ["i22", "i23", "i24"]]


def test_a_timeline_is_made_of_the_lines_that_have_a_time() -> None:
    began = datetime(2026, 1, 2, 3, 4, 5).timestamp()
    text = "Traceback\n2026-01-02 03:04:05,500 INFO stream.worker started\n  more\n"
    assert logged(text, began) == [(0.5, "log: stream.worker started")]


def test_the_model_that_always_says_the_same_is_a_recommender() -> None:
    model = Constant(20)
    assert isinstance(model, Recommender)
    first, second = model.recommend([Request(None), Request(None)], 5)  # type: ignore[arg-type]  # it looks at nothing
    assert first == second
    assert len(first.items) == 5
    assert Constant(0).recommend([Request(None)], 5)[0].items == []  # type: ignore[arg-type]
