"""Write the dashboard to the file that Grafana is provisioned with."""

from monitoring.dashboards.board import DASHBOARD_PATH, render

if __name__ == "__main__":
    DASHBOARD_PATH.write_text(render(), encoding="utf-8")
