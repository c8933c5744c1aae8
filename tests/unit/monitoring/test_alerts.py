import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from stream.settings import variable_names


@pytest.fixture(scope="module")
def alerts(repository: Path) -> dict[str, dict[str, Any]]:
    text = (repository / "monitoring/alerts/millstream.rules.yml").read_text(encoding="utf-8")
    rules = [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]
    return {rule["alert"]: rule for rule in rules if "alert" in rule}


@pytest.fixture(scope="module")
def runbook(repository: Path) -> str:
    return (repository / "monitoring/alerts/runbook.md").read_text(encoding="utf-8")


def test_every_case_of_every_alert_holds(repository: Path, require: Callable[..., None]) -> None:
    cases = repository / "monitoring/alerts/millstream.test.yml"
    require("promtool")
    run = subprocess.run(["promtool", "test", "rules", str(cases)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_every_alert_has_a_case_where_it_fires_and_one_where_it_does_not(
    repository: Path, alerts: dict[str, dict[str, Any]]
) -> None:
    text = (repository / "monitoring/alerts/millstream.test.yml").read_text(encoding="utf-8")
    cases = [case for test in yaml.safe_load(text)["tests"] for case in test["alert_rule_test"]]
    fires = {case["alertname"] for case in cases if case["exp_alerts"]}
    silent = {case["alertname"] for case in cases if not case["exp_alerts"]}
    assert fires == silent == set(alerts)


def test_every_alert_says_how_grave_it_is_what_happens_and_where_to_read_on(
    alerts: dict[str, dict[str, Any]], runbook: str
) -> None:
    anchors = {heading.lower() for heading in re.findall(r"^### (\w+)$", runbook, re.MULTILINE)}
    for name, rule in alerts.items():
        assert rule["labels"]["severity"] in {"page", "ticket"}, name
        assert rule["annotations"]["summary"], name
        path, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert path == "monitoring/alerts/runbook.md", name
        assert anchor == name.lower(), name
        assert anchor in anchors, name


def test_the_runbook_speaks_of_no_alert_that_does_not_exist(alerts: dict[str, dict[str, Any]], runbook: str) -> None:
    assert set(re.findall(r"\bMillstream\w+", runbook)) == set(alerts)


def test_the_runbooks_links_lead_somewhere(repository: Path, runbook: str) -> None:
    anchors = {heading.lower() for heading in re.findall(r"^### (\w+)$", runbook, re.MULTILINE)}
    for link in re.findall(r"\]\(([^)]+)\)", runbook):
        path, _, anchor = link.partition("#")
        assert not path or (repository / "monitoring/alerts" / path).is_file(), link
        assert not anchor or anchor in anchors, link


def test_the_runbook_names_settings_that_exist(runbook: str) -> None:
    assert set(re.findall(r"\bMILLSTREAM_[A-Z_]+", runbook)) <= set(variable_names())
