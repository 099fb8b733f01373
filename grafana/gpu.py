"""GPUs: what they do, what they need, what holds them back, and what is wrong with them."""

from __future__ import annotations

from grafana import gpu_health, mig
from grafana import queries as q
from grafana import style as s
from grafana.board import Board, Variable, row
from grafana.panels import MINUTE, graph, listing, number
from grafana.queries import Query, now

GPU = Variable("gpu", "GPU", q.values_of("gpu", "modelhost_gpu_info"))
CHOSEN = 'gpu=~"$gpu"'
KEYS = ("instance", "gpu")
LEGEND = "{{instance}} GPU {{gpu}}"
NO_GPU = "No GPU detected"
NOT_MEASURED = "No GPU detected, or it does not measure this"


def board() -> Board:
    """Return the dashboard."""
    return Board(
        "modelhost-gpu",
        "Model host / GPU",
        "What the GPUs do, what they need, what holds them back, and what is wrong with them.",
        (
            row("Now", devices(), missing(), answering(), asleep(), driver(), energy_per_token(), cards()),
            row(
                "Activity",
                utilization().span(12),
                sm_active().span(12),
                tensor(),
                bandwidth(),
                occupancy(),
                video(),
                memory_active(),
            ),
            row("Memory", memory(), memory_by_server(), memory_states()),
            row(
                "Power, clocks and temperature",
                power(),
                power_share(),
                energy(),
                temperature(),
                limits(),
                clocks(),
                fans(),
            ),
            row("Throttling", *gpu_health.throttling()),
            row("PCIe and NVLink", pcie(), *gpu_health.links(), nvlink()),
            row("Errors", *gpu_health.errors()),
            row("MIG instances", *mig.panels(), collapsed=True),
        ),
        (GPU,),
    )


def line(metric: str, legend: str = LEGEND, *, by: tuple[str, ...] = KEYS) -> Query:
    """Ask for a gauge of the chosen GPUs."""
    return Query(q.highest(q.select(f"modelhost_gpu_{metric}", CHOSEN), *by), legend)


def flow(counter: str, legend: str = LEGEND, *, by: tuple[str, ...] = KEYS) -> Query:
    """Ask for the rate of a counter of the chosen GPUs."""
    return Query(q.total(q.rate(f"modelhost_gpu_{counter}_total", CHOSEN), *by), legend)


def ratio_graph(title: str, text: str, metric: str) -> s.Builder:
    """Draw a share of each GPU."""
    return graph(title, text, line(metric), unit=s.RATIO, empty=NOT_MEASURED, most=1)


def devices() -> s.Builder:
    """Count GPUs."""
    return number(
        "GPUs",
        "GPUs that are there on the chosen hosts. Good: as many as you built in.",
        now(q.or_zero(q.total(q.select("modelhost_gpu_devices")))),
        unit=s.COUNT,
        texts={0: (NO_GPU, s.GREY)},
    )


def missing() -> s.Builder:
    """Count GPUs that fell off the bus."""
    expected, there = (q.total(q.select(f"modelhost_gpu_devices{end}")) for end in ("_expected", ""))
    return number(
        "Missing",
        "GPUs that should be there and are not. Good: 0.",
        now(q.or_zero(f"{expected} - {there}")),
        unit=s.COUNT,
        steps=s.ANY_IS_BAD,
    )


def answering() -> s.Builder:
    """Count GPUs that hang."""
    hanging = q.over("count", f"{q.select('modelhost_gpu_up')} == 0")
    return number(
        "Hanging",
        "GPUs whose driver does not answer. Good: 0.",
        now(q.or_zero(hanging)),
        unit=s.COUNT,
        steps=s.ANY_IS_BAD,
    )


def asleep() -> s.Builder:
    """Count GPUs that sleep."""
    return number(
        "Asleep",
        "GPUs the system has put to sleep; they are not asked, so that they sleep on. Good: any number.",
        now(q.or_zero(q.total(q.select("modelhost_gpu_devices_suspended")))),
        unit=s.COUNT,
    )


def driver() -> s.Builder:
    """Say whether the exporter needs a restart."""
    return number(
        "Restart needed",
        "Whether the driver was replaced while the exporter ran. Good: no; else restart the exporter.",
        now(q.or_zero(q.highest(q.select("modelhost_gpu_restart_required")))),
        unit=s.COUNT,
        texts={0: ("no", s.GREEN), 1: ("yes", s.RED)},
    )


