"""PromQL from one place: every panel, variable and annotation asks through these functions.

Each selector carries ``job`` and ``instance``, each rate ``$__rate_interval``; what differs says so where it is called.
"""

from __future__ import annotations

from dataclasses import dataclass

RATE = "$__rate_interval"
RANGE = "$__range"
"""The whole time range of the dashboard: for totals and distributions, each named in tests/grafana/exceptions.py."""
SCOPE = ('job=~"$job"', 'instance=~"$instance"')

API = 'operation!="other"'
"""Requests to a model: polls of /health and lists of models would flatter the rates."""
MODEL = ('server=~"$server"', 'model=~"$model"')
OK = 'outcome="ok"'
ERRORS = 'outcome=~"server_error|timeout|upstream_unreachable|stream_error|proxy_error"'
COUNTED = 'outcome!~"client_error|client_disconnect"'
"""Requests that count for or against the server."""


@dataclass(frozen=True)
class Query:
    """One query of a panel: PromQL, what its legend says (``{{label}}``), and whether only the last value is asked."""

    expr: str
    legend: str = ""
    instant: bool = False
    form: str = "time_series"


def now(expr: str, legend: str = "") -> Query:
    """Ask for the value now, not for its course."""
    return Query(expr, legend, instant=True)


def select(metric: str, *matchers: str) -> str:
    """Return the series of a metric on the chosen hosts."""
    return f"{metric}{{{','.join((*SCOPE, *matchers))}}}"


def rate(counter: str, *matchers: str) -> str:
    """Return a counter's increase per second."""
    return f"rate({select(counter, *matchers)}[{RATE}])"


def increase(counter: str, *matchers: str, window: str = RATE) -> str:
    """Return a counter's increase within a window."""
    return f"increase({select(counter, *matchers)}[{window}])"


def over(operator: str, expr: str, *by: str) -> str:
    """Aggregate, keeping the labels named."""
    return f"{operator} by ({', '.join(by)}) ({expr})" if by else f"{operator}({expr})"


def total(expr: str, *by: str) -> str:
    """Add up, keeping the labels named."""
    return over("sum", expr, *by)


def highest(expr: str, *by: str) -> str:
    """Return the highest, keeping the labels named."""
    return over("max", expr, *by)


def ratio(part: str, whole: str) -> str:
    """Divide; both are aggregated to the same labels."""
    return f"{part} / {whole}"


def top(number: int, expr: str) -> str:
    """Return the highest few: what a person can read and a browser can draw."""
    return f"topk({number}, {expr})"


def or_zero(expr: str) -> str:
    """Return 0 where there is nothing to count."""
    return f"({expr}) or vector(0)"


def quantile(share: float, histogram: str, *matchers: str, by: tuple[str, ...] = ()) -> str:
    """Estimate a quantile of what was observed in the rate's window."""
    return f"histogram_quantile({share}, {total(rate(f'{histogram}_bucket', *matchers), *by, 'le')})"


def mean(histogram: str, *matchers: str, by: tuple[str, ...] = ()) -> str:
    """Return the mean of what was observed in the rate's window."""
    return ratio(
        total(rate(f"{histogram}_sum", *matchers), *by),
        total(rate(f"{histogram}_count", *matchers), *by),
    )


def buckets(histogram: str, *matchers: str) -> Query:
    """Ask for a heatmap: observations per second by bucket."""
    return Query(total(rate(f"{histogram}_bucket", *matchers), "le"), "{{le}}", form="heatmap")


def quantiles(histogram: str, *matchers: str) -> tuple[Query, ...]:
    """Ask for p50, p95, p99 and the mean of a histogram."""
    return (
        *(Query(quantile(share, histogram, *matchers), f"p{share * 100:.0f}") for share in (0.5, 0.95, 0.99)),
        Query(mean(histogram, *matchers), "mean"),
    )


def request_rate(*matchers: str, by: tuple[str, ...] = ()) -> str:
    """Return requests to models per second."""
    return total(rate("modelhost_requests_total", API, *matchers), *by)


def error_ratio(*matchers: str, by: tuple[str, ...] = ()) -> str:
    """Return the share of requests that failed for a reason on the server's side; 0 where none did."""
    counted = request_rate(COUNTED, *matchers, by=by)
    return ratio(f"({request_rate(ERRORS, *matchers, by=by)} or 0 * {counted})", counted)


def success_ratio(*matchers: str) -> str:
    """Return the share of requests that succeeded."""
    return f"1 - {error_ratio(*matchers)}"


IDLE = 'mode=~"idle|iowait"'


def cpu_busy() -> str:
    """Return the share of CPU time with work, by host: neither idle nor waiting for a disk."""
    idle = total(rate("modelhost_cpu_seconds_total", IDLE), "instance")
    return f"1 - {ratio(idle, total(select('modelhost_cpu_logical_cores'), 'instance'))}"


def core_busy() -> str:
    """Return the share of time with work of each core."""
    return f"1 - {total(rate('modelhost_cpu_seconds_total', IDLE), 'instance', 'cpu')}"


def memory_used_ratio() -> str:
    """Return the share of memory in use, by host."""
    return ratio(select("modelhost_memory_used_bytes"), select("modelhost_memory_total_bytes"))


def gpu_busy(*matchers: str, by: tuple[str, ...] = ("instance",)) -> str:
    """Return the share of time in which kernels ran, the mean of the GPUs.

    From the driver's own samples where it has a buffer of them, else from the value at each scrape.
    """
    sampled = over("avg", rate("modelhost_gpu_busy_seconds_total", *matchers), *by)
    return f"{sampled} or {over('avg', select('modelhost_gpu_utilization_ratio', *matchers), *by)}"


def gpu_memory_ratio(*matchers: str, by: tuple[str, ...] = ("instance",)) -> str:
    """Return the share of the GPUs' memory in use."""
    return ratio(
        total(select("modelhost_gpu_memory_used_bytes", *matchers), *by),
        total(select("modelhost_gpu_memory_total_bytes", *matchers), *by),
    )


def ours(expr: str, *on: str) -> str:
    """Keep what belongs to jobs that have been this exporter within the hour.

    Other targets have ``up``, alerts and process metrics too, and All jobs means all of them. ``on`` are the labels to
    go by: the job alone keeps a host that is down.
    """
    return f"{expr} and on ({', '.join(on or ('job',))}) last_over_time({select('modelhost_build_info')}[1h])"


def up() -> str:
    """Return 1 for each exporter that answered the last scrape, 0 for each that did not."""
    return ours(select("up"))


def own(metric: str) -> str:
    """Return a metric that every exporter of whatever kind has, of this one alone."""
    return ours(select(metric), "job", "instance")


def alerts_firing(*by: str) -> str:
    """Return how many alerts fire."""
    return over("count", ours(select("ALERTS", 'alertstate="firing"')), *by)


def values_of(label: str, metric: str, *matchers: str) -> str:
    """Return a variable's query: the values that a label has."""
    return f"label_values({select(metric, *matchers)}, {label})"
