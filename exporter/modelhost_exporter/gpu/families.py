"""The families of the GPU collector: the same names for every vendor."""

from __future__ import annotations

from modelhost_exporter.metrics import families
from modelhost_exporter.metrics.families import Family

_DEVICE = ("gpu", "uuid")


def _gauge(name: str, help_text: str, *labels: str) -> Family:
    return families.gauge(f"gpu_{name}", help_text, *_DEVICE, *labels)


def _counter(name: str, help_text: str, *labels: str) -> Family:
    return families.counter(f"gpu_{name}", help_text, *_DEVICE, *labels)


DEVICES = families.gauge(
    "gpu_devices",
    "GPUs that are there: those that answer, those that sleep and those whose driver hangs; not those that fell off the"
    " bus.",
)
DEVICES_EXPECTED = families.gauge(
    "gpu_devices_expected",
    "GPUs that should be there: as configured, else the most at once since the exporter started, those that the driver"
    " counts and cannot reach included.",
)
DEVICES_SUSPENDED = families.gauge(
    "gpu_devices_suspended", "GPUs the system has put to sleep. They are not asked anything, so that they sleep on."
)
DEVICES_POLLING_PAUSED = families.gauge(
    "gpu_devices_polling_paused",
    "GPUs that are awake and not asked anything for half a minute, so that they can fall asleep: nobody uses them, and"
    " the system may put them to sleep (laptops).",
)
RESTART_REQUIRED = families.gauge(
    "gpu_restart_required",
    "1 when the NVIDIA driver was replaced while the exporter ran: its library stays loaded until the exporter (or,"
    " where the new driver is not loaded yet, the machine) is restarted; else 0.",
)
INFO = _gauge(
    "info",
    "Always 1; the labels name the GPU. gpu is the driver's index for NVIDIA, the kernel's card name for others.",
    "vendor",
    "name",
    "driver_version",
    "pci_bus_id",
    "vbios_version",
    "compute_capability",
)
UP = _gauge(
    "up",
    "1 when any query of the GPU succeeded, or it sleeps or is left alone to; 0 when all fail, it hangs or is lost.",
)
FIELDS_LOST = _gauge(
    "fields_lost", "Fields that the GPU answered before and fails to answer now; their series are absent meanwhile."
)

MEMORY_TOTAL = _gauge(
    "memory_total_bytes",
    "Memory of the GPU; where memory is unified, that of the host, or (AMD) as much of it as the GPU may take.",
)
MEMORY_USED = _gauge(
    "memory_used_bytes",
    "Memory in use, without what the driver keeps for itself where it tells the two apart; where memory is unified,"
    " what all processes on the GPU hold of it. Servers of models take most of it on purpose.",
)
MEMORY_FREE = _gauge("memory_free_bytes", "Memory nobody holds.")
MEMORY_RESERVED = _gauge("memory_reserved_bytes", "Memory the driver and the firmware keep for themselves.")
UNIFIED_MEMORY = _gauge(
    "unified_memory",
    "1 on a GPU without memory of its own, which shares the host's (GB10, Jetson, AMD's APUs); else absent.",
)
PROCESS_MEMORY = _gauge(
    "process_memory_bytes",
    "Memory that the processes of one name hold: a configured model server's name, else the program's, else (processes"
    " that a container cannot see) unknown. Absent where the system does not say the size of each (WSL2, Windows).",
    "process",
)

UTILIZATION = _gauge(
    "utilization_ratio",
    "Share of the driver's last sampling period (up to 1 s) in which at least one kernel ran. It does not say how much"
    " of the GPU was at work: one thread on one of its processors is 1 as well. See sm_active_ratio, and busy_seconds"
    " for what happens between scrapes.",
)
MEMORY_UTILIZATION = _gauge(
    "memory_utilization_ratio",
    "Share of the driver's last sampling period in which memory was read or written. It is neither how much memory is"
    " in use nor how much of its bandwidth.",
)
BUSY = _counter(
    "busy_seconds",
    "Seconds in which at least one kernel ran, added up from every sample the driver took since the exporter started:"
    " its rate is the mean utilisation, right at any scrape interval. It does not say how much of the GPU was at work.",
)
BUSY_UPDATED = _gauge(
    "busy_updated_timestamp_seconds",
    "When the driver's samples were last added to busy_seconds, in seconds since 1970.",
)
SM_ACTIVE = _gauge(
    "sm_active_ratio",
    "Mean share of the streaming multiprocessors that had work, over the last 10 s or, where"
    " nobody reads that often, since the scrape before (Hopper and later).",
)
SM_OCCUPANCY = _gauge("sm_occupancy_ratio", "Mean share of the possible warps that were resident, over the same time.")
TENSOR_ACTIVE = _gauge(
    "tensor_active_ratio", "Mean share of time in which the tensor cores were at work, over the same time."
)
DRAM_ACTIVE = _gauge(
    "dram_active_ratio",
    "Share of the memory's bandwidth that was used, over the same time: near 1 while decoding.",
)
ENCODER = _gauge("encoder_utilization_ratio", "Share of time in which the video encoder was at work.")
DECODER = _gauge("decoder_utilization_ratio", "Share of time in which the video decoder was at work.")

