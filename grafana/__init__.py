"""Grafana's dashboards as code; development only, the package that people install does not have it."""
