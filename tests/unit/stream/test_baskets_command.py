"""`millstream baskets` as a user meets it."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from stream.commands import baskets as command
from stream.errors import StartupError
from stream.settings import Settings


@pytest.fixture
def invoices(tmp_path: Path) -> Path:
    """Ten customers who buy the same three things of their own each week, 20 weeks long."""
    lines = ["user_id,item_id,behavior,timestamp"]
    for week in range(20):
        for customer in range(10):
            moment = 1_500_000_000 + 604_800 * week + 60 * customer
            lines += [f"u{customer},i{3 * customer + line},buy,{moment}" for line in range(3)]
    path = tmp_path / "invoices.csv"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def run(invoices):
    app = typer.Typer()

    @app.callback()
    def settings(ctx: typer.Context) -> None:
        ctx.obj = Settings(device="cpu")

    app.command()(command.baskets)

    def run(*arguments):
        return CliRunner().invoke(app, ["baskets", str(invoices), *map(str, arguments)])

    return run


@pytest.mark.parametrize("mode", [[], ["--at-once"]])
def test_figures_for_programs(run, tmp_path, mode):
    path = tmp_path / "found.json"
    result = run("--models", "history,popularity", "--json", path, *mode)
    assert result.exit_code == 0, result.output
    found = json.loads(path.read_text())
    assert (found["events"], found["baskets"], found["unscored"]) == (600, 190, {"first": 10})
    assert found["settings"]["at_once"] is bool(mode)
    history, popularity = found["models"]["history"], found["models"]["popularity"]
    # What came first in the running mini-batch is nobody's item yet.
    assert 0.9 < history["recall"] < history["recall_last_70"] == history["ndcg_last_70"] == 1.0
    assert popularity["recall"] < 1.0
    behind = popularity["behind"]["recall"]
    assert behind["low"] <= behind["difference"] <= behind["high"]
    assert behind["difference"] == pytest.approx(history["recall"] - popularity["recall"])
    printed = json.loads(run("--models", "history,popularity", "--json", "-", *mode).stdout)
    assert printed["models"]["history"]["recall"] == history["recall"]


def test_the_table_and_the_default_models(run):
    result = run()
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.split()[1] for line in lines[2:5]] == ["two-stage", "history", "popularity"]
    assert lines[5] == "190 baskets scored of 600 events; not: 10 first"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--models", "nightly:markov"], "models that learn live"),
        (["--models", "nobody"], "--models must be one of"),
        (["--limit", "30", "--models", "history"], "no second basket"),
        (["--json", "/nowhere/at/all.json"], "there is no folder"),
        (["--session-gap", "0"], "--session-gap must be above 0"),
    ],
)
def test_what_cannot_be_done_is_said(run, arguments, complaint):
    result = run(*arguments)
    assert isinstance(result.exception, StartupError)
    assert complaint in str(result.exception)
