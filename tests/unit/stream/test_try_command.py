"""`millstream try` as a user meets it."""

import json
import random
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from online_model.config import ModelConfig
from stream.commands.try_ import try_
from stream.errors import StartupError
from stream.settings import Settings

Run = Callable[..., Result]
Shop = Callable[..., Path]
START = 1_500_000_000


@pytest.fixture
def run(tmp_path, monkeypatch) -> Run:
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()

    @app.callback()
    def settings(ctx: typer.Context) -> None:
        ctx.obj = Settings(device="cpu", model=ModelConfig(hidden=8, negatives=32))

    app.command("try")(try_)

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(app, ["try", *map(str, arguments)])

    return run


@pytest.fixture
def shop(tmp_path) -> Shop:
    """Events of 60 people who mostly go from item n to item n + 1."""

    def make(
        name: str = "shop.csv",
        n_events: int = 1_200,
        columns: str = "VisitorId;sku;action;created_at;price",
        written: Callable[[int], object] = str,
    ) -> Path:
        chance = random.Random(1)
        where: dict[int, int] = {}
        lines = [columns]
        for number in range(n_events):
            user = chance.randrange(60)
            where[user] = (where.get(user, user) + 1) % 30 if chance.random() < 0.9 else chance.randrange(30)
            behavior = chance.choice(["click", "pv", "buy"])
            lines.append(f"u{user};i{where[user]};{behavior};{written(START + number)};{chance.random():.2f}")
        path = tmp_path / name
        path.write_text("\n".join(lines))
        return path

    return make


def test_without_any_option_it_says_what_it_guessed_and_ends_in_a_sentence(run, shop, tmp_path):
    result = run(shop())
    assert result.exit_code == 0, result.output
    first, *_, last = result.stdout.splitlines()
    assert "user = VisitorId, item = sku, behaviour = action, time = created_at (unix seconds)" in first
    assert "not used: price" in first
    assert "behaviours that are not known count as views: pv" in result.stdout
    assert "every tenth of the stream" in result.stdout
    assert last.startswith("on your stream the next item is in the top 20 for ")
    for words in ("%; refreshed every tenth ", ", frozen ", ", Markov ", ", popularity ", " events a second on this"):
        assert words in last
    assert result.stderr == ""


def test_the_picture_lies_in_the_current_folder_and_its_name_is_said(run, shop, tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "elsewhere").mkdir()
    result = run(shop("elsewhere/shop.v2.csv"))
    assert "plot: shop.v2-try.png" in result.stdout
    assert (tmp_path / "shop.v2-try.png").stat().st_size > 1_000
    run(tmp_path / "elsewhere/shop.v2.csv", "--plot", "other.svg")
    assert (tmp_path / "other.svg").exists()


