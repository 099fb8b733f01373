"""What Linux reports about the machine in /proc and /sys, in the shape of psutil's functions.

psutil's own readers lose everything to one odd line, and some call into the kernel without releasing the interpreter
(see docs/architecture.md). These read files only, and leave out what cannot be parsed.
"""
