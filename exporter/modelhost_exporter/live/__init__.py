"""The live feed: what the machine and its models do right now, with the last hour behind it, for the page and others.

Everything is computed from the families that /metrics shows, by one sampler for all viewers.
"""
