"""How benchmarks end: medians, a table, JSON, and the run before."""

import json

import pytest

from stream.benchmarks.record import Measured, conclude, default_folder, last_run
from stream.settings import Settings


def measured(*values: float, rate: int = 200) -> Measured:
    return Measured("latency", [{"200/s": {"p50_ms": value}} for value in values], {"rate": rate})


@pytest.fixture
def settings() -> Settings:
    return Settings()


def test_the_second_run_is_compared_with_the_first(tmp_path, settings, capsys):
    conclude(measured(10.0, 30.0, 20.0), settings, None, tmp_path)
    first = capsys.readouterr().out
    assert "20" in first
    assert "x" not in first.splitlines()[3]
    conclude(measured(10.0), settings, tmp_path / "run.json", tmp_path)
    assert "10 x0.50" in capsys.readouterr().out
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["medians"] == {"200/s": {"p50_ms": 10.0}}
    assert run["last"]["medians"] == {"200/s": {"p50_ms": 20.0}}


def test_only_like_is_compared_with_like(tmp_path, settings, capsys):
    conclude(measured(20.0), settings, None, tmp_path)
    conclude(measured(10.0, rate=300), settings, None, tmp_path)
    other = settings.model_copy(update={"lists": settings.lists.model_copy(update={"k": 5})})
    conclude(measured(10.0), other, None, tmp_path)
    assert "x0.50" not in capsys.readouterr().out
    assert len(list(tmp_path.glob("latency-*.jsonl"))) == 3


def test_where_it_listens_and_what_it_is_called_makes_no_other_run(tmp_path, settings):
    conclude(measured(20.0), settings, None, tmp_path)
    conclude(measured(20.0), settings.model_copy(update={"app_id": "other"}), None, tmp_path)
    (place,) = tmp_path.glob("latency-*.jsonl")
    assert len(place.read_text().splitlines()) == 2


def test_a_torn_line_is_passed_over(tmp_path):
    place = tmp_path / "runs.jsonl"
    assert last_run(place) is None
    place.write_text('{"date": "then", "medians": {}}\n[1]\n{"date": "now", "med')
    assert last_run(place) == {"date": "then", "medians": {}}


def test_rows_of_one_group_stand_under_it(tmp_path, settings, capsys):
    rows = {"200/s": {"p50_ms": 3.0, "answered": 1.0}, "200/s wait": {"p50_ms": 2.0}, "500/s": {"p50_ms": 4.0}}
    conclude(Measured("latency", [rows]), settings, None, tmp_path)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert [line.split("│")[1].rstrip() for line in lines] == [" 200/s", "   wait", " 500/s"]


def test_a_folder_that_cannot_be_written_costs_no_figures(tmp_path, settings, capsys):
    (tmp_path / "file").write_text("")
    conclude(measured(20.0), settings, None, tmp_path / "file" / "below")
    out = capsys.readouterr().out
    assert "p50 ms" in out
    assert "not kept" in out


def test_json_alone_on_standard_output(tmp_path, settings, capsys):
    from pathlib import Path

    conclude(measured(20.0), settings, Path("-"), tmp_path)
    out, err = capsys.readouterr()
    assert json.loads(out)["benchmark"] == "latency"
    assert "p50 ms" in err


def test_runs_are_kept_in_the_users_folder_of_states(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "millstream" / "benchmarks"
