"""modelhost-exporter: Prometheus metrics for machines that serve models."""

__version__ = "0.1.0"
