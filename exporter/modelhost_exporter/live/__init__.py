"""The live feed: the current state of the machine and its models with the last hour, for the live page and others.

``broadcaster`` measures in one loop for all subscribers, from the families of /metrics and the totals of requests;
``message`` defines what is sent.
"""
