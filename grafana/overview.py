"""The home dashboard, which says whether this machine is well and the models are fast."""

from __future__ import annotations

from grafana import queries as q
from grafana import style as s
from grafana.board import MODEL, Board, Variable, row
from grafana.overview_api import DURATION, NO_REQUESTS, distribution, statistics
from grafana.overview_machine import details, graphs
from grafana.panels import MINUTE, graph, number, per_request
from grafana.queries import Query, now

MODEL_NAME = 'model=~"$model"'
PICKED = (MODEL_NAME, q.API, q.OK)


def board() -> Board:
    """Return the dashboard."""
    header = row(
        "Machine",
        last_scrape(),
        hosts_up(),
        hosts(),
        alerts(),
        tokens_now(),
        in_flight(),
        *graphs(),
        *details(),
    )
    model = row(
        "Model performance: $model",
        response_times(),
        number(
            "Requests/s",
            "Requests to the model that ended, per second. Good: as many as its users send.",
            now(q.request_rate(MODEL_NAME)),
            unit=s.REQUESTS,
            empty=NO_REQUESTS,
        )
        .height(6)
        .interval(MINUTE),
        number(
            "Average response time",
            "Mean time from the request until the last byte of the answer, of successful requests. "
            "Good: steady; it grows with the length of the answers.",
            now(q.mean(DURATION, *PICKED)),
            unit=s.SECONDS,
            empty=NO_REQUESTS,
        )
        .height(6)
        .interval(MINUTE),
        number(
            "Success rate",
            "Share of requests that the server answered well; errors of clients count neither way. Good: above 99 %.",
            now(q.success_ratio(MODEL_NAME)),
            unit=s.RATIO,
            empty=NO_REQUESTS,
            steps=s.SUCCEEDING,
        )
        .height(6)
        .interval(MINUTE),
        number(
            "Model memory",
            "Memory that the loaded model takes, as its server says. Good: within the GPU's memory (vram), not in ram.",
            now(q.total(q.select("modelhost_model_memory_bytes", MODEL_NAME), "type"), "{{type}}"),
            unit=s.BYTES,
            empty="Not loaded, or its server does not say",
        )
        .height(6)
        .interval(MINUTE),
    )
    return Board(
        "modelhost-overview",
        "Model host / Overview",
        "Is this machine well, and are the models fast?",
        (header, model, row("Network and API", network(), *statistics(), distribution())),
        (Variable(MODEL.name, MODEL.label, q.values_of("model", "modelhost_requests_total"), multi=False),),
        since="now-30m",
    )


def last_scrape() -> s.Builder:
    """Show how old the data is."""
    return (
        number(
            "Data age",
            "Time since the oldest of the hosts' last scrapes. Good: less than two scrape intervals; more is no "
            "longer live.",
            now(q.highest(q.ours(f"time() - timestamp({q.select('up')})"))),
            unit=s.SECONDS,
            steps=((None, s.GREEN), (35, s.AMBER), (120, s.RED)),
            decimals=1,
        )
        .span(4)
        .height(3)
    )


def hosts_up() -> s.Builder:
    """Show whether the exporters answer."""
    return (
        number(
            "Live",
            "Share of the chosen exporters that answered Prometheus' last scrape. Good: LIVE, all of them.",
            now(q.over("avg", q.up())),
            unit=s.RATIO,
            steps=((None, s.RED), (1, s.GREEN)),
            texts={1: ("LIVE", s.GREEN), 0: ("DOWN", s.RED)},
            empty="DOWN",
        )
        .span(4)
        .height(3)
    )


def hosts() -> s.Builder:
    """Count the hosts."""
    return (
        number(
            "Hosts",
            "Hosts that are scraped, as chosen above. Good: as many as you have.",
            now(q.over("count", q.up())),
            unit=s.COUNT,
        )
        .span(4)
        .height(3)
    )


def alerts() -> s.Builder:
    """Count the alerts that fire."""
    return (
        number(
            "Alerts firing",
            "Alerts of these hosts that fire now. Good: 0. The bars in the graphs show when they fired.",
            now(q.or_zero(q.alerts_firing())),
            unit=s.COUNT,
            steps=s.ANY_IS_BAD,
        )
        .span(4)
        .height(3)
    )


def tokens_now() -> s.Builder:
    """Show tokens of all models."""
    return (
        number(
            "Output tokens/s",
            "Tokens that all models write, per second. Good: near what your GPUs can do while requests wait.",
            now(q.total(q.rate("modelhost_output_tokens_total"))),
            unit=s.TOKENS,
            empty=NO_REQUESTS,
        )
        .span(4)
        .height(3)
        .interval(MINUTE)
    )


def in_flight() -> s.Builder:
    """Show requests under way."""
    return (
        number(
            "Requests in flight",
            "Requests under way now. Good: below what the servers work on at a time; more of them wait.",
            now(q.or_zero(q.total(q.select("modelhost_requests_in_flight", q.API)))),
            unit=s.COUNT,
        )
        .span(4)
        .height(3)
    )


def response_times() -> s.Builder:
    """Draw the picked model's response times."""
    return (
        per_request(
            "Response times of $model",
            "From the request until the last byte of the answer, of successful requests: half of them were "
            "faster than p50, "
            "one in a hundred slower than p99. Good: p99 near p95, and both steady.",
            *q.quantiles(DURATION, *PICKED),
            empty=NO_REQUESTS,
        )
        .span(12)
        .height(6)
    )


def network() -> s.Builder:
    """Draw the network."""
    return graph(
        "Network",
        "Bytes per second over all devices but the loopback; outgoing ones below zero. Good: far from the link's "
        "speed.",
        Query(q.total(q.rate("modelhost_network_receive_bytes_total", 'device!="lo"'), "instance"), "in {{instance}}"),
        Query(
            "-" + q.total(q.rate("modelhost_network_transmit_bytes_total", 'device!="lo"'), "instance"),
            "out {{instance}}",
        ),
        unit=s.BYTES_PER_SECOND,
        least=None,
    ).height(6)
