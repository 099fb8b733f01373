"""The whole stack without Docker: exporter, Prometheus, Alertmanager and Grafana from the programs on this machine."""
