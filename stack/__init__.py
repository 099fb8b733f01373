"""The stack without Docker: exporter, Prometheus, Alertmanager and Grafana, with the programs of this machine."""
