"""Finished requests: observations, metrics and service level objectives."""