def energy_per_token() -> s.Builder:
    """Show what a token costs."""
    watts = q.total(q.rate("modelhost_gpu_energy_joules_total"))
    tokens = q.total(q.rate("modelhost_output_tokens_total"))
    return (
        number(
            "Energy per output token",
            "Energy of all GPUs of the chosen hosts over all tokens that their models wrote. Good: low; it falls "
            "with load, "
            "since an idle GPU draws power too.",
            now(q.ratio(watts, f"({tokens} > 0)")),
            unit=s.JOULES,
            empty="No tokens, or no energy counter",
        )
        .span(9)
        .interval(MINUTE)
    )


def cards() -> s.Builder:
    """List the cards."""
    labels = ("instance", "gpu", "vendor", "name", "driver_version", "compute_capability")
    info = q.total(q.select("modelhost_gpu_info", CHOSEN), *labels)

    def told(metric: str) -> Query:
        return now(f"{line(metric).expr} * on (instance, gpu) group_right () {info}")

    return listing(
        "Cards",
        "The cards and their drivers. Good: all up, one driver.",
        ("Up", s.YES_NO, told("up"), s.ALL_IS_WELL),
        ("Memory", s.BYTES, told("memory_total_bytes"), s.NONE),
        ("Shares the host's memory", s.YES_NO, told("unified_memory"), s.NONE),
        labels=labels,
        empty=NO_GPU,
    ).height(7)


def utilization() -> s.Builder:
    """Draw utilisation."""
    return graph(
        "Utilisation: some kernel ran",
        "Share of time in which at least one kernel ran, from the driver's own samples where it has them. Not "
        "how much of "
        "the GPU was at work: compare with the next panel. Good: high while requests run.",
        Query(q.gpu_busy(CHOSEN, by=KEYS), LEGEND),
        unit=s.RATIO,
        empty=NO_GPU,
        most=1,
    )


def sm_active() -> s.Builder:
    """Draw real activity."""
    return ratio_graph(
        "Real activity: processors with work",
        "Mean share of the streaming multiprocessors that had work (Hopper and later). Good: near the "
        "utilisation; far below "
        "it, batches are too small to fill the GPU.",
        "sm_active_ratio",
    )


def tensor() -> s.Builder:
    """Draw tensor cores."""
    return ratio_graph(
        "Tensor cores at work",
        "Share of time. Good: high while prompts are read; low while answers are written.",
        "tensor_active_ratio",
    )


def bandwidth() -> s.Builder:
    """Draw memory bandwidth."""
    return ratio_graph(
        "Memory bandwidth in use",
        "Share of the memory's bandwidth. Good: near 1 while answers are written; that is the limit.",
        "dram_active_ratio",
    )


def occupancy() -> s.Builder:
    """Draw occupancy."""
    return ratio_graph(
        "Occupancy",
        "Share of the possible warps that were resident. Good: no number of its own; compare versions of an engine.",
        "sm_occupancy_ratio",
    )


def video() -> s.Builder:
    """Draw the video engines."""
    return graph(
        "Video engines",
        "Share of time in which encoder and decoder were at work. Good: 0 on a host of language models.",
        line("encoder_utilization_ratio", f"encoder {LEGEND}"),
        line("decoder_utilization_ratio", f"decoder {LEGEND}"),
        unit=s.RATIO,
        empty=NOT_MEASURED,
        most=1,
    )


def memory_active() -> s.Builder:
    """Draw how often memory was touched."""
    return ratio_graph(
        "Memory touched",
        "Share of time in which memory was read or written at all. Good: it follows the utilisation.",
        "memory_utilization_ratio",
    )


def memory() -> s.Builder:
    """Draw memory in use."""
    return graph(
        "Memory in use",
        "Share of each GPU's memory. Good: high is normal, model servers take it on purpose; steady.",
        Query(q.gpu_memory_ratio(CHOSEN, by=KEYS), LEGEND),
        unit=s.RATIO,
        empty=NO_GPU,
        most=1,
    )


def memory_by_server() -> s.Builder:
    """Draw memory by program."""
    return graph(
        "Memory by model server",
        "What the processes of each configured model server, or else program, hold. Good: only those you know.",
        Query(
            q.total(q.select("modelhost_gpu_process_memory_bytes", CHOSEN), "instance", "process"),
            "{{instance}} {{process}}",
        ),
        unit=s.BYTES,
        empty="No GPU detected, or the system does not say who holds its memory",
        stacked=True,
    )


