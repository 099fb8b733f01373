"""Render dashboards as pictures, without Grafana."""
