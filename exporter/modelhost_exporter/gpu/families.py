"""The families of the GPU collector: the same names for every vendor."""

from __future__ import annotations

from modelhost_exporter.metrics import families
from modelhost_exporter.metrics.families import Family

_DEVICE = ("gpu", "uuid")


def _gauge(name: str, help_text: str, *labels: str, note: str = "") -> Family:
    return families.gauge(f"gpu_{name}", help_text, *_DEVICE, *labels, note=note)


def _counter(name: str, help_text: str, *labels: str, note: str = "") -> Family:
    return families.counter(f"gpu_{name}", help_text, *_DEVICE, *labels, note=note)


DEVICES = families.gauge(
    "gpu_devices",
    "Number of GPUs that are present.",
    note=("Including those that are suspended and those whose driver hangs, without those that fell off the bus."),
)
DEVICES_EXPECTED = families.gauge(
    "gpu_devices_expected",
    "Number of GPUs that should be present.",
    note=(
        "As configured, else the highest number since the exporter started, including those that the "
        "driver counts and cannot reach."
    ),
)
DEVICES_SUSPENDED = families.gauge(
    "gpu_devices_suspended",
    "Number of GPUs that the system has suspended.",
    note="They are not queried, so that they stay suspended.",
)
DEVICES_POLLING_PAUSED = families.gauge(
    "gpu_devices_polling_paused",
    "Number of GPUs that are not queried for half a minute, so that the system can suspend them.",
    note="Only unused GPUs that the system may suspend (laptops).",
)
RESTART_REQUIRED = families.gauge(
    "gpu_restart_required",
    "1 when the NVIDIA driver was replaced while the exporter ran, else 0.",
    note=("The old library stays loaded: restart the exporter, or the machine where the new driver is not loaded yet."),
)
INFO = _gauge(
    "info",
    "Always 1, with labels that identify the GPU.",
    "vendor",
    "name",
    "driver_version",
    "pci_bus_id",
    "vbios_version",
    "compute_capability",
    note="gpu is the driver's index for NVIDIA, the kernel's card name for others.",
)
UP = _gauge(
    "up",
    "1 when any query of the GPU succeeded, or it is suspended or paused, else 0.",
    note="0 when all queries fail, or it hangs or is lost.",
)
FIELDS_LOST = _gauge(
    "fields_lost",
    "Number of fields that could be read before and cannot be read now.",
    note="Their series are absent meanwhile.",
)

MEMORY_TOTAL = _gauge(
    "memory_total_bytes",
    "Memory of the GPU.",
    note="Where memory is unified, that of the host, or (AMD) the part of it that the GPU may use.",
)
MEMORY_USED = _gauge(
    "memory_used_bytes",
    "Memory of the GPU in use.",
    note=(
        "Without the memory that the driver reserves, where it reports both; where memory is unified, the "
        "part held by processes on the GPU. Model servers use most of it on purpose."
    ),
)
MEMORY_FREE = _gauge("memory_free_bytes", "Free memory of the GPU.")
MEMORY_RESERVED = _gauge("memory_reserved_bytes", "Memory that the driver and the firmware reserve.")
UNIFIED_MEMORY = _gauge(
    "unified_memory",
    "1 on a GPU that shares the host's memory, else absent.",
    note="Such as GB10, Jetson and AMD's APUs.",
)
PROCESS_MEMORY = _gauge(
    "process_memory_bytes",
    "GPU memory held by the processes of one name.",
    "process",
    note=(
        "The name is that of a configured server, else of the program, else unknown (for processes outside "
        "the exporter's container). Absent where the system does not report the size of each (WSL2, "
        "Windows)."
    ),
)

