"""Grafana dashboards as code. Used in development; not part of the installed package."""
