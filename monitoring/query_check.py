"""Ask a Prometheus every query of the dashboard and every rule: does each have an answer?

`python -m monitoring.query_check http://localhost:9090` lists what stays empty, and exits with 1 if anything does.
"""

import json
import math
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

DASHBOARD_PATH = Path(__file__).parent / "dashboards" / "millstream.json"
WINDOW = "1m"
_TIMEOUT_SECONDS = 10


class PanelQuery(NamedTuple):
    """A query and the panel that shows it."""

    panel: str
    expr: str


def panel_queries(dashboard: Mapping[str, Any]) -> Iterator[PanelQuery]:
    """Yield every query of a dashboard, those of collapsed rows included."""
    for panel in dashboard.get("panels", []):
        for target in panel.get("targets", []):
            yield PanelQuery(panel["title"], target["expr"])
        yield from panel_queries(panel)


def fill_in(expr: str, window: str = WINDOW) -> str:
    """Put values in place of Grafana's variables.

    >>> fill_in('rate(x{job=~"$job"}[$__rate_interval])')
    'rate(x{job=~".*"}[1m])'
    """
    for variable in ("$__rate_interval", "$__range", "$__interval", "$window"):
        expr = expr.replace(variable, window)
    return expr.replace("$job", ".*")


def check_queries(prometheus_url: str, dashboard: Mapping[str, Any], window: str = WINDOW) -> list[str]:
    """Run every query of a dashboard.

    Args:
        prometheus_url: Address of a Prometheus that has scraped a worker at least twice within `window`.
        dashboard: The dashboard's JSON.
        window: What Grafana's variables of time are taken to be.

    Returns:
        A line for each query that is refused, or that has no finite value.
    """
    problems = []
    for panel, expr in panel_queries(dashboard):
        if problem := _problem(prometheus_url, fill_in(expr, window)):
            problems.append(f"{panel}: {problem}: {expr}")
    return problems


def check_rules(prometheus_url: str) -> list[str]:
    """Look at every rule that a Prometheus has loaded.

    Returns:
        A line for each rule that was not evaluated, or not without an error; one line where there are no rules.
    """
    groups = _get(prometheus_url, "rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    problems = [
        f"{rule['name']}: {rule.get('lastError') or rule['health']}" for rule in rules if rule["health"] != "ok"
    ]
    return problems if rules else ["no rules are loaded"]


def _problem(prometheus_url: str, expr: str) -> str | None:
    try:
        result = _get(prometheus_url, "query", query=expr)["result"]
    except urllib.error.HTTPError as error:
        return str(json.load(error).get("error", error))
    if not result:
        return "no series"
    if not any(math.isfinite(float(series["value"][1])) for series in result):
        return "no finite value"
    return None


def _get(prometheus_url: str, endpoint: str, **parameters: str) -> Any:
    url = f"{prometheus_url.rstrip('/')}/api/v1/{endpoint}?{urllib.parse.urlencode(parameters)}"
    with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response:
        return json.load(response)["data"]


def main() -> int:
    """Check a Prometheus given on the command line against the dashboard that ships."""
    if len(sys.argv) != 2:
        print("usage: python -m monitoring.query_check http://localhost:9090", file=sys.stderr)
        return 2
    dashboard = json.loads(DASHBOARD_PATH.read_text(encoding="utf-8"))
    try:
        problems = check_queries(sys.argv[1], dashboard) + check_rules(sys.argv[1])
    except (OSError, ValueError) as error:
        print(f"{sys.argv[1]} does not answer as a Prometheus does: {error}", file=sys.stderr)
        return 2
    print("\n".join(problems) or f"all {len(list(panel_queries(dashboard)))} queries have an answer")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
