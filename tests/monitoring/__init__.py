"""Alerts, dashboard and metrics, judged by a real Prometheus."""
