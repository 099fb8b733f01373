"""Soak test: the exporter under load and faults for a long time, checked for growth, stalls and late responses."""
