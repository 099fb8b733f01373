"""GPUs: the sources of each vendor, and what they have in common."""
