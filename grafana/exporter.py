"""The Exporter dashboard: health and resource usage of the exporter itself."""

from __future__ import annotations

from grafana import queries as q
from grafana import style as s
from grafana.board import Board, row
from grafana.panels import SMOOTH, Column, graph, heat, listing, per_request, states
from grafana.queries import Query, now

HOST = "{{instance}}"
BY_COLLECTOR = ("instance", "collector")
NO_PROXY = "No proxied server"


def board() -> Board:
    """Return the dashboard."""
    return Board(
        "modelhost-exporter",
        "Model host / Exporter",
        "Health and resource usage of the exporter itself.",
        (
            row("Now", at_a_glance()),
            row("Scrapes", scrape(), samples(), collectors(), collector_states()),
            row("Cost", cpu(), memory(), files()),
            row("Proxy", overhead(), lag(), parse_errors()),
            row("Proxy overhead as a heatmap", overhead_heat().span(24), collapsed=True),
            row(
                "Limits and garbage collection",
                closed(),
                shortages(),
                dropped_messages(),
                collections(),
                collapsed=True,
            ),
        ),
    )


def line(metric: str, legend: str = HOST) -> Query:
    """Return a query for a gauge by host."""
    return Query(q.highest(q.select(metric), "instance"), legend)


def at_a_glance() -> s.Builder:
    """Show how each exporter is."""
    cost = q.limited_to_exporter(q.rate("process_cpu_seconds_total"), "job", "instance")
    since = f"time() - {q.highest(q.own('process_start_time_seconds'), 'instance')}"
    configured = f"time() - {line('modelhost_config_last_reload_success_timestamp_seconds').expr}"
    return (
        listing(
            "Exporters",
            "A row per exporter, those that are down first. Failing: collectors that failed or missed their deadline, "
            "without those that have nothing to measure. CPU: in cores. Reloaded: whether the last reload of the "
            "configuration succeeded; otherwise the log contains the reason. Good: one version, all green.",
            Column("State", s.COUNT, now(_up()), texts={0: ("down", s.RED), 1: ("up", s.GREEN)}),
            Column("Failing", s.COUNT, now(_failing()), s.ANY_IS_BAD),
            Column("Scrape", s.SECONDS, now(q.highest(q.own("scrape_duration_seconds"), "instance"))),
            Column("Samples", s.COUNT, now(q.highest(q.own("scrape_samples_scraped"), "instance"))),
            Column("CPU", s.COUNT, now(q.total(cost, "instance"))),
            Column("Memory", s.BYTES, now(q.highest(q.own("process_resident_memory_bytes"), "instance"))),
            Column("Files", s.RATIO, now(_files()), s.FULL, full=1),
            Column("Reloaded", s.YES_NO, now(line("modelhost_config_last_reload_successful").expr), s.ALL_IS_WELL),
            Column("Config age", "dtdurations", now(configured), least=105),
            Column("Uptime", "dtdurations", now(since), least=105),
            labels=("instance", "version", "python"),
            first="State",
            lowest=True,
        )
        .interval(SMOOTH)
        .height(4)
    )


def _up() -> str:
    """Return whether each exporter is up, with its version, which one that is down does not have."""
    info = q.total(q.select("modelhost_build_info"), "instance", "version", "python")
    return q.labelled_where_known(q.live(), info, "instance")


def _failing() -> str:
    """Return the number of collectors that fail."""
    success = q.select("modelhost_scrape_collector_success")
    idle = f"{q.select('modelhost_scrape_collector_available')} == 0"
    broken = q.over("count", f"({success} == 0) unless ({idle})", "instance")
    return f"{broken} or 0 * {q.total(success, 'instance')}"


def _files() -> str:
    """Return open files as a share of the limit."""
    share = q.ratio(q.select("process_open_fds"), q.select("process_max_fds"))
    return q.highest(q.limited_to_exporter(share, "job", "instance"), "instance")


def scrape() -> s.Builder:
    """Draw how long scrapes take."""
    return graph(
        "Scrape duration",
        "Duration of scrapes, and the deadline of the collectors. Good: below 0.1 s, and well below the deadline.",
        Query(q.highest(q.own("scrape_duration_seconds"), "instance"), HOST),
        line("modelhost_scrape_timeout_seconds", "deadline {{instance}}"),
        unit=s.SECONDS,
    )


def samples() -> s.Builder:
    """Draw the number of samples per scrape."""
    return graph(
        "Samples per scrape",
        "Samples in each scrape. Good: steady; growth means unbounded labels.",
        Query(q.highest(q.own("scrape_samples_scraped"), "instance"), HOST),
        unit=s.COUNT,
    )


def collectors() -> s.Builder:
    """Draw how long collectors take."""
    took = q.highest(q.select("modelhost_scrape_collector_duration_seconds"), *BY_COLLECTOR)
    return graph(
        "Collector duration",
        "Duration of each collector. Good: milliseconds.",
        Query(took, "{{instance}} {{collector}}"),
        unit=s.SECONDS,
    )


