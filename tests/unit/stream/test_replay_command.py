"""`millstream replay` as a user meets it."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from stream.commands.replay import replay
from stream.errors import StartupError
from stream.recorded import default_model
from stream.settings import Settings

Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    app = typer.Typer()

    @app.callback()
    def settings(ctx: typer.Context) -> None:
        ctx.obj = Settings(device="cpu")

    app.command()(replay)

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(app, ["replay", "--threads", "1", *map(str, arguments)])

    return run


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """1,500 events of 60 people who mostly go from item n to item n + 1; the second half of the items comes late."""
    chance = random.Random(1)
    where: dict[int, int] = {}
    lines = ["visitor,item_id,behavior,timestamp"]
    for number in range(1_500):
        user, n_items = chance.randrange(60), 30 if number < 750 else 60
        where[user] = (where.get(user, user) + 1) % n_items if chance.random() < 0.9 else chance.randrange(n_items)
        lines.append(f"u{user},i{where[user]},{chance.choice(['click', 'buy', 'return'])},{1_500_000_000 + number}")
    lines.insert(700, "torn,line")
    path = tmp_path / "shop.csv"
    path.write_text("\n".join(lines))
    return path


def figures(result: Result) -> dict[str, object]:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_one_json_object_on_standard_output(run, shop):
    found = figures(run(shop, "--map", "visitor=user_id", "--hidden", 8, "--json", "-"))
    assert found["events"] == 1_500
    assert found["model"] == default_model()
    assert found["settings"]["hidden"] == 8
    assert found["settings"]["session_gap"] == 1_800
    assert found["skipped_lines"] == 1
    assert found["scored"] + sum(found["unscored"].values()) == 1_500
    assert len(found["recall_tenths"]) == len(found["mrr_tenths"]) == 10
    assert 0 < found["mrr"] < found["recall"] <= 1
    assert found["seconds"] > 0


@pytest.mark.parametrize("model", ["gru", "popularity", "markov"])
def test_the_same_seed_gives_the_same_figures(run, shop, model):
    one, other = (
        figures(run(shop, "--map", "visitor=user_id", "--model", model, "--limit", 400, "--hidden", 8, "--json", "-"))
        for _ in range(2)
    )
    del one["seconds"], other["seconds"]
    assert one == other
    assert one["events"] == 400


def test_another_seed_gives_others(run, shop):
    one, other = (
        figures(run(shop, "--map", "visitor=user_id", "--hidden", 8, "--seed", seed, "--json", "-")) for seed in (1, 2)
    )
    assert one["mrr"] != other["mrr"]


def test_a_frozen_copy_falls_behind_where_items_come(run, shop):
    found = figures(run(shop, "--map", "visitor=user_id", "--model", "markov", "--freeze-at", 0.5, "--json", "-"))
    comparison = found["comparison"]
    assert comparison["after"] == 768
    assert comparison["live"]["scored"] == comparison["frozen"]["scored"]
    assert comparison["live"]["recall"] > comparison["frozen"]["recall"] + 0.05


def test_without_repeats_every_event_but_the_first_of_its_sequence_is_scored(run, tmp_path):
    path = tmp_path / "e.csv"
    path.write_text("user_id,item_id,behavior,timestamp\n" + "".join(f"u,i{n // 2},click,{n}\n" for n in range(10)))
    found = figures(run(path, "--no-repeats", "--json", "-"))
    assert (found["events"], found["scored"], found["unscored"]) == (5, 4, {"first": 1})
    assert figures(run(path, "--json", "-"))["unscored"] == {"first": 1, "repeat": 5}
    # The limit counts what is left.
    assert figures(run(path, "--no-repeats", "--limit", 3, "--json", "-"))["events"] == 3


def test_with_repeats_every_event_but_the_first_of_its_sequence_is_scored_on_all_items(run, tmp_path):
    path = tmp_path / "e.csv"
    path.write_text("user_id,item_id,behavior,timestamp\n" + "".join(f"u,i{n // 5},click,{n}\n" for n in range(10)))
    found = figures(run(path, "--repeats", "--model", "popularity", "--model-setting", "batch_size=1", "--json", "-"))
    assert (found["events"], found["scored"], found["unscored"]) == (10, 9, {"first": 1})
    # Only i1, when it came, had never been seen: all else stood in the list, the item that the user was on too.
    assert found["recall"] == pytest.approx(8 / 9, abs=1e-6)
    assert found["settings"]["repeats"] is True


def test_a_setting_of_the_model_can_be_given(run, shop):
    given = ["--model-setting", "hidden=8", "--model-setting", "whole_history=true", "--limit", 200, "--json", "-"]
    found = figures(run(shop, "--map", "visitor=user_id", *given))
    assert (found["settings"]["hidden"], found["settings"]["whole_history"]) == (8, True)


def test_details_hold_lists_and_segments(run, shop):
    options = ["--map", "visitor=user_id", "--model", "markov", "--json", "-"]
    plain, found = figures(run(shop, *options)), figures(run(shop, *options, "--details"))
    details = found.pop("details")
    del plain["seconds"], found["seconds"]
    assert plain == found
    assert found["at"]["20"]["recall"] == found["recall"]
    assert details["all"]["at"] == found["at"]
    assert details["all"]["lists"]["places"] > 0
    assert {*details["segments"]} == {"user", "item", "position", "behavior"}
    assert sum(part["scored"] for part in details["segments"]["behavior"].values()) == found["scored"]


def test_a_table_for_people_files_for_programs(run, shop, tmp_path):
    pytest.importorskip("matplotlib")
    paths = tmp_path / "out.json", tmp_path / "out.png"
    result = run(shop, "--map", "visitor=user_id", "--model", "popularity", "--json", paths[0], "--plot", paths[1])
    assert result.exit_code == 0, result.output
    assert "recall@20" in result.stdout
    assert "1,500 events" in result.stdout
    assert json.loads(paths[0].read_text())["events"] == 1_500
    assert paths[1].read_bytes().startswith(b"\x89PNG")
    assert "line 701: 2 columns where the header has 4" in result.stderr


WRONG = {
    "no such file": (["missing.csv"], "No such file"),
    "no such column": (["SHOP"], "has no column user_id"),
    "no such key": (["SHOP", "--map", "visitor=user_id", "--key", "session"], "has no column session"),
    "strict": (["SHOP", "--map", "visitor=user_id", "--strict"], "line 701: 2 columns"),
    "map": (["SHOP", "--map", "visitor"], "--map must be COLUMN=FIELD, not 'visitor'"),
    "map twice": (["SHOP", "--map", "a=user_id", "--map", "b=user_id"], "two columns for user_id: a and b"),
    "field": (["SHOP", "--map", "visitor=person"], "cannot map to person"),
    "gap": (["SHOP", "--session-gap", "0"], "--session-gap must be above 0 seconds, not 0"),
    "freeze": (["SHOP", "--freeze-at", "1"], "--freeze-at must be a share above 0 and below 1, not 1"),
    "hidden": (["SHOP", "--hidden", "0"], "hidden must be an integer of at least 1, not 0"),
    "model": (["SHOP", "--model", "oracle"], "--model must be one of "),
    "both": (["SHOP", "--repeats", "--no-repeats"], "give one of them"),
    "setting": (["SHOP", "--model-setting", "depth=3"], "no model setting 'depth'; there are encoder, "),
    "no pair": (["SHOP", "--model-setting", "hidden"], "--model-setting must be NAME=VALUE, not 'hidden'"),
    "type": (["SHOP", "--model-setting", "hidden=wide"], "hidden must be an integer, not 'wide'"),
    "choice": (["SHOP", "--model-setting", "device=tpu"], "device must be one of auto, cpu, cuda, not 'tpu'"),
    "flag": (["SHOP", "--model-setting", "whole_history=maybe"], "whole_history must be true or false, not 'maybe'"),
    "range": (["SHOP", "--model-setting", "birth=2"], "birth must be a number at least 0 and at most 1, not 2"),
    "json": (["SHOP", "--json", "no/such/folder/x.json"], "there is no folder no/such/folder"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_a_user_can_mend_is_one_line(run, shop, monkeypatch, tmp_path, case):
    monkeypatch.chdir(tmp_path)
    arguments, message = WRONG[case]
    result = run(*[shop if argument == "SHOP" else argument for argument in arguments])
    assert isinstance(result.exception, StartupError)
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)


def test_figures_by_a_column(run, tmp_path):
    lines = ["user_id,item_id,timestamp,week"]
    for turn in range(8):  # a and b follow each other, one new item comes in the second half
        lines += [f"u{turn},{item},{turn * 10 + place},{turn // 4 + 1}" for place, item in enumerate("ab")]
    lines.append("u7,c,79,2")
    path = tmp_path / "weeks.csv"
    path.write_text("\n".join(lines))
    options = (path, "--no-repeats", "--by", "week", "--model", "markov", "--model-setting", "batch_size=1")
    first, second = figures(run(*options, "--json", "-"))["by"]
    assert (first["name"], first["scored"], first["seen"], first["recall"]) == ("1", 4, 3, 0.75)
    assert (second["name"], second["scored"], second["seen"], second["recall"]) == ("2", 5, 4, 0.8)
    assert first["recall_seen"] == second["recall_seen"] == 1
    table = run(*options).stdout
    assert "week" in table
    assert "mean of 2" in table
    assert "0.7750" in table
    missing = run(path, "--by", "month")
    assert isinstance(missing.exception, StartupError)
    assert "has no column month" in str(missing.exception)


def test_unknown_behaviours_are_told_by_line(run, tmp_path):
    path = tmp_path / "e.csv"
    path.write_text("user_id,item_id,behavior,timestamp\nu,i,click,1\nu,j,hover,2\nu,k,click,3\n")
    result = run(path, "--json", "-")
    assert figures(result)["skipped_lines"] == 1
    assert "line 3: unknown behavior 'hover'" in result.stderr
    strict = run(path, "--strict")
    assert isinstance(strict.exception, StartupError)
    assert "line 3: unknown behavior 'hover'" in str(strict.exception)


def test_a_file_without_events_is_no_result(run, tmp_path):
    path = tmp_path / "e.csv"
    path.write_text("user_id,item_id,behavior,timestamp\nu,i\n")
    result = run(path)
    assert isinstance(result.exception, StartupError)
    assert "holds no event that can be used" in str(result.exception)


@pytest.mark.parametrize("arguments", [["--limit", "0"], ["--time-unit", "days"]])
def test_wrong_options_are_told_by_name(run, shop, arguments):
    result = run(shop, *arguments)
    assert result.exit_code == 2
    assert arguments[0] in result.stderr
