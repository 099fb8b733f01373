"""Build the PromQL of every panel, variable and annotation.

Selectors match ``cluster``, ``job`` and ``instance``, and rates use ``$__rate_interval``, unless the call passes
something else. Hosts of one name in two clusters are two hosts: what is grouped or joined by ``instance`` is also by
``cluster``, a label of the target that most series do not have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from grafana import style
from modelhost_exporter.collectors import cpu

RATE = "$__rate_interval"
RANGE = "$__range"
"""The time range of the dashboard, for totals and distributions; tests/grafana/exceptions.py lists each use."""
CLUSTER = 'cluster=~"$cluster"'
SCOPE = (CLUSTER, 'job=~"$job"', 'instance=~"$instance"')

API = 'operation!="other"'
"""Matches requests to models, not polls of /health or lists of models."""
SERVER = 'server=~"$server"'
ONE_MODEL = "model=`${model:raw}`"
"""Matches the one selected model, whatever its name contains: Grafana escapes nothing, and PromQL nothing in ``."""
MODEL = (SERVER, ONE_MODEL)
OK = 'outcome="ok"'
ERRORS = 'outcome=~"server_error|timeout|upstream_unreachable|stream_error|proxy_error"'
COUNTED = 'outcome!~"client_error|client_disconnect"'
"""Matches requests that count towards the error rate."""


@dataclass(frozen=True)
class Query:
    """A query of a panel: PromQL, legend format (``{{label}}``), instant or range, and result format."""

    expr: str
    legend: str = ""
    instant: bool = False
    form: str = "time_series"


def now(expr: str, legend: str = "") -> Query:
    """Return an instant query: the current value only."""
    return Query(expr, legend, instant=True)


def select(metric: str, *matchers: str) -> str:
    """Return a selector of a metric on the selected hosts."""
    return f"{metric}{{{','.join((*SCOPE, *matchers))}}}"


def earlier(ago: str, metric: str, *matchers: str) -> str:
    """Return a selector of a metric as it was some time ago, such as 15s."""
    return f"{select(metric, *matchers)} offset {ago}"


def rate(counter: str, *matchers: str) -> str:
    """Return a counter's increase per second."""
    return f"rate({select(counter, *matchers)}[{RATE}])"


def increase(counter: str, *matchers: str, window: str = RATE) -> str:
    """Return a counter's increase within a window."""
    return f"increase({select(counter, *matchers)}[{window}])"


def over(operator: str, expr: str, *by: str) -> str:
    """Aggregate, keeping the labels named."""
    return f"{operator} by ({labels(*by)}) ({expr})" if by else f"{operator}({expr})"


def labels(*names: str) -> str:
    """Return a list of labels to group by or to join on: with ``instance`` also ``cluster``."""
    return ", ".join(("cluster", *names) if "instance" in names else names)


def total(expr: str, *by: str) -> str:
    """Add up, keeping the labels named."""
    return over("sum", expr, *by)


def highest(expr: str, *by: str) -> str:
    """Return the highest, keeping the labels named."""
    return over("max", expr, *by)


def labelled(expr: str, info: str, *keys: str) -> str:
    """Give values the labels of the series that describes what they are of; both are aggregated to these labels."""
    return f"{expr} * on ({labels(*keys)}) group_right () {info}"


def labelled_where_known(expr: str, info: str, *keys: str) -> str:
    """Give values the labels of the series that describes what they are of, and keep those without such a series."""
    return f"{labelled(expr, info, *keys)} or on ({labels(*keys)}) {expr}"


def ratio(part: str, whole: str) -> str:
    """Divide; both are aggregated to the same labels."""
    return f"{part} / {whole}"


Rank = Literal["highest", "lowest", "latest"]
"""Which series come first: of the highest or lowest value in the time range, or those that were there latest."""
_RANKS = {"highest": ("topk", "max", ""), "lowest": ("bottomk", "min", ""), "latest": ("topk", "max", " + time()")}


def top(number: int, expr: str, rank: Rank = "highest") -> str:
    """Return the first ``number`` of series, over all of the time range.

    ``topk`` alone picks anew at each moment, and so draws more lines than that. Of the latest series, the highest
    values come first.
    """
    pick, extreme, more = _RANKS[rank]
    ranked = f"(({expr}){more})" if more else f"({expr})"
    return f"({expr}) and {pick}({number}, {extreme}_over_time({ranked}[$__range:$__interval] @ end()))"


def share(expr: str) -> str:
    """Limit a share to 0 to 1: a counter of seconds is not read at the same instant as the clock."""
    return f"clamp({expr}, 0, 1)"


def or_zero(expr: str, known: str = "") -> str:
    """Return the expression, or 0 where it has no result, if there is a result of ``known``: of any host by default.

    A 0 of nothing would be green in an outage, and where nothing is scraped.
    """
    return f"({expr}) or 0 * count({known or select('modelhost_build_info')})"


def quantile(share: float, histogram: str, *matchers: str, by: tuple[str, ...] = ()) -> str:
    """Return a quantile of the values observed in the rate's window.

    Of several series those without values, which are NaN, are left out: they would come first in the legend.
    """
    found = f"histogram_quantile({share}, {total(rate(f'{histogram}_bucket', *matchers), *by, 'le')})"
    return f"{found} >= 0" if by else found


def mean(histogram: str, *matchers: str, by: tuple[str, ...] = ()) -> str:
    """Return the mean of the values observed in the rate's window; of several series as a quantile."""
    count = total(rate(f"{histogram}_count", *matchers), *by)
    return ratio(total(rate(f"{histogram}_sum", *matchers), *by), f"({count} > 0)" if by else count)


