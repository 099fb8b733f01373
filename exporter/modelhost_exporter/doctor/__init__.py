"""``modelhost-exporter doctor``: check once what the exporter would measure here, and say what is missing and why.

It reads the same flags and file as the exporter, and starts nothing that stays: each collector runs, each server is
polled once, each address is tried and released.
"""