POWER = _gauge("power_watts", "Power drawn by the whole board; many cards give the mean of the last second.")
POWER_LIMIT = _gauge("power_limit_watts", "The power limit in force.")
ENERGY = _counter(
    "energy_joules",
    "Energy drawn, as the card counts it (since the driver was loaded), else added up from the driver's samples of the"
    " power (since the exporter started).",
)
TEMPERATURE = _gauge("temperature_celsius", "Temperature of each sensor.", "sensor")
TEMPERATURE_LIMIT = _gauge(
    "temperature_limit_celsius",
    "Temperatures at which the GPU does something about it: slows down, shuts down.",
    "type",
)
TEMPERATURE_MARGIN = _gauge(
    "temperature_margin_celsius", "How much warmer the GPU may get before it is slowed down (Ada, Hopper and later)."
)
FAN = _gauge(
    "fan_speed_ratio",
    "Speed of each fan over its highest: what it is told to run at (NVIDIA, AMD), so that a blocked fan does not show,"
    " or what is measured (Intel).",
    "fan",
)
CLOCK = _gauge("clock_hertz", "Clock of each domain right now.", "domain")
CLOCK_MAX = _gauge("clock_max_hertz", "Highest clock of each domain.", "domain")
PERFORMANCE_STATE = _gauge("performance_state", "Performance state: 0 is the fastest, 15 the slowest.")
THROTTLED = _gauge(
    "throttled",
    "1 while the clocks are held down for this reason, else 0. An idle GPU's low clocks are none.",
    "reason",
)
THROTTLED_SECONDS = _counter(
    "throttled_seconds",
    "Seconds in which the clocks were held down for this reason, as the driver counts them. Reasons overlap.",
    "reason",
)

PCIE_RECEIVED = _counter(
    "pcie_receive_bytes",
    "Bytes the GPU received over PCIe, since the exporter started. Before Hopper the driver's own counter wraps at"
    " 4 GiB; it is read every second, so that traffic above 4 GiB/s counts too little.",
)
PCIE_TRANSMITTED = _counter(
    "pcie_transmit_bytes", "Bytes the GPU sent over PCIe, since the exporter started; as pcie_receive_bytes."
)
PCIE_GENERATION = _gauge("pcie_link_generation", "Generation of the PCIe link right now; an idle GPU lowers it.")
PCIE_GENERATION_MAX = _gauge("pcie_link_generation_max", "Highest generation that GPU and slot allow.")
PCIE_WIDTH = _gauge("pcie_link_width", "Lanes of the PCIe link right now.")
PCIE_WIDTH_MAX = _gauge("pcie_link_width_max", "Most lanes that GPU and slot allow.")
PCIE_REPLAYS = _counter("pcie_replays", "PCIe packets that were sent again. A steady rate means a bad connection.")
NVLINK_RECEIVED = _counter("nvlink_receive_bytes", "Bytes of data received over each NVLink.", "link")
NVLINK_TRANSMITTED = _counter("nvlink_transmit_bytes", "Bytes of data sent over each NVLink.", "link")

ECC_ENABLED = _gauge("ecc_enabled", "1 while memory errors are found and corrected (ECC), 0 where it is switched off.")
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
ROW_REMAP_FAILED = _gauge("row_remap_failed", "1 when a memory row could not be replaced: no spare row was left.")
RETIRED_PAGES = _gauge("retired_pages", "Memory pages taken out of use, by cause (before Ampere).", "cause")
RETIRED_PAGES_PENDING = _gauge("retired_pages_pending", "1 when a reboot will take more pages out of use, else 0.")
XID_ERRORS = _counter(
    "xid_errors",
    "Critical errors the driver reported (XID), by code, since the exporter started. NVIDIA's XID catalogue says what"
    " each means; 13, 31 and 43 are usually a program's own fault.",
    "xid",
)
XID_LAST = _gauge("xid_last_timestamp_seconds", "When this XID was last reported, in seconds since 1970.", "xid")
XID_MONITORED = _gauge(
    "xid_monitored", "1 when XIDs of this GPU are waited for: no series of one then means none; else 0."
)
RECOVERY_ACTION = _gauge(
    "recovery_action",
    "What the driver asks for: 0 nothing, 1 reset the GPU, 2 reboot, 3 drain peer-to-peer, 4 drain and reset, 5 recover"
    " IMEX, 6 reset the bus, 7 reboot the system.",
)

_INSTANCE = ("gpu_instance", "profile")
MIG_INFO = _gauge(
    "mig_info",
    "Always 1; gpu_instance is the GPU instance's id, uuid the GPU's, mig_uuid the part's own.",
    *_INSTANCE,
    "mig_uuid",
)
MIG_MEMORY_TOTAL = _gauge("mig_memory_total_bytes", "Memory of the MIG instance.", *_INSTANCE)
MIG_MEMORY_USED = _gauge("mig_memory_used_bytes", "Memory of the MIG instance in use.", *_INSTANCE)
MIG_MEMORY_FREE = _gauge("mig_memory_free_bytes", "Memory of the MIG instance nobody holds.", *_INSTANCE)
MIG_MEMORY_RESERVED = _gauge("mig_memory_reserved_bytes", "Memory of the MIG instance the driver keeps.", *_INSTANCE)
MIG_PROCESS_MEMORY = _gauge(
    "mig_process_memory_bytes",
    "As process_memory_bytes, in the MIG instance alone.",
    *_INSTANCE,
    "process",
)
MIG_SM_ACTIVE = _gauge("mig_sm_active_ratio", "As sm_active_ratio, of the instance's processors.", *_INSTANCE)
MIG_SM_OCCUPANCY = _gauge("mig_sm_occupancy_ratio", "As sm_occupancy_ratio, of the instance.", *_INSTANCE)
MIG_TENSOR_ACTIVE = _gauge("mig_tensor_active_ratio", "As tensor_active_ratio, of the instance.", *_INSTANCE)
MIG_DRAM_ACTIVE = _gauge("mig_dram_active_ratio", "As dram_active_ratio, of the instance.", *_INSTANCE)

ALL: tuple[Family, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Family))
"""Every family, in the order of the page."""
