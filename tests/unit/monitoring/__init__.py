"""Metrics, dashboards and alerts: what the files promise."""
