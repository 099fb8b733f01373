"""Metric families, instruments and the exposition formats."""
