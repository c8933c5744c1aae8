"""The dashboard: variables, the row of three numbers, and the rows below it."""

import json
from pathlib import Path

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

from monitoring.dashboards import learning, serving
from monitoring.dashboards.panels import SOURCE

DASHBOARD_PATH = Path(__file__).parent / "millstream.json"


def build() -> models.Dashboard:
    """Return the dashboard."""
    board = (
        dashboard.Dashboard("millstream")
        .uid("millstream")
        .description("A recommender that learns while it serves: traffic, latency, quality, learning, health.")
        .tags(["millstream", "recommender"])
        .time("now-1h", "now")
        .refresh("10s")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(_job_variable())
        .with_variable(_window_variable())
    )
    for panel in serving.headline():
        board = board.with_panel(panel)
    rows = {
        "Traffic": serving.traffic(),
        "Latency": serving.latency(),
        "Quality by arm": learning.quality(),
        "Learning": learning.learning(),
        "Health": serving.health(),
    }
    for title, panels in rows.items():
        board = board.with_row(dashboard.Row(title))
        for panel in panels:
            board = board.with_panel(panel)
    built = board.build()
    for number, placed in enumerate(built.panels or [], start=1):
        placed.id_val = number  # fixed, so that links to one panel last
    return built


def render() -> str:
    """Return the dashboard as the JSON that Grafana is provisioned with."""
    return json.dumps(build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def _job_variable() -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable("job")
        .label("Job")
        .datasource(SOURCE)
        .query("label_values(millstream_ready, job)")
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(models.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def _window_variable() -> dashboard.IntervalVariable:
    return (
        dashboard.IntervalVariable("window")
        .label("Quality over")
        .description("Hits are few: shares of them need a longer window than rates do.")
        .values("5m,15m,30m,1h,6h,1d")
        .current(models.VariableOption(selected=True, text="15m", value="15m"))
    )
