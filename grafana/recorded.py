"""Recorded series (prometheus/rules/recording.yml): read by panels over many hosts or days instead of raw ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana import queries as q

if TYPE_CHECKING:
    from collections.abc import Callable

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

JOB = 'job=~"$job"'
MODELS = ("server", "model")
BUDGET = "slo_budget:ratio"
"""The share of requests that may miss an objective, of a model of a host or of a job."""


def by_host(series: str, legend: str = "{{instance}}") -> q.Query:
    """Return a query for a series by host."""
    return q.Query(q.select(series), legend)


# If All is selected, $instance is ".+", which matches the name of any job; the name of a host matches no job.
ALL_HOSTS, SOME_HOSTS = 'job=~"$instance"', 'job!~"$instance"'


def by_model(series: str) -> q.Query:
    """Return a query for a series by server and model, the sum over hosts."""
    selected = q.total(_of_hosts(f"model:{series}", q.SERVER), *MODELS)
    return _of_models(_either(selected, q.total(_of_job(series, q.SERVER), *MODELS)))


def quantile_by(series: str, *by: str, quantile: str = "p95", matchers: tuple[str, ...] = (q.SERVER,)) -> str:
    """Return a quantile over 5 minutes: of the slowest selected host, or of all hosts of the job together."""
    selected = q.highest(_of_hosts(f"model:{series}:{quantile}_5m", *matchers), *by)
    buckets = q.total(_of_job(f"{series}_bucket:rate5m", *matchers), *by, "le")
    return _either(selected, f"histogram_quantile(0.{quantile[1:]}, {buckets}) >= 0")


def quantile_by_model(series: str) -> q.Query:
    """Return a query for p95 by server and model."""
    return _of_models(quantile_by(series, *MODELS))


def mean_by_model(series: str) -> q.Query:
    """Return a query for the mean of a histogram by server and model."""
    selected = q.highest(_of_hosts(f"model:{series}:mean_5m", q.SERVER), *MODELS)
    count = q.total(_of_job(f"{series}_bucket:rate5m", q.SERVER, 'le="+Inf"'), *MODELS)
    seconds = q.total(_of_job(f"{series}_sum:rate5m", q.SERVER), *MODELS)
    return _of_models(_either(selected, q.ratio(seconds, f"({count} > 0)")))


def error_ratio_by_model() -> q.Query:
    """Return a query for the share of requests that failed, by server and model."""

    def share(series: str, select: Callable[..., str]) -> str:
        failed, eligible = (
            q.total(select(f"{series}requests_{kind}:rate5m", q.SERVER), *MODELS) for kind in ("failed", "eligible")
        )
        return q.ratio(failed, f"({eligible} > 0)")

    return _of_models(_either(share("model:", _of_hosts), share("", _of_job)))


def _of_models(expr: str) -> q.Query:
    return q.Query(expr, "{{server}} · {{model}}")


def _either(selected: str, everything: str) -> str:
    """Return an expression for the selected hosts, or for all hosts of the job together if All is selected.

    Reading each host for All would be 10,000 series for 500 hosts of 20 models, not 20. One side is always empty.
    """
    return f"{selected} or {everything}"


def _of_hosts(series: str, *matchers: str) -> str:
    return q.select(series, SOME_HOSTS, *(matchers or q.MODEL))


def _of_job(series: str, *matchers: str) -> str:
    return f"job_model:{series}{{{','.join((q.CLUSTER, JOB, ALL_HOSTS, *(matchers or q.MODEL)))}}}"


def heat(series: str) -> q.Query:
    """Return a query for a heatmap from recorded buckets of all hosts of the job together (they have no instance)."""
    matchers = ",".join((q.CLUSTER, JOB, *q.MODEL))
    return q.Query(q.total(f"job_model:{series}_bucket:rate5m{{{matchers}}}", "le"), "{{le}}", form="heatmap")


def attained() -> str:
    """Return the share of requests that met each objective: for the worst of the selected hosts, or for all hosts."""
    missed = "slo_missed:ratio_rate5m"
    selected, together = (q.highest(share, "slo") for share in (_of_hosts(f"model:{missed}"), _of_job(missed)))
    return f"1 - ({_either(selected, together)})"


def target() -> str:
    """Return the target of each objective: the highest of the selected hosts, or of all hosts."""
    selected, together = (q.over("min", budget, "slo") for budget in (_of_hosts(f"model:{BUDGET}"), _of_job(BUDGET)))
    return f"1 - ({_either(selected, together)})"


def burn(window: str) -> str:
    """Return how many times faster than allowed the error budget of an objective burns: 1 uses it up exactly."""
    missed = f"slo_missed:ratio_rate{window}"
    selected = q.ratio(_of_hosts(f"model:{missed}"), _of_hosts(f"model:{BUDGET}"))
    together = q.ratio(_of_job(missed), _of_job(BUDGET))
    return _either(q.highest(selected, "slo"), q.highest(together, "slo"))