def buckets(histogram: str, *matchers: str) -> Query:
    """Return a heatmap query: observations per second by bucket."""
    return Query(total(rate(f"{histogram}_bucket", *matchers), "le"), "{{le}}", form="heatmap")


def quantiles(histogram: str, *matchers: str) -> tuple[Query, ...]:
    """Return queries for p50, p95, p99 and the mean of a histogram."""
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


NO_WORK = f'mode=~"{"|".join(cpu.NO_WORK)}"'


def cpu_busy() -> str:
    """Return the share of CPU time with work, by host: neither idle, waiting for a disk nor stolen."""
    busy, seconds = (total(rate(f"modelhost_host_cpu_{what}seconds_total"), "instance") for what in ("busy_", ""))
    return share(ratio(busy, seconds))


def core_busy() -> str:
    """Return the share of time with work of each core."""
    return share(f"1 - {total(rate('modelhost_cpu_seconds_total', NO_WORK), 'instance', 'cpu')}")


def memory_used_ratio() -> str:
    """Return the share of memory in use, by host."""
    available = ratio(select("modelhost_host_memory_available_bytes"), select("modelhost_host_memory_total_bytes"))
    return f"1 - {available}"


def gpu_busy(*matchers: str, by: tuple[str, ...] = ("instance",)) -> str:
    """Return the share of time in which kernels ran, the mean of the GPUs.

    From the driver's own samples where it has a buffer of them, else from the value at each scrape.
    """
    sampled = share(over("avg", rate("modelhost_gpu_busy_seconds_total", *matchers), *by))
    return f"{sampled} or {over('avg', select('modelhost_gpu_utilization_ratio', *matchers), *by)}"


def gpu_memory_ratio(*matchers: str, by: tuple[str, ...] = ("instance",)) -> str:
    """Return the share of the GPUs' memory in use."""
    return ratio(
        total(select("modelhost_gpu_memory_used_bytes", *matchers), *by),
        total(select("modelhost_gpu_memory_total_bytes", *matchers), *by),
    )


def limited_to_exporter(expr: str, *on: str) -> str:
    """Limit series such as ``up`` and alerts to jobs that exported modelhost_build_info within the last day.

    They exist for all targets, and the variable ``job`` may select all jobs. ``on`` are the labels to join on: cluster
    and job keep a host that is down, and a job all of whose hosts are. Beyond an hour one look in 15 minutes suffices.
    """
    info = select("modelhost_build_info")
    known = f"(last_over_time({info}[1h]) or max_over_time({info}[1d:15m]))"
    return f"{expr} and on ({labels(*(on or ('cluster', 'job')))}) {known}"


def up() -> str:
    """Return 1 for each exporter whose last scrape succeeded, 0 for each whose scrape failed.

    As ExporterDown does, it also counts jobs with modelhost in their name, whose exporters may all be down for days.
    """
    named = select("up", 'job=~".*modelhost.*"')
    return f"({limited_to_exporter(select('up'))} or {named})"


def live() -> str:
    """Return 1 for each host that is up, and 0 for each that is down, or whose target went within the last day."""
    return f"({highest(up(), 'instance')} or 0 * {_last_seen()})"


def hosts_down() -> str:
    """Return the number of hosts that are not live."""
    return or_zero(over("count", f"{live()} == 0"), live())


def age() -> str:
    """Return the seconds since the last scrape that succeeded, by host, if that is less than a day."""
    scraped = f"timestamp({select('modelhost_time_seconds')})"
    return f"clamp_min(time() - ({highest(scraped, 'instance')} or {_last_seen()}), 0)"


def _last_seen() -> str:
    """Return the time of each host's clock at its last scrape within a day; for instant queries, since it is slow."""
    return highest(f"last_over_time({select('modelhost_time_seconds')}[1d])", "instance")


def own(metric: str) -> str:
    """Return a metric that all targets have, limited to this exporter."""
    return limited_to_exporter(select(metric), "job", "instance")


def chosen(expr: str) -> str:
    """Give each series its cluster in a label for links, or All where it has none.

    Of a label that a series does not have Grafana 9 leaves the macro in the link, and the dashboard would be empty.
    """
    everywhere = f'label_replace({expr}, "{style.CHOSEN_CLUSTER}", "All", "", "")'
    return f'label_replace({everywhere}, "{style.CHOSEN_CLUSTER}", "$1", "cluster", "(.+)")'


def firing(*matchers: str) -> str:
    """Return 1 for each alert that fires."""
    return limited_to_exporter(select("ALERTS", 'alertstate="firing"', *matchers))


def alerts_firing(*by: str) -> str:
    """Return the number of firing alerts."""
    return over("count", firing(), *by)


def alerts_since() -> str:
    """Return the time (seconds since 1970) since when the condition of each firing alert has been true."""
    by = ("alertname", "severity", "instance")
    since = highest(limited_to_exporter(select("ALERTS_FOR_STATE")), *by)
    return f"({since} and {highest(firing(), *by)})"


def models_by_traffic(*matchers: str) -> str:
    """Return a variable's query: the models of the time range, the busiest first, "other" and "unknown" last."""

    def counted(function: str, kind: str) -> str:
        return total(f"{function}({select('modelhost_requests_total', kind, *matchers)}[{RANGE}])", "model")

    named, rest = (f'model{operator}"other|unknown"' for operator in ("!~", "=~"))
    busiest = f"{counted('increase', named)} or 0 * {counted('last_over_time', named)}"
    return f"query_result(sort_desc({busiest} or 0 * {counted('last_over_time', rest)} - 1))"


def values_of(label: str, metric: str, *matchers: str) -> str:
    """Return a variable's query: the values that a label has."""
    return f"label_values({select(metric, *matchers)}, {label})"
