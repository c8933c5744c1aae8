from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from producers.cli import app, parse_factor
from stream.settings import Settings, SettingsError

HEADER = "user_id,item_id,behavior,timestamp\n"


@pytest.fixture
def produce():
    """Nobody listens where this goes: what is tested here ends before, or says so."""
    topics = SimpleNamespace(events=["user-events"], item_catalog="item-catalog")
    settings = SimpleNamespace(topics=topics, librdkafka=lambda: {"bootstrap.servers": "127.0.0.1:1"})
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments], obj=settings)


@pytest.mark.parametrize(
    ("name", "content", "options", "says"),
    [
        ("e.csv", None, [], "No such file"),
        ("e.csv", "a,b\n1,2\n", [], "no column for user_id, item_id, behavior, timestamp; there are a, b"),
        ("e.csv", HEADER, ["--map", "x=user_id"], "no column 'x'"),
        ("e.csv", HEADER, ["--map", "user_id"], "expected column=field"),
        ("e.csv", HEADER + "u,i,view,1\nu,i,view,1700000000000\n", [], "say --time-unit"),
    ],
)
def test_what_is_wrong_with_the_file_is_said_before_connecting(produce, tmp_path, name, content, options, says):
    if content is not None:
        (tmp_path / name).write_text(content)
    result = produce("replay", tmp_path / name, *options)
    assert result.exit_code == 1
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_the_time_unit_is_told(produce, tmp_path, monkeypatch):
    def unavailable(config, topic):
        raise typer.Exit(1)

    monkeypatch.setattr("producers.cli.require_topic", unavailable)
    (tmp_path / "e.csv").write_text(HEADER + "u,i,view,1700000000\n")
    assert "times are in seconds" in produce("replay", tmp_path / "e.csv").stderr
    result = produce("replay", tmp_path / "e.csv", "--time-unit", "ms", "--shift-to-now")
    assert "times are in milliseconds: as told" in result.stderr


def test_a_setting_that_is_missing_is_left_to_the_command_line_to_tell():
    result = CliRunner().invoke(app, ["synthetic"], obj=Settings())
    assert isinstance(result.exception, SettingsError)


@pytest.mark.parametrize("text", ["0", "-1", "fast", "inf", "nan"])
def test_a_pace_is_a_number_or_max(produce, text):
    with pytest.raises(typer.BadParameter):
        parse_factor(text)
    assert produce("synthetic", "--rate", text).exit_code == 2


def test_a_shop_that_makes_no_sense_is_one_line(produce, tmp_path):
    result = produce("synthetic", "--items", 10)
    assert (result.exit_code, "expected 40 items" in result.stderr) == (1, True)
    (tmp_path / "items.jsonl").write_text("{}\n")
    result = produce("synthetic", "--catalog", tmp_path / "items.jsonl")
    assert (result.exit_code, "line 1" in result.stderr) == (1, True)