def test_without_matplotlib_it_says_so_and_goes_on(run, shop, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = run(shop())
    assert result.exit_code == 0
    assert len(result.stderr.splitlines()) == 1
    assert "matplotlib" in result.stderr
    assert result.stdout.splitlines()[-1].startswith("on your stream")


def test_json_alone_on_standard_output(run, shop):
    result = run(shop(), "--json", "-", "--limit", 900)
    found = json.loads(result.stdout)
    assert found["events_in_file"] == 1_200
    assert found["events"] == 900
    assert found["columns"]["item_id"] == "sku"
    assert set(found["compared"]) == {"live", "nightly", "frozen", "markov", "popularity"}
    assert 0 < found["compared"]["live"]["recall"] <= 1
    interval = found["live_minus_nightly"]
    assert interval["low"] <= interval["difference"] <= interval["high"]
    assert interval["difference"] == pytest.approx(
        found["compared"]["live"]["recall"] - found["compared"]["nightly"]["recall"]
    )
    assert 288 <= found["compared_from"] <= 320
    assert found["sentence"] in result.stderr
    assert "the most recent 900 are taken, 300 older ones left out" in result.stderr


def test_json_in_a_file_beside_the_sentence(run, shop, tmp_path):
    result = run(shop(), "--json", tmp_path / "figures.json")
    assert result.stdout.splitlines()[-1] == json.loads((tmp_path / "figures.json").read_text())["sentence"]


def test_the_order_of_the_file_and_the_way_times_are_written_change_nothing(run, shop):
    def figures(path: Path) -> object:
        return json.loads(run(path, "--json", "-").stdout)["compared"]

    sorted_, dated = shop(), shop("dated.csv", written=lambda s: datetime.fromtimestamp(s, UTC).isoformat())
    shuffled = shop("shuffled.csv")
    header, *lines = shuffled.read_text().splitlines()
    random.Random(2).shuffle(lines)
    shuffled.write_text("\n".join([header, *lines]))
    assert "out of the order of time: sorted" in run(shuffled).stdout
    assert figures(sorted_) == figures(dated) == figures(shuffled)


def test_what_the_user_knows_better_goes_before_a_guess(run, shop):
    result = run(
        shop(columns="a;sku;b;VisitorId;c"),
        *("--map", "a=user_id", "--map", "b=behavior", "--map", "VisitorId=timestamp"),
        *("--time-unit", "s", "--session-gap", 7200),
    )
    assert result.exit_code == 0, result.output
    assert "user = a, item = sku, behaviour = b, time = VisitorId (unix seconds)" in result.stdout
    assert "a pause over 120 minutes ends a sitting" in result.stdout


def test_sequences_can_be_kept_for_another_column(run, shop):
    result = run(shop(columns="session;sku;b;time;user_id"), "--key", "session")
    assert result.exit_code == 0, result.output
    assert "user = session, item = sku" in result.stdout
    assert "not used: b, user_id" in result.stdout


REFUSALS = [
    ("missing.csv", None, [], "cannot read .*missing.csv: No such file"),
    ("empty.csv", "", [], "is empty"),
    ("header.csv", "user,item,time\n", [], "holds no rows"),
    ("items.csv", "item_id,title\n1,one two\n2,three\n", [], "no column looks like the time .* or who acted .*--map"),
    ("bad.csv", f"user,item,time\nu,{'x' * 300},{START}\n", [], "holds no event; line 2: item must be"),
    ("few.csv", f"user,item,time\nu,i,{START}\nu,j,{START}\n", [], "2 events are too few"),
    ("once.csv", "user,item,time\n" + "".join(f"u{n},i,{START + n}\n" for n in range(99)), [], r"is user who acted\?"),
    ("e.csv", "user,item,time\n", ["--map", "user"], "must be COLUMN=FIELD"),
    ("e.csv", f"user,item,time\nu,i,{START}\n", ["--map", "who=user_id"], "there is no column who"),
    ("e.csv", "", ["--session-gap", "0"], "must be above 0"),
    ("e.csv", "", ["--json", "nowhere/f.json"], "no folder nowhere"),
    ("e.csv", "", ["--plot", "nowhere/p.png"], "no folder nowhere"),
]


@pytest.mark.parametrize(("name", "text", "arguments", "words"), REFUSALS)
def test_what_cannot_be_tried_is_one_line(run, tmp_path, name, text, arguments, words):
    if text is not None:
        (tmp_path / name).write_text(text)
    result = run(tmp_path / name, *arguments)
    assert isinstance(result.exception, StartupError)
    message = str(result.exception)
    assert "\n" not in message
    assert re.search(words, message), message


def test_an_unknown_kind_of_picture_is_refused_before_the_work(run, shop):
    pytest.importorskip("matplotlib")
    result = run(shop(), "--plot", "picture.xyz")
    assert isinstance(result.exception, StartupError)
    assert "must end in one of" in str(result.exception)


def test_ctrl_c_is_one_line_and_130(run, shop, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("online_model.evaluation.trial.Trial.run", interrupted)
    result = run(shop())
    assert result.exit_code == 130
    assert result.stderr.splitlines() == ["millstream: stopped before the end; --limit takes fewer events"]


def test_a_model_that_diverges_is_one_line(run, shop, monkeypatch):
    from online_model.protocol import ModelDiverged

    def diverged(*_: object) -> None:
        raise ModelDiverged("loss nan")

    monkeypatch.setattr("online_model.evaluation.trial.Trial.run", diverged)
    assert "diverged on this stream: loss nan" in str(run(shop()).exception)
