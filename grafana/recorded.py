"""Recorded series (prometheus/rules/recording.yml): what panels over many hosts or days read instead of raw ones."""

from __future__ import annotations

from grafana import queries as q

CPU = "instance:cpu_usage:ratio_rate5m"
LOAD = "instance:load1_per_core:ratio"
MEMORY = "instance:memory_usage:ratio"
RECEIVED = "instance:network_receive_bytes:rate5m"
SENT = "instance:network_transmit_bytes:rate5m"
FULLEST = "instance:filesystem_usage:max_ratio"
BUSIEST_DISK = "instance:disk_busy:max_ratio_rate5m"
GPU = "instance:gpu_utilization:avg_ratio_rate5m"
GPU_MEMORY = "instance:gpu_memory_usage:ratio"
GPU_POWER = "instance:gpu_power_watts:sum_mean_5m"
GPU_TEMPERATURE = "instance:gpu_temperature_celsius:max"
REQUESTS = "instance:requests:rate5m"
ERRORS = "instance:request_errors:ratio_rate5m"
P95 = "instance:request_duration_seconds:p95_5m"
OUTPUT = "instance:output_tokens:rate5m"
IN_FLIGHT = "instance:requests_in_flight:sum"

MODELS = ("server", "model")
DRAWN = 20
"""Models or hosts that one panel draws: the highest at each moment."""


def by_host(series: str, legend: str = "{{instance}}") -> q.Query:
    """Ask for a series by host: the highest few."""
    return q.Query(q.top(DRAWN, q.select(series)), legend)


def by_model(series: str, *, operator: str = "sum") -> q.Query:
    """Ask for a series by server and model, over the chosen hosts: the highest few."""
    return q.Query(q.top(DRAWN, q.over(operator, q.select(series, *q.MODEL), *MODELS)), "{{server}} · {{model}}")


def error_ratio_by_model() -> q.Query:
    """Ask for the share of requests that failed, by server and model."""
    failed, judged = (
        q.total(q.select(f"model:requests_{what}:rate5m", *q.MODEL), *MODELS) for what in ("failed", "judged")
    )
    return q.Query(q.top(DRAWN, q.ratio(failed, f"({judged} > 0)")), "{{server}} · {{model}}")


def heat(series: str) -> q.Query:
    """Ask for a heatmap from recorded buckets of all hosts together (they have no instance)."""
    matchers = ",".join(('job=~"$job"', *q.MODEL))
    return q.Query(q.total(f"job_model:{series}_bucket:rate5m{{{matchers}}}", "le"), "{{le}}", form="heatmap")


def attained(window: str = "5m") -> str:
    """Return the share of requests that met an objective, by server, model and objective."""
    return f"1 - {_missed(window)}"


def burn(window: str) -> str:
    """Return how many times faster than allowed the error budget of an objective burns: 1 uses it up exactly."""
    objective = q.over("max", q.select("modelhost_slo_objective_ratio", *q.MODEL), *MODELS, "slo")
    return q.ratio(_missed(window), f"(1 - {objective})")


def _missed(window: str) -> str:
    return q.highest(q.select(f"model:slo_missed:ratio_rate{window}", *q.MODEL), *MODELS, "slo")
