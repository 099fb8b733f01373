"""Query times of the dashboards with the data of many hosts, in a real Prometheus."""
