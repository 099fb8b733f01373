"""The Exporter dashboard: health and resource usage of the exporter itself."""

from __future__ import annotations

from grafana import queries as q
from grafana import style as s
from grafana.board import Board, row
from grafana.panels import MINUTE, Column, graph, heat, listing, number, per_request, states
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
            row("Now", up(), age(), failing(), lag_now(), reload(), version()),
            row("Scrapes", scrape(), samples(), collectors(), collector_states()),
            row("Cost", cpu(), memory(), files(), collections()),
            row("Limits", closed(), shortages(), dropped_messages()),
            row("Proxy", overhead(), overhead_heat(), lag(), parse_errors()),
        ),
    )


def line(metric: str, legend: str = HOST) -> Query:
    """Return a query for a gauge by host."""
    return Query(q.highest(q.select(metric), "instance"), legend)


def up() -> s.Builder:
    """Show whether exporters are up."""
    return number(
        "Up",
        "Share of the exporters whose last scrape succeeded. Good: all.",
        now(q.over("avg", q.up())),
        unit=s.RATIO,
        steps=s.ALL_IS_WELL,
    )


def age() -> s.Builder:
    """Show how long exporters have been running."""
    return number(
        "Uptime",
        "Time since the last start of an exporter. Good: since you started it; otherwise something restarts it.",
        now(q.over("min", f"time() - {q.own('process_start_time_seconds')}")),
        unit="dtdurations",
    ).span(4)


def failing() -> s.Builder:
    """Show the number of failing collectors."""
    failed = f"{q.select('modelhost_scrape_collector_success')} == 0"
    broken = q.over("count", f"({failed}) unless ({q.select('modelhost_scrape_collector_available')} == 0)")
    return number(
        "Collectors failing",
        "Collectors that failed or missed their deadline, without those that have nothing to measure. Good: 0.",
        now(q.or_zero(broken)),
        unit=s.COUNT,
        steps=s.ANY_IS_BAD,
    ).span(4)


def lag_now() -> s.Builder:
    """Show the event loop's lag."""
    return (
        number(
            "Event loop lag p99",
            "Lag of the event loop, which delays everything that the proxy forwards. Good: below 10 ms.",
            now(q.quantile(0.99, "modelhost_proxy_event_loop_lag_seconds")),
            unit=s.SECONDS,
            empty=NO_PROXY,
            steps=((None, s.GREEN), (0.05, s.AMBER), (0.25, s.RED)),
        )
        .span(4)
        .interval(MINUTE)
    )


def reload() -> s.Builder:
    """Show whether the last reload succeeded."""
    since = f"time() - {q.over('min', q.select('modelhost_config_last_reload_success_timestamp_seconds'))}"
    return (
        number(
            "Configuration",
            "Whether the last reload succeeded, and the age of the configuration in use. Good: yes; otherwise the "
            "previous one is in use, and the log contains the reason.",
            now(q.over("min", q.select("modelhost_config_last_reload_successful")), "reloaded"),
            now(since, "age"),
            unit=s.YES_NO,
            steps=s.ALL_IS_WELL,
        )
        .override_by_query("B", s.unit_of("dtdurations"))
        .span(4)
    )


def version() -> s.Builder:
    """List the versions."""
    return (
        listing(
            "Versions",
            "Number of hosts by version of the exporter and of Python. Good: one version.",
            Column(
                "Hosts", s.COUNT, now(q.over("count", q.select("modelhost_build_info"), "version", "python")), s.NONE
            ),
            labels=("version", "python"),
        )
        .span(5)
        .height(4)
    )


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
    ).span(6)


def memory() -> s.Builder:
    """Draw the exporter's memory."""
    return graph(
        "Memory",
        "Resident memory. Good: about 50 MB, and steady.",
        Query(q.highest(q.own("process_resident_memory_bytes"), "instance"), HOST),
        unit=s.BYTES,
    ).span(6)


def files() -> s.Builder:
    """Draw open files."""
    share = q.limited_to_exporter(q.ratio(q.select("process_open_fds"), q.select("process_max_fds")), "job", "instance")
    return graph(
        "Open files",
        "Open files as a share of the limit; the proxy uses two per request. Good: below 50 %.",
        Query(q.highest(share, "instance"), HOST),
        unit=s.RATIO,
    ).span(6)


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
    )


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
    )


def dropped_messages() -> s.Builder:
    """Draw how many log messages were dropped."""
    return graph(
        "Log messages dropped",
        "Messages that could not be written to standard error in time. Good: 0.",
        Query(q.total(q.rate("modelhost_log_messages_dropped_total"), "instance"), HOST),
        unit=s.OPERATIONS,
    )


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
