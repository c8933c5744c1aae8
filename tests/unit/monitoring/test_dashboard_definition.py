import json
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from monitoring.dashboards.board import DASHBOARD_PATH, render
from monitoring.dashboards.promql import advantage
from monitoring.metrics import Metrics
from monitoring.query_check import fill_in, panel_queries

DASHBOARD = json.loads(DASHBOARD_PATH.read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


@pytest.fixture(scope="module")
def exposed() -> set[str]:
    metrics = Metrics(CollectorRegistry())
    metrics.observe_lag("user-events", 0)
    metrics.observe_lag_seconds("user-events", 0)
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {sample.name for family in families for sample in family.samples}


def queried(expr: str) -> set[str]:
    return set(re.findall(r"\b(?:millstream|process)_[a-z0-9_]+", expr))


def rules(repository: Path) -> Iterator[dict[str, Any]]:
    text = (repository / "monitoring/alerts/millstream.rules.yml").read_text(encoding="utf-8")
    for group in yaml.safe_load(text)["groups"]:
        yield from group["rules"]


def test_the_file_is_what_the_code_draws() -> None:
    assert DASHBOARD_PATH.read_text(encoding="utf-8") == render(), "run `python -m monitoring.dashboards`"


def test_every_metric_on_the_dashboard_exists(exposed: set[str]) -> None:
    for panel, expr in panel_queries(DASHBOARD):
        assert queried(expr), panel
        assert queried(expr) <= exposed, panel


def test_every_metric_in_the_rules_exists(repository: Path, exposed: set[str]) -> None:
    recorded = {rule["record"] for rule in rules(repository) if "record" in rule}
    for rule in rules(repository):
        expr = rule["expr"]
        for name in recorded:
            expr = expr.replace(name, "")
        assert queried(expr) <= exposed, rule


def test_the_top_row_is_three_numbers() -> None:
    top = [panel for panel in PANELS if panel["gridPos"]["y"] == 0]
    assert [panel["type"] for panel in top] == ["stat"] * 3
    assert [panel["title"] for panel in top] == ["Answered in", "Better than nightly by", "Events lost"]


def test_the_rows_below() -> None:
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == ["Traffic", "Latency", "Quality by arm", "Learning", "Health"]


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_explains_itself(panel: dict[str, Any]) -> None:
    assert len(panel["description"]) > 20
    assert panel["fieldConfig"]["defaults"]["unit"]
    for target in panel["targets"]:
        assert target["legendFormat"]
        assert target["datasource"]["uid"] == "${datasource}"


def test_no_query_keeps_a_variable_of_grafanas() -> None:
    for panel, expr in panel_queries(DASHBOARD):
        assert "$" not in fill_in(expr), panel


def test_panels_have_their_own_ids_and_places() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    for one, other in combinations((panel["gridPos"] for panel in DASHBOARD["panels"]), 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)


def test_the_interval_needs_no_more_than_pairs() -> None:
    assert queried(advantage("nightly", "1h", bound=-1)) == {"millstream_prequential_pairs_total"}
