"""Every host in one table, and the few that stand out; from recorded series: hundreds of hosts are no trouble."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from grafana import queries as q
from grafana import recorded as r
from grafana import style as s
from grafana.board import Board, row
from grafana.panels import NO_DATA, history, listing, number
from grafana.queries import now

WARM = ((None, s.GREEN), (80, s.AMBER), (90, s.RED))
NO_GPU, NO_REQUESTS = "No GPU detected", "No requests seen yet"


def board() -> Board:
    """Return the dashboard."""
    return Board(
        "modelhost-fleet",
        "Model host / Fleet",
        "Every host in one table, with links into the Overview.",
        (
            row("All hosts", hosts_up(), hosts_down(), alerts(), gpus(), missing_gpus(), requests(), tokens(), power()),
            row("Hosts", table()),
            row("Over time", *courses()),
        ),
        since="now-6h",
    )


def hosts_up() -> s.Builder:
    """Count hosts that answer."""
    return number(
        "Hosts up",
        "Exporters that answered the last scrape. Good: all of them.",
        now(q.total(q.up())),
        unit=s.COUNT,
    )


def hosts_down() -> s.Builder:
    """Count hosts that do not answer."""
    down = q.over("count", q.ours(f"{q.select('up')} == 0"))
    return number(
        "Hosts down",
        "Exporters that did not answer the last scrape. Good: 0.",
        now(q.or_zero(down)),
        unit=s.COUNT,
        steps=s.ANY_IS_BAD,
    )


def alerts() -> s.Builder:
    """Count alerts."""
    return number(
        "Alerts firing",
        "Alerts that fire now on these hosts. Good: 0.",
        now(q.or_zero(q.alerts_firing())),
        unit=s.COUNT,
        steps=s.ANY_IS_BAD,
    )


def gpus() -> s.Builder:
    """Count GPUs."""
    return number(
        "GPUs",
        "GPUs that are there, on all hosts. Good: as many as you paid for.",
        now(q.or_zero(q.total(q.select("modelhost_gpu_devices")))),
        unit=s.COUNT,
        texts={0: (NO_GPU, s.GREY)},
    )


def missing_gpus() -> s.Builder:
    """Count GPUs that fell off."""
    expected, there = (q.total(q.select(f"modelhost_gpu_devices{end}")) for end in ("_expected", ""))
    return number(
        "GPUs missing",
        "GPUs that should be there and are not: they fell off the bus. Good: 0.",
        now(q.or_zero(f"{expected} - {there}")),
        unit=s.COUNT,
        steps=s.ANY_IS_BAD,
    )


def requests() -> s.Builder:
    """Show requests of all hosts."""
    return number(
        "Requests/s",
        "Requests to all models of all hosts, per second over 5 minutes. Good: what your users send.",
        now(q.total(q.select(r.REQUESTS))),
        unit=s.REQUESTS,
        empty=NO_REQUESTS,
    )


def tokens() -> s.Builder:
    """Show tokens of all hosts."""
    return number(
        "Output tokens/s",
        "Tokens that all models of all hosts write, per second over 5 minutes. Good: high while requests are in "
        "flight.",
        now(q.total(q.select(r.OUTPUT))),
        unit=s.TOKENS,
        empty=NO_REQUESTS,
    )


def power() -> s.Builder:
    """Show the power of all GPUs."""
    return number(
        "GPU power",
        "Power of all GPUs, the mean of 5 minutes. Good: it follows the tokens; much power without tokens is waste.",
        now(q.total(q.select(r.GPU_POWER))),
        unit=s.WATTS,
        empty=NO_GPU,
    )


def table() -> s.Builder:
    """Show every host in a line."""
    overview = dashboard.DashboardLink("Open its Overview").url(
        "/d/modelhost-overview?${datasource:queryparam}&${job:queryparam}"
        "&var-instance=${__data.fields.instance}&${__url_time_range}"
    )
    return listing(
        "Hosts",
        "One line for each host, the mean of the last 5 minutes; click its name for its Overview. "
        "Good: green, and no alerts. GPU columns are empty where there is no GPU, request columns where none came.",
        ("Up", s.YES_NO, now(q.highest(q.up(), "instance")), s.ALL_IS_WELL),
        ("CPU", s.RATIO, now(q.highest(q.select(r.CPU), "instance")), s.BUSY),
        ("Memory", s.RATIO, now(q.highest(q.select(r.MEMORY), "instance")), s.FULL),
        ("Fullest disk", s.RATIO, now(q.highest(q.select(r.FULLEST), "instance")), s.FULL),
        ("GPU", s.RATIO, now(q.highest(q.select(r.GPU), "instance")), s.NONE),
        ("GPU memory", s.RATIO, now(q.highest(q.select(r.GPU_MEMORY), "instance")), s.NONE),
        ("Hottest GPU", s.CELSIUS, now(q.highest(q.select(r.GPU_TEMPERATURE), "instance")), WARM),
        ("Requests/s", s.REQUESTS, now(q.total(q.select(r.REQUESTS), "instance")), s.NONE),
        ("p95", s.SECONDS, now(q.highest(q.select(r.P95), "instance")), s.NONE),
        ("Errors", s.RATIO, now(q.highest(q.select(r.ERRORS), "instance")), s.FAILING),
        ("Alerts", s.COUNT, now(firing()), s.ANY_IS_BAD),
        labels=("instance",),
        links={"instance": overview},
    )


def courses() -> tuple[s.Builder, ...]:
    """Draw the hosts that stand out."""
    lines = (
        ("Busiest CPUs", "Share of CPU time with work. Good: below 70 %.", r.CPU, s.RATIO, NO_DATA),
        ("Fullest memories", "Share of memory in use. Good: below 80 %.", r.MEMORY, s.RATIO, NO_DATA),
        (
            "Fullest disks",
            "Used share of each host's fullest file system. Good: below 80 %.",
            r.FULLEST,
            s.RATIO,
            NO_DATA,
        ),
        (
            "Busiest GPUs",
            "Share of time in which GPUs had work. Good: high while requests run.",
            r.GPU,
            s.RATIO,
            NO_GPU,
        ),
        (
            "Hottest GPUs",
            "The hottest sensor of each host's GPUs. Good: below 85 °C.",
            r.GPU_TEMPERATURE,
            s.CELSIUS,
            NO_GPU,
        ),
        ("GPU power", "Power of each host's GPUs. Good: it follows the tokens.", r.GPU_POWER, s.WATTS, NO_GPU),
        (
            "Requests/s",
            "Requests to models. Good: spread over the hosts as you meant to.",
            r.REQUESTS,
            s.REQUESTS,
            NO_REQUESTS,
        ),
        (
            "Slowest answers",
            "p95 of response times. Good: alike on hosts that serve the same models.",
            r.P95,
            s.SECONDS,
            NO_REQUESTS,
        ),
        (
            "Error rates",
            "Share of requests that failed on the server's side. Good: below 1 %.",
            r.ERRORS,
            s.RATIO,
            NO_REQUESTS,
        ),
        ("Output tokens/s", "Tokens written. Good: spread like the requests.", r.OUTPUT, s.TOKENS, NO_REQUESTS),
        (
            "Requests in flight",
            "Requests under way. Good: below what the servers work on at a time.",
            r.IN_FLIGHT,
            s.COUNT,
            NO_REQUESTS,
        ),
        ("Loads", "Tasks that run or wait, for each core. Good: below 1.", r.LOAD, s.COUNT, NO_DATA),
        ("Busiest disks", "Time with a request in flight. Good: below 80 %.", r.BUSIEST_DISK, s.RATIO, NO_DATA),
        ("Network out", "Bytes sent per second. Good: like the requests.", r.SENT, s.BYTES_PER_SECOND, NO_DATA),
        (
            "Network in",
            "Bytes received per second. Good: far from the links' speed.",
            r.RECEIVED,
            s.BYTES_PER_SECOND,
            NO_DATA,
        ),
    )
    highest = f"The {r.DRAWN} highest at each moment."
    return tuple(
        history(title, f"{text} {highest}", r.by_host(series), unit=unit, empty=empty)
        for title, text, series, unit, empty in lines
    )


def firing() -> str:
    """Return how many alerts fire by host; 0 where none does."""
    return f"{q.alerts_firing('instance')} or 0 * {q.highest(q.up(), 'instance')}"
