"""How fast the dashboards are on the data of many hosts, asked of a real Prometheus."""
