"""A simulated machine behind the real collectors: eight GPUs, several models, a day's traffic, incidents.

Nothing else in the exporter needs this package; only the command line imports it, and only for ``--demo``.
"""
