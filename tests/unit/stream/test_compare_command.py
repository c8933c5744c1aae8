"""`millstream compare` as a user meets it."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from stream.commands import compare as command
from stream.errors import StartupError
from stream.settings import Settings

Run = Callable[..., Result]

pytest.importorskip("matplotlib")


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """600 events of 30 people who mostly go from item n to item n + 1."""
    chance = random.Random(1)
    where: dict[int, int] = {}
    lines = ["user_id,item_id,behavior,timestamp"]
    for number in range(600):
        user = chance.randrange(30)
        where[user] = (where.get(user, user) + 1) % 40 if chance.random() < 0.9 else chance.randrange(40)
        lines.append(f"u{user},i{where[user]},{chance.choice(['click', 'buy', 'return'])},{1_500_000_000 + number}")
    path = tmp_path / "shop.csv"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def run(shop: Path, tmp_path: Path) -> Run:
    app = typer.Typer()

    @app.callback()
    def settings(ctx: typer.Context) -> None:
        ctx.obj = Settings(device="cpu")

    app.command()(command.compare)

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(app, ["compare", str(shop), "--out", str(tmp_path / "out"), *map(str, arguments)])

    return run


def written(result: Result, folder: Path) -> dict[str, Any]:
    assert result.exit_code == 0, (result.output, result.exception)
    found: dict[str, Any] = json.loads((folder / "out" / "compare.json").read_text())
    return found


@pytest.mark.parametrize("protocol", [[], ["--no-repeats"], ["--repeats"]])
def test_page_figures_and_pictures(run, tmp_path, protocol):
    result = run("--models", "markov,nightly:markov,popularity", "--epochs", 2, *protocol)
    found = written(result, tmp_path)
    assert list(found["models"]) == ["markov", "nightly:markov", "popularity"]
    assert set(found["gains"]) == {"nightly:markov", "popularity"}
    recall = {name: model["last_70"]["at"]["20"]["recall"] for name, model in found["models"].items()}
    assert recall["markov"] > recall["popularity"]
    assert found["models"]["nightly:markov"]["tenths"][0]["at"]["20"]["recall"] == 0
    assert found["models"]["nightly:markov"]["last_70"]["at"]["20"]["recall"] > 0
    page = (tmp_path / "out" / "compare.md").read_text()
    assert "| recall@20, further items of the sitting" in page
    assert "## Gain of markov over each rival" in page
    for name in ("learning.png", "gains.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")
        assert f"({name})" in page


def test_settings_are_those_of_one_model(run, tmp_path):
    models = "fast=popularity,slow=popularity,nightly:fast"
    result = run("--models", models, "--set", "fast.popularity_half_life=10", "--no-lists", "--seed", 7)
    found = written(result, tmp_path)["settings"]["models"]
    assert [found[name]["popularity_half_life"] for name in found] == [10.0, 5000.0, 10.0]
    assert [found[name]["learner"] for name in found] == ["popularity"] * 3
    assert [found[name]["nightly"] for name in found] == [False, False, True]
    assert all(model["seed"] == 7 for model in found.values())
    assert "lists" not in json.loads((tmp_path / "out" / "compare.json").read_text())["models"]["fast"]["all"]


def test_a_single_model_has_no_rivals(run, tmp_path):
    found = written(run("--models", "popularity", "--limit", 100), tmp_path)
    assert (found["events"], found["gains"]) == (100, {})
    assert not (tmp_path / "out" / "gains.png").exists()


SEARCH = [
    "--models",
    "markov,popularity,nightly:popularity",
    "--folds",
    2,
    "--search-share",
    0.5,
    "--trials",
    3,
    "--random",
]
GRIDS = ["--grid", "markov.popularity_half_life=10..1000", "--grid", "popularity.popularity_half_life=10..1000"]


def test_a_search_gives_each_model_the_same_budget_and_takes_its_best(run, tmp_path):
    result = run(*SEARCH, *GRIDS)
    found = written(result, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "out" / "trials.jsonl").read_text().splitlines()]
    assert sorted(line["learner"] for line in lines) == ["markov"] * 3 + ["popularity"] * 3
    assert all(line["events"] == 300 and len(line["recall_folds"]) == 2 for line in lines)
    best = max((line for line in lines if line["learner"] == "popularity"), key=lambda line: line["recall"])
    used = found["settings"]["models"]
    assert used["popularity"]["popularity_half_life"] == best["config"]["popularity_half_life"]
    assert used["nightly:popularity"]["popularity_half_life"] == best["config"]["popularity_half_life"]
    page = (tmp_path / "out" / "search.md").read_text()
    assert "## markov, 3 trials" in page
    assert f"{best['recall']:.4f} ±" in page
    assert f"--set popularity.popularity_half_life={best['config']['popularity_half_life']}" in page


def test_a_search_that_was_stopped_goes_on(run, tmp_path, monkeypatch):
    from online_model.evaluation import folds

    evaluated: list[str] = []
    evaluate = folds.evaluate

    def stopping(learner: Any, *arguments: Any, **options: Any) -> Any:
        if len(evaluated) == 2:
            raise KeyboardInterrupt
        evaluated.append(learner.kind)
        return evaluate(learner, *arguments, **options)

    monkeypatch.setattr(folds, "evaluate", stopping)
    stopped = run(*SEARCH, *GRIDS, "--search-only")
    assert stopped.exit_code == 130
    assert stopped.stderr == f"stopped: finished trials are kept in {tmp_path / 'out' / 'trials.jsonl'}\n"
    evaluated.clear()

    def counting(learner: Any, *arguments: Any, **options: Any) -> Any:
        evaluated.append(learner.kind)
        return evaluate(learner, *arguments, **options)

    monkeypatch.setattr(folds, "evaluate", counting)
    assert run(*SEARCH, *GRIDS, "--search-only").exit_code == 0
    assert evaluated == ["markov", "popularity", "popularity", "popularity"]
    assert not (tmp_path / "out" / "compare.md").exists()


def test_a_grid_as_a_file(run, tmp_path):
    space = tmp_path / "space.json"
    space.write_text(json.dumps({"popularity": {"popularity_half_life": [10, 100], "whole_history": [True]}}))
    result = run("--models", "popularity", "--search", space, "--search-only")
    assert result.exit_code == 0, result.output
    assert "## popularity, 3 trials" in result.stdout
    assert "popularity_half_life=10.0 whole_history=True" in result.stdout


def test_uneven_budgets_are_told(run):
    result = run("--models", "markov,popularity", "--grid", "popularity.popularity_half_life=10,20", "--search-only")
    assert result.exit_code == 0
    assert "not the same number of trials for every model: markov 1, popularity 3" in result.stderr


def test_interrupting_says_one_line_and_writes_nothing(run, tmp_path, monkeypatch):
    from online_model.evaluation import race

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(race.Race, "run", interrupted)
    result = run("--models", "popularity")
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr == "stopped: a comparison counts only whole, so nothing was written\n"
    assert list((tmp_path / "out").iterdir()) == []


WRONG = {
    "unknown": (["--models", "oracle"], "--models must be one of "),
    "unknown nightly": (["--models", "nightly:oracle"], "not 'oracle'"),
    "none": (["--models", ","], "--models names no model"),
    "twice": (["--models", "markov,markov"], "--models names markov twice"),
    "set": (["--models", "markov", "--set", "hidden=3"], "--set must be MODEL.SETTING=VALUE"),
    "set whom": (["--models", "markov", "--set", "gru.hidden=3"], "no model 'gru' takes part; there are markov"),
    "batch": (["--models", "markov", "--set", "markov.batch_size=3"], "all models meet the same mini-batches"),
    "range": (["--models", "markov", "--set", "markov.hidden=0"], "settings of markov: hidden must be"),
    "trials": (["--models", "markov", "--grid", "markov.hidden=1,2,3", "--trials", "2"], "the grid has 4 settings"),
    "random": (["--models", "markov", "--grid", "markov.hidden=1,2", "--random"], "--random needs --trials"),
    "rising": (["--models", "markov", "--grid", "markov.hidden=9..1"], "a range must rise"),
    "no number": (["--models", "markov", "--grid", "markov.device=a..b"], "device is no number"),
    "share": (
        ["--models", "markov", "--grid", "markov.hidden=1", "--search-share", "0"],
        "--search-share must be above 0",
    ),
    "space": (["--models", "markov", "--search", "missing.json"], "cannot read missing.json: No such file"),
    "both": (["--models", "markov", "--repeats", "--no-repeats"], "give one of them"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_a_user_can_mend_is_one_line(run, case):
    arguments, message = WRONG[case]
    result = run(*arguments)
    assert isinstance(result.exception, StartupError), result.output
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)


def test_without_matplotlib_it_ends_before_the_work(run, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run("--models", "popularity")
    assert isinstance(result.exception, StartupError)
    assert "needs matplotlib: install millstream with its extra `plot`" in str(result.exception)
    assert not (tmp_path / "out").exists()
