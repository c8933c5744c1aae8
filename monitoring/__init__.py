"""What can be watched: metrics, dashboards and alerts."""
