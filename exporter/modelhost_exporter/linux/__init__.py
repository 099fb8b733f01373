"""Readers of /proc and /sys on Linux, with psutil's function names and fields.

psutil's own readers fail on one line that they cannot parse, and some hold the interpreter while they wait for the
kernel (see docs/architecture.md). These read files only, and skip lines that they cannot parse.
"""