def collector_states() -> s.Builder:
    """Draw which collectors work."""
    worked = q.over("min", q.select("modelhost_scrape_collector_success"), "collector")
    there = q.highest(q.select("modelhost_scrape_collector_available"), "collector")
    return states(
        "Collectors",
        "Whether each collector works on all selected hosts. Good: yes, or nothing to measure.",
        Query(f"{worked} + ({there} == 0) * 2 or {worked}", "{{collector}}"),
        texts={0: ("failing", s.RED), 1: ("yes", s.GREEN), 2: ("nothing to measure", s.GREY)},
    ).span(24)


def cpu() -> s.Builder:
    """Draw the exporter's CPU time."""
    return graph(
        "CPU",
        "CPU time of the exporter, in cores. Good: below 0.01 without traffic.",
        Query(q.total(q.limited_to_exporter(q.rate("process_cpu_seconds_total"), "job", "instance"), "instance"), HOST),
        unit=s.COUNT,
    ).axis_soft_max(0.1)


def memory() -> s.Builder:
    """Draw the exporter's memory."""
    return graph(
        "Memory",
        "Resident memory. Good: about 50 MB, and steady.",
        Query(q.highest(q.own("process_resident_memory_bytes"), "instance"), HOST),
        unit=s.BYTES,
    )


def files() -> s.Builder:
    """Draw open files."""
    return graph(
        "Open files",
        "Open files as a share of the limit; the proxy uses two per request. Good: below 50 %.",
        Query(_files(), HOST),
        unit=s.RATIO,
    )


def collections() -> s.Builder:
    """Draw Python's garbage collection."""
    return graph(
        "Garbage collections",
        "Runs of Python's collector per second, by generation. Good: few of the oldest.",
        Query(q.total(q.rate("python_gc_collections_total"), "instance", "generation"), "{{instance}} {{generation}}"),
        unit=s.OPERATIONS,
    ).span(6)


def closed() -> s.Builder:
    """Draw how many connections were closed for a limit."""
    return graph(
        "Connections closed for a limit",
        "Connections refused or closed, by port and reason. Good: idle_timeout only; other reasons mean slow "
        "clients or too many connections.",
        *(
            Query(q.total(q.rate(f"modelhost_{port}_connections_closed_total"), "reason"), f"{port} {{{{reason}}}}")
            for port in ("web", "proxy")
        ),
        unit=s.OPERATIONS,
        empty="None yet",
    ).span(6)


def shortages() -> s.Builder:
    """Draw how often file descriptors were short."""
    short = q.total(q.rate("modelhost_process_descriptor_shortages_total"), "instance", "operation")
    return graph(
        "Shortages of file descriptors",
        "Shortages per second, by operation: accept for client connections, connect for connections to model "
        "servers. Good: 0; otherwise raise the limit.",
        Query(short, "{{instance}} {{operation}}"),
        unit=s.OPERATIONS,
        empty="None yet",
    ).span(6)


def dropped_messages() -> s.Builder:
    """Draw how many log messages were dropped."""
    return graph(
        "Log messages dropped",
        "Messages that could not be written to standard error in time. Good: 0.",
        Query(q.total(q.rate("modelhost_log_messages_dropped_total"), "instance"), HOST),
        unit=s.OPERATIONS,
    ).span(6)


def overhead() -> s.Builder:
    """Draw the overhead of the proxy."""
    name = "modelhost_proxy_overhead_seconds"
    return per_request(
        "Proxy overhead",
        "Time added by the proxy. Leg request: until the request is forwarded. Leg response: the longest time that "
        "a chunk of the response stayed in the proxy, including slow clients. Good: p95 below 5 ms.",
        *(
            Query(q.quantile(share, name, by=("leg",)), f"p{share * 100:.0f} {{{{leg}}}}")
            for share in (0.5, 0.95, 0.99)
        ),
        empty=NO_PROXY,
    )


def overhead_heat() -> s.Builder:
    """Draw the proxy's overhead as a heatmap."""
    return heat(
        "Proxy overhead, heatmap",
        "Distribution of the time until requests are forwarded. Good: all at the bottom.",
        q.buckets("modelhost_proxy_overhead_seconds", 'leg="request"'),
        unit=s.SECONDS,
        empty=NO_PROXY,
    )


def lag() -> s.Builder:
    """Draw the event loop's lag."""
    return per_request(
        "Event loop lag",
        "Lag of the event loop. Good: p99 below 10 ms; more means too little CPU.",
        *q.quantiles("modelhost_proxy_event_loop_lag_seconds"),
        empty=NO_PROXY,
    )


def parse_errors() -> s.Builder:
    """Draw responses that could not be parsed."""
    failed = q.total(q.rate("modelhost_proxy_parse_errors_total"), "server", "api", "reason")
    return graph(
        "Response parse errors",
        "Responses that could not be parsed, by dialect and reason; they were forwarded unchanged. Good: 0.",
        Query(failed, "{{server}} {{api}} {{reason}}"),
        unit=s.REQUESTS,
        empty="None yet",
    )