def memory_states() -> s.Builder:
    """Draw free and reserved memory."""
    kinds = ("used", "free", "reserved", "total")
    return graph(
        "Memory of all chosen GPUs",
        "Used, free, kept by driver and firmware, and in all. Good: what the next model needs is free.",
        *(Query(q.total(q.select(f"modelhost_gpu_memory_{kind}_bytes", CHOSEN)), kind) for kind in kinds),
        unit=s.BYTES,
        empty=NO_GPU,
    )


def power() -> s.Builder:
    """Draw power beside its limit."""
    return graph(
        "Power against limit",
        "Power drawn by each board, and the limit in force. Good: below the limit; at the limit the clocks are "
        "held down.",
        line("power_watts"),
        line("power_limit_watts", f"limit {LEGEND}"),
        unit=s.WATTS,
        empty=NOT_MEASURED,
    )


def power_share() -> s.Builder:
    """Draw power as a share of the limit."""
    share = q.ratio(line("power_watts").expr, line("power_limit_watts").expr)
    return graph(
        "Share of the power limit", "Good: below 95 %.", Query(share, LEGEND), unit=s.RATIO, empty=NOT_MEASURED
    )


def energy() -> s.Builder:
    """Draw energy."""
    return graph(
        "Mean power by energy",
        "Joules a second as the card counts them: right at any scrape interval. Good: it follows the tokens.",
        flow("energy_joules"),
        unit=s.WATTS,
        empty=NOT_MEASURED,
    )


def temperature() -> s.Builder:
    """Draw temperatures beside their limits."""
    return graph(
        "Temperature against its limits",
        "Each sensor, and the lowest temperature at which each kind of limit acts. Good: 10 °C below the slowdown.",
        line("temperature_celsius", f"{LEGEND} {{{{sensor}}}}", by=(*KEYS, "sensor")),
        Query(q.over("min", q.select("modelhost_gpu_temperature_limit_celsius", CHOSEN), "kind"), "limit: {{kind}}"),
        unit=s.CELSIUS,
        empty=NOT_MEASURED,
    )


def limits() -> s.Builder:
    """Draw what is left until slowdown."""
    return graph(
        "Degrees until slowdown",
        "How much warmer each GPU may get (Ada, Hopper and later). Good: above 10 °C.",
        line("temperature_margin_celsius"),
        unit=s.CELSIUS,
        empty=NOT_MEASURED,
    )


def clocks() -> s.Builder:
    """Draw clocks."""
    keys = (*KEYS, "domain")
    share = q.ratio(line("clock_hertz", by=keys).expr, line("clock_max_hertz", by=keys).expr)
    return graph(
        "Clocks",
        "Clock of each domain as a share of its highest. Good: near 1 while requests run; an idle GPU clocks down.",
        Query(share, f"{LEGEND} {{{{domain}}}}"),
        unit=s.RATIO,
        empty=NOT_MEASURED,
    )


def fans() -> s.Builder:
    """Draw fans."""
    return graph(
        "Fans",
        "Speed each fan is told to run at. Good: below 1; absent on cards without fans.",
        line("fan_ratio", f"{LEGEND} fan {{{{fan}}}}", by=(*KEYS, "fan")),
        unit=s.RATIO,
        empty="No GPU with fans of its own",
    )


def pcie() -> s.Builder:
    """Draw PCIe traffic."""
    return _ways("PCIe traffic", "Good: a peak while a model loads, little after.", "pcie", KEYS)


def nvlink() -> s.Builder:
    """Draw NVLink traffic."""
    return _ways(
        "NVLink traffic", "All links of a GPU. Good: alike on GPUs that serve one model together.", "nvlink", KEYS
    )


def _ways(title: str, text: str, bus: str, keys: tuple[str, ...]) -> s.Builder:
    sent = flow(f"{bus}_transmit_bytes", by=keys)
    return graph(
        title,
        f"Bytes per second received; sent ones are below zero. {text}",
        flow(f"{bus}_receive_bytes", f"in {LEGEND}", by=keys),
        Query(f"-{sent.expr}", f"out {LEGEND}"),
        unit=s.BYTES_PER_SECOND,
        empty=NOT_MEASURED,
        least=None,
    )
