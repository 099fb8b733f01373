"""Engines: their kinds, polling and metrics."""