UTILIZATION = _gauge(
    "utilization_ratio",
    "Share of the driver's last sampling period (up to 1 s) in which at least one kernel ran.",
    note=(
        "It is not the share of the GPU that was active: one thread on one of its processors also counts as 1. "
        "See sm_active_ratio, and busy_seconds for the time between scrapes. Intel: share of the time since the last "
        "scrape in which the GPU was awake."
    ),
)
MEMORY_UTILIZATION = _gauge(
    "memory_utilization_ratio",
    "Share of the driver's last sampling period in which memory was read or written.",
    note="It is neither the share of memory in use nor the share of its bandwidth.",
)
BUSY = _counter(
    "busy_seconds",
    "Seconds in which at least one kernel ran, since the exporter started.",
    note=(
        "Summed over every sample of the driver: its rate is the mean utilisation, correct at any scrape "
        "interval. It is not the share of the GPU that was active. Intel: seconds in which the GPU was awake, which is "
        "somewhat more."
    ),
)
BUSY_UPDATED = _gauge(
    "busy_updated_timestamp_seconds",
    "Time at which busy_seconds was last updated, in seconds since 1970.",
)
SM_ACTIVE = _gauge(
    "sm_active_ratio",
    "Mean share of the streaming multiprocessors that were active (Hopper and later).",
    note="Over the last 10 s, or since the last scrape where that is longer.",
)
SM_OCCUPANCY = _gauge("sm_occupancy_ratio", "Mean share of the possible warps that were resident, over the same time.")
TENSOR_ACTIVE = _gauge(
    "tensor_active_ratio", "Mean share of time in which the tensor cores were active, over the same time."
)
DRAM_ACTIVE = _gauge(
    "dram_active_ratio",
    "Mean share of the memory bandwidth that was used (Hopper and later).",
    note="Over the same time as sm_active_ratio; near 1 while decoding.",
)
ENCODER = _gauge("encoder_utilization_ratio", "Share of time in which the video encoder was active.")
DECODER = _gauge("decoder_utilization_ratio", "Share of time in which the video decoder was active.")

POWER = _gauge("power_watts", "Power drawn by the whole board.", note="Many cards report the mean of the last second.")
POWER_LIMIT = _gauge("power_limit_watts", "Power limit in force.")
ENERGY = _counter(
    "energy_joules",
    "Energy drawn by the GPU.",
    note=(
        "From the card's counter (since the driver was loaded), else summed from the driver's power "
        "samples (since the exporter started)."
    ),
)
TEMPERATURE = _gauge("temperature_celsius", "Temperature of each sensor.", "sensor")
TEMPERATURE_LIMIT = _gauge(
    "temperature_limit_celsius",
    "Temperature at which the GPU slows down or shuts down, by type of limit.",
    "type",
)
TEMPERATURE_MARGIN = _gauge(
    "temperature_margin_celsius", "Temperature margin before the GPU slows down (Ada, Hopper and later)."
)
FAN = _gauge(
    "fan_speed_ratio",
    "Speed of each fan as a share of its maximum.",
    "fan",
    note=("The requested speed for NVIDIA and AMD, which does not reveal a blocked fan; the measured speed for Intel."),
)
CLOCK = _gauge("clock_hertz", "Current clock of each domain.", "domain")
CLOCK_MAX = _gauge("clock_max_hertz", "Highest clock of each domain.", "domain")
PERFORMANCE_STATE = _gauge("performance_state", "Performance state, from 0 (fastest) to 15 (slowest).")
THROTTLED = _gauge(
    "throttled",
    "1 while the clocks are held down for this reason, else 0.",
    "reason",
    note="The low clocks of an idle GPU have no reason.",
)
THROTTLED_SECONDS = _counter(
    "throttled_seconds",
    "Seconds in which the clocks were held down for this reason.",
    "reason",
    note="From the driver's counters. Reasons overlap.",
)

PCIE_RECEIVED = _counter(
    "pcie_receive_bytes",
    "Bytes the GPU received over PCIe, since the exporter started.",
    note=(
        "Before Hopper the driver's counter wraps at 4 GiB. It is read every second, so that faster traffic "
        "is not counted in full."
    ),
)
PCIE_TRANSMITTED = _counter(
    "pcie_transmit_bytes", "Bytes the GPU sent over PCIe, since the exporter started.", note="See pcie_receive_bytes."
)
PCIE_GENERATION = _gauge("pcie_link_generation", "Current generation of the PCIe link.", note="An idle GPU lowers it.")
PCIE_GENERATION_MAX = _gauge("pcie_link_generation_max", "Highest generation that GPU and slot allow.")
PCIE_WIDTH = _gauge("pcie_link_width", "Current number of lanes of the PCIe link.")
PCIE_WIDTH_MAX = _gauge("pcie_link_width_max", "Highest number of lanes that GPU and slot allow.")
PCIE_REPLAYS = _counter(
    "pcie_replays", "PCIe packets that were sent again.", note="A steady rate indicates a bad connection."
)
NVLINK_RECEIVED = _counter("nvlink_receive_bytes", "Bytes of data received over each NVLink.", "link")
NVLINK_TRANSMITTED = _counter("nvlink_transmit_bytes", "Bytes of data sent over each NVLink.", "link")
NVLINK_UP = _gauge(
    "nvlink_up",
    "1 while the NVLink is up (saving power included), else 0.",
    "link",
    note="0 for ever where nothing is connected.",
)

