"""The home dashboard, which says whether this machine is well and the models are fast."""

from __future__ import annotations

from grafana import queries as q
from grafana import style as s
from grafana.board import MODEL, Board, Variable, row
from grafana.panels import MINUTE, bars, facts, graph, number, per_request
from grafana.queries import Query, now

NO_GPU, NO_REQUESTS = "No GPU detected", "No requests seen yet"
MODEL_NAME = 'model=~"$model"'
DURATION = "modelhost_request_duration_seconds"
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
            now(q.total(q.select("modelhost_model_memory_bytes", MODEL_NAME), "kind"), "{{kind}}"),
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


def graphs() -> tuple[s.Builder, ...]:
    """Draw CPU, memory and GPU over time."""
    return (
        graph(
            "CPU",
            "Share of CPU time with work. Good: below 70 %; above 90 % everything waits, the proxy too.",
            Query(q.cpu_busy(), "{{instance}}"),
            unit=s.RATIO,
            most=1,
            steps=s.BUSY,
        ).height(6),
        graph(
            "Memory",
            "Share of memory in use by programs; caches that can be given back are not counted. Good: below 80 %.",
            Query(q.memory_used_ratio(), "{{instance}}"),
            unit=s.RATIO,
            most=1,
            steps=s.FULL,
        ).height(6),
        graph(
            "GPU",
            "Share of time in which some kernel ran, the mean of the GPUs. It does not say how much of a GPU was "
            "at work: "
            "see the GPU dashboard. Good: high while requests run, 0 while none do.",
            Query(q.gpu_busy(), "{{instance}}"),
            unit=s.RATIO,
            empty=NO_GPU,
            most=1,
            steps=s.BUSY,
        ).height(6),
    )


def details() -> tuple[s.Builder, ...]:
    """Show the small facts below the graphs."""
    used, size = (q.total(q.select(f"modelhost_memory_{what}_bytes")) for what in ("used", "available"))
    gpu_used, gpu_size = (q.total(q.select(f"modelhost_gpu_memory_{what}_bytes")) for what in ("used", "total"))
    return (
        facts(
            "CPU now",
            "CPU in use, cores of all chosen hosts, and the tasks that ran or waited over the last minute. "
            "Good: a load below the number of cores.",
            (now(q.over("avg", q.cpu_busy()), "busy"), s.RATIO),
            (now(q.total(q.select("modelhost_cpu_logical_cores")), "cores"), s.COUNT),
            (now(q.total(q.select("modelhost_load1")), "load"), s.COUNT),
        ),
        facts(
            "Memory now",
            "Memory in use and still available, on all chosen hosts. Good: some is available.",
            (now(q.over("avg", q.memory_used_ratio()), "in use"), s.RATIO),
            (now(used, "used"), s.BYTES),
            (now(size, "available"), s.BYTES),
        ),
        facts(
            "GPU now",
            "GPUs that are there, their memory in use and in all, and the hottest sensor. "
            "Good: full memory is normal for a model server; below 85 °C.",
            (now(q.total(q.select("modelhost_gpu_devices")), "GPUs"), s.COUNT),
            (now(q.over("avg", q.gpu_busy()), "busy"), s.RATIO),
            (now(gpu_used, "memory used"), s.BYTES),
            (now(gpu_size, "memory"), s.BYTES),
            (now(q.highest(q.select("modelhost_gpu_temperature_celsius")), "hottest"), s.CELSIUS),
            empty=NO_GPU,
        ),
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


def statistics() -> tuple[s.Builder, ...]:
    """Show the API's numbers over all models."""
    return (
        number(
            "Total requests",
            "Requests to models within the time range above. Good: what you expect of your users.",
            now(q.total(q.increase("modelhost_requests_total", q.API, window=q.RANGE))),
            unit=s.COUNT,
            empty=NO_REQUESTS,
            decimals=0,
        )
        .span(2)
        .height(6)
        .interval(MINUTE),
        number(
            "All requests/s",
            "Requests to all models, per second. Good: as many as your users send.",
            now(q.request_rate()),
            unit=s.REQUESTS,
            empty=NO_REQUESTS,
        )
        .span(2)
        .height(6)
        .interval(MINUTE),
        number(
            "Mean response time",
            "Mean time of successful requests to all models. Good: steady.",
            now(q.mean(DURATION, q.API, q.OK)),
            unit=s.SECONDS,
            empty=NO_REQUESTS,
        )
        .span(2)
        .height(6)
        .interval(MINUTE),
        number(
            "Error rate",
            "Share of requests that failed for a reason on the server's side. Good: below 1 %; red above 5 %.",
            now(q.error_ratio()),
            unit=s.RATIO,
            empty=NO_REQUESTS,
            steps=s.FAILING,
        )
        .span(2)
        .height(6)
        .interval(MINUTE),
    )


def distribution() -> s.Builder:
    """Show how many requests fell into each range of response times."""
    return (
        bars(
            "Response time distribution",
            "Successful requests within the time range above, by how long they took. Good: nothing in the last bar.",
            *(now(within(above, up_to), label) for label, above, up_to in RANGES),
            unit=s.COUNT,
            empty=NO_REQUESTS,
        )
        .span(8)
        .height(6)
    )


RANGES = (
    ("< 100 ms", None, "0.1"),
    ("100–500 ms", "0.1", "0.5"),
    ("500 ms–1 s", "0.5", "1(.0)?"),
    ("1–5 s", "1(.0)?", "5(.0)?"),
    ("> 5 s", "5(.0)?", "[+]Inf"),
)


def within(above: str | None, up_to: str) -> str:
    """Return the number of requests between two bounds of the histogram, over the time range."""
    upper, lower = (
        q.total(q.increase(f"{DURATION}_bucket", q.API, q.OK, f'le=~"{bound}"', window=q.RANGE))
        for bound in (up_to, above)
    )
    return upper if above is None else f"{upper} - {lower}"
