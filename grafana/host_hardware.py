"""Panels of the Host dashboard about InfiniBand, RoCE, memory errors, energy and NVMe drives."""

from __future__ import annotations

from grafana import queries as q
from grafana import style as s
from grafana.panels import Column, graph, listing, states
from grafana.queries import Query, now

_PORT = ("instance", "device", "port")
_NO_PORT = "No InfiniBand or RoCE port"
_DOWN, _ACTIVE = 1, 4
_STATES = {
    _DOWN: ("down", s.RED),
    2: ("initialising", s.AMBER),
    3: ("armed", s.AMBER),
    _ACTIVE: ("active", s.GREEN),
    5: ("active, deferred", s.AMBER),
}
_FAULTS = {
    "port_errors_received": "errors received",
    "port_receive_remote_physical_errors": "remote errors",
    "port_discards_transmitted": "not sent",
    "link_downed": "link down",
    "link_error_recovery": "link recovered",
    "local_link_integrity_errors": "link integrity",
    "symbol_error": "bit errors",
    "excessive_buffer_overrun_errors": "buffer overruns",
    "out_of_buffer_drops": "no receive buffer",
    "rx_icrc_encapsulated_errors": "checksum errors",
    "local_ack_timeout_errors": "not acknowledged",
    "rnr_nak_retry_packets_received": "receiver not ready",
}
_CONGESTION = {
    "np_ecn_marked_roce_packets_received": "marked packets received",
    "np_cnp_packets_sent": "notifications sent",
    "rp_cnp_packets_handled": "notifications received",
    "out_of_sequence_packets_received": "out of order",
    "packet_sequence_errors": "reported out of order",
    "roce_adp_retransmits": "sent again",
}

_WORN = ((None, s.GREEN), (0.8, s.AMBER), (1, s.RED))


def fabric() -> tuple[s.Builder, ...]:
    """Show ports of InfiniBand and RoCE adapters."""
    return (
        _both(
            "Fabric traffic", "Bytes per second. Good: below the link speed.", "port_data", "bytes", s.BYTES_PER_SECOND
        ),
        _both("Fabric packets", "Packets per second. Good: follows the bytes.", "port_packets", "", s.PACKETS),
        _use(),
        _events("Fabric errors", "Errors and drops per second. Good: 0; bit errors point to a cable.", _FAULTS),
        _events(
            "RoCE congestion",
            "Packets marked by switches, notifications of congestion, and packets out of order or sent again, per "
            "second. Good: few; packets out of order are losses where each connection has one way.",
            _CONGESTION,
        ),
        states(
            "Fabric ports",
            "State of each port. Good: active where a cable is connected; initialising means that no subnet manager "
            "runs.",
            Query(q.highest(q.select("modelhost_infiniband_state_id"), *_PORT), "{{instance}} {{device}} {{port}}"),
            texts=_STATES,
            empty=_NO_PORT,
        ).span(8),
    )


def _both(title: str, text: str, what: str, unit_of_name: str, unit: str) -> s.Builder:
    received, sent = (
        q.total(q.rate("_".join(filter(None, (f"modelhost_infiniband_{what}_{way}", unit_of_name, "total")))), *_PORT)
        for way in ("received", "transmitted")
    )
    return graph(
        title,
        f"{text} Sent traffic is drawn below zero.",
        Query(received, "in {{instance}} {{device}} {{port}}"),
        Query(sent, "out {{instance}} {{device}} {{port}}"),
        unit=unit,
        empty=_NO_PORT,
        min_=None,
    ).override_by_regexp("out.*", s.below_zero())


def _use() -> s.Builder:
    """Draw the use of the links beside what the ports had to wait."""
    sent = q.total(q.rate("modelhost_infiniband_port_data_transmitted_bytes_total"), *_PORT)
    speed = q.highest(q.select("modelhost_infiniband_rate_bytes_per_second"), *_PORT)
    return graph(
        "Fabric link use",
        "Bytes sent as a share of the link's speed. Good: below 90 %.",
        Query(q.ratio(sent, speed), "{{instance}} {{device}} {{port}}"),
        unit=s.RATIO,
        empty=_NO_PORT,
    )


def _events(title: str, text: str, counters: dict[str, str]) -> s.Builder:
    return graph(
        title,
        text,
        *(
            Query(q.total(q.rate(f"modelhost_infiniband_{name}_total"), "instance"), f"{words} {{{{instance}}}}")
            for name, words in counters.items()
        ),
        unit=s.PACKETS,
        empty=_NO_PORT,
    )


def memory_errors() -> s.Builder:
    """Draw errors of memory modules."""
    keys = ("instance", "controller", "dimm", "dimm_label")
    legend = "{{instance}} {{controller}} {{dimm}} {{dimm_label}}"
    return graph(
        "Memory errors",
        "Errors of each memory module since boot, corrected or not; those of a controller include errors whose module "
        "is not known. Good: 0; a module whose corrected errors rise should be replaced, one with others must be.",
        *(
            Query(q.highest(q.select(f"modelhost_edac_{series}_total"), *by), f"{text} {name}")
            for level, by, name in (("", keys[:2], "{{instance}} {{controller}}"), ("dimm_", keys, legend))
            for series, text in (
                (f"{level}correctable_errors", "corrected"),
                (f"{level}uncorrectable_errors", "not corrected"),
            )
        ),
        unit=s.COUNT,
        empty="The machine reports no memory errors",
    )


def cpu_power() -> s.Builder:
    """Draw the power of processors."""
    zones = {"package": "processor", "dram": "memory of processor", "psys": "platform"}
    return graph(
        "Processor power",
        "Power of each processor and its memory, and of the whole platform where it is measured. Good: below the "
        "processor's rated power (TDP).",
        *(
            Query(
                q.total(q.rate(f"modelhost_rapl_{zone}_joules_total"), "instance", "index"),
                f"{name} {{{{instance}}}} {{{{index}}}}",
            )
            for zone, name in zones.items()
        ),
        unit=s.WATTS,
        empty="Not reported by the machine, or not readable without root",
    )


def drives() -> s.Builder:
    """List the health of NVMe drives."""
    keys = ("instance", "device")
    info = q.total(q.select("modelhost_nvme_info"), *keys, "serial", "state")

    def column(name: str, unit: str, metric: str, steps: s.Limits = s.NONE, least: int = 0) -> Column:
        values = q.highest(q.select(f"modelhost_nvme_{metric}"), *keys)
        return Column(name, unit, now(q.labelled(values, info, *keys)), steps, least=least)

    return listing(
        "NVMe drives",
        "Warnings that the drive gives, the part of its life that is used up, spare capacity, errors of stored data, "
        "times it lost power, its temperature and what was written to it. Good: live, no warnings, no errors, less "
        "than 80 % used.",
        column("Warnings", s.COUNT, "critical_warning", s.ANY_IS_BAD, least=85),
        column("Used", s.RATIO, "percentage_used_ratio", _WORN),
        column("Spare", s.RATIO, "available_spare_ratio"),
        column("Warns below", s.RATIO, "available_spare_threshold_ratio", least=100),
        column("Media errors", s.COUNT, "media_errors_total", s.ANY_IS_BAD, least=100),
        column("Power losses", s.COUNT, "unsafe_shutdowns_total", least=100),
        column("Temperature", s.CELSIUS, "temperature_celsius", least=100),
        column("Written", s.BYTES, "data_written_bytes_total", least=80),
        column("Power-on", s.SECONDS, "power_on_seconds_total", least=90),
        labels=(*keys, "serial", "state"),
        empty="No NVMe drive, or its health is not readable without root",
    ).height(8)