ECC_ENABLED = _gauge("ecc_enabled", "1 while error correction (ECC) of memory is enabled, else 0.")
ECC_ERRORS = _counter(
    "ecc_errors",
    "Memory errors since the driver was loaded, corrected and uncorrected.",
    "type",
)
ECC_ERRORS_LIFETIME = _counter(
    "ecc_errors_lifetime", "Memory errors over the card's life, corrected and uncorrected.", "type"
)
REMAPPED_ROWS = _counter(
    "remapped_rows", "Memory rows replaced by spare ones, after corrected and uncorrected errors.", "type"
)
ROW_REMAP_PENDING = _gauge("row_remap_pending", "1 when a reset will replace further memory rows, else 0.")
ROW_REMAP_FAILED = _gauge(
    "row_remap_failed", "1 when a memory row could not be replaced for lack of spare rows, else 0."
)
RETIRED_PAGES = _gauge("retired_pages", "Memory pages taken out of use, by cause (before Ampere).", "cause")
RETIRED_PAGES_PENDING = _gauge("retired_pages_pending", "1 when a reboot will take more pages out of use, else 0.")
XID_ERRORS = _counter(
    "xid_errors",
    "Critical errors that the driver reported (XID), by code, since the exporter started.",
    "xid",
    note="Codes: NVIDIA's XID catalogue. 13, 31 and 43 are usually the fault of a program.",
)
XID_LAST = _gauge(
    "xid_last_timestamp_seconds", "Time at which this XID was last reported, in seconds since 1970.", "xid"
)
XID_MONITORED = _gauge(
    "xid_monitored",
    "1 when XIDs of this GPU are monitored, else 0.",
    note="While it is 1, an XID without a series has not occurred.",
)
RECOVERY_ACTION = _gauge(
    "recovery_action",
    "Recovery action that the driver requests, as a number.",
    note=(
        "0 none, 1 reset the GPU, 2 reboot, 3 drain peer-to-peer, 4 drain and reset, 5 recover IMEX, 6 "
        "reset the bus, 7 reboot the system."
    ),
)

_INSTANCE = ("gpu_instance", "profile")
MIG_INFO = _gauge(
    "mig_info",
    "Always 1, with labels that identify the MIG instance.",
    *_INSTANCE,
    "mig_uuid",
    note="gpu_instance is the GPU instance's id, uuid the GPU's, mig_uuid the instance's own.",
)
MIG_MEMORY_TOTAL = _gauge("mig_memory_total_bytes", "Memory of the MIG instance.", *_INSTANCE)
MIG_MEMORY_USED = _gauge("mig_memory_used_bytes", "Memory of the MIG instance in use.", *_INSTANCE)
MIG_MEMORY_FREE = _gauge("mig_memory_free_bytes", "Free memory of the MIG instance.", *_INSTANCE)
MIG_MEMORY_RESERVED = _gauge(
    "mig_memory_reserved_bytes", "Memory of the MIG instance that the driver reserves.", *_INSTANCE
)
MIG_PROCESS_MEMORY = _gauge(
    "mig_process_memory_bytes",
    "As process_memory_bytes, for the MIG instance.",
    *_INSTANCE,
    "process",
)
MIG_SM_ACTIVE = _gauge("mig_sm_active_ratio", "As sm_active_ratio, for the MIG instance.", *_INSTANCE)
MIG_SM_OCCUPANCY = _gauge("mig_sm_occupancy_ratio", "As sm_occupancy_ratio, for the MIG instance.", *_INSTANCE)
MIG_TENSOR_ACTIVE = _gauge("mig_tensor_active_ratio", "As tensor_active_ratio, for the MIG instance.", *_INSTANCE)
MIG_DRAM_ACTIVE = _gauge("mig_dram_active_ratio", "As dram_active_ratio, for the MIG instance.", *_INSTANCE)

ALL: tuple[Family, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Family))
"""Every family, in the order of the page."""
