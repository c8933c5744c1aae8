"""The Grafana dashboard as code; `python -m monitoring.dashboards` writes `millstream.json` beside this file."""
