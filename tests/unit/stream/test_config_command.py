import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from stream.commands.config import HIDDEN, config, report
from stream.settings import Settings, load_settings, variable_names


def sources(settings: Settings, environ: dict[str, str], file: dict[str, object]) -> dict[str, str]:
    return {setting.name: setting.source for setting in report(settings, environ, file, "millstream.toml")}


def test_every_setting_is_listed_under_its_variable() -> None:
    listed = {setting.variable for setting in report(Settings(), {}, {}, "")}
    groups = {name for name in variable_names() if any(other.startswith(name + "__") for other in variable_names())}
    assert listed == set(variable_names()) - groups


def test_where_values_came_from() -> None:
    environ = {
        "MILLSTREAM_WEB__PORT": "1",
        "millstream_lists": '{"k": 3}',
        "MILLSTREAM_BEHAVIORS__ROLES__ZAP": "interest",
    }
    found = sources(Settings(), environ, {"web": {"port": 2, "host": "x"}})
    assert found["web.port"] == "environment"
    assert found["web.host"] == "millstream.toml"
    assert found["lists.k"] == "MILLSTREAM_LISTS"
    assert found["behaviors.roles"] == "MILLSTREAM_BEHAVIORS__ROLES__ZAP"
    assert found["app_id"] == "default"


def test_the_command_shows_values_and_hides_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "millstream.toml").write_text('app_id = "shop"\n')
    monkeypatch.setenv("MILLSTREAM_KAFKA__SASL_PASSWORD", "hunter2")
    monkeypatch.setenv("MILLSTREAM_TOPICS__EVENTS", "web,app")
    app = typer.Typer()
    app.command()(config)
    settings = load_settings()
    shown = CliRunner().invoke(app, [], obj=settings, catch_exceptions=False).output
    assert "MILLSTREAM_APP_ID=shop  <- millstream.toml\n" in shown
    assert f"MILLSTREAM_KAFKA__SASL_PASSWORD={HIDDEN}  <- environment\n" in shown
    assert "MILLSTREAM_TOPICS__EVENTS=web,app  <- environment\n" in shown
    assert "hunter2" not in shown
    as_json = CliRunner().invoke(app, ["--json"], obj=settings, catch_exceptions=False).output
    assert json.loads(as_json)["app_id"] == {"value": "shop", "source": "millstream.toml"}
    assert "hunter2" not in as_json
