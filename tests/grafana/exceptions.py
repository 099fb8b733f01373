"""Exceptions from the rules for dashboards, each with its reason."""

from __future__ import annotations

_RANGE = "counts what happened within the dashboard's whole time range ($__range)"

WINDOWS = {
    ("Model host / Overview", "Total requests"): _RANGE,
    ("Model host / Overview", "Response time distribution"): _RANGE,
    ("Model host / Overview", "Models"): _RANGE,
    ("Model host / Overview", "model"): _RANGE,
    ("Model host / Models", "All models"): _RANGE,
    ("Model host / Models", "model"): _RANGE,
    ("Model host / Host", "Hosts"): _RANGE,
    ("Model host / Model servers", "Servers"): _RANGE,
    ("Model host / GPU", "GPUs"): _RANGE,
}
"""Panels whose rate() or increase() has another window than $__rate_interval."""

_JOB_MODEL = "reads recorded buckets of all hosts of a job together, which have no instance"
_EITHER = "if All is selected, reads what is recorded for all hosts of a job together, which has no instance"

NO_INSTANCE = {
    **dict.fromkeys(
        (("Model host / Models", title) for title in ("Response time", "Time to first token", "Time per output token")),
        _JOB_MODEL,
    ),
    **dict.fromkeys(
        (
            *(("Model host / Models", f"{title} p95") for title in ("Response time", "Time to first token")),
            *(("Model host / Models", f"{title} tokens/s") for title in ("Output", "Input")),
            ("Model host / Models", "Time per output token p95"),
            ("Model host / Models", "Requests/s"),
            ("Model host / Models", "Requests in flight"),
            ("Model host / Models", "Mean response time"),
            ("Model host / Models", "Error rate"),
            ("Model host / Models", "SLO attainment"),
            ("Model host / Models", "Budget burn over 1 hour"),
            ("Model host / Models", "Budget burn over 6 hours"),
            ("Model host / Model servers", "Time to first token p95"),
            ("Model host / Model servers", "Time per output token p95"),
            ("Model host / Model servers", "Response time p95"),
        ),
        _EITHER,
    ),
}
"""Panels some of whose selectors have no matcher for instance."""

VARIABLES_THAT_SCOPE = {
    "cluster": "it is what all others are scoped by",
    "job": "it is scoped by the cluster alone",
    "instance": "it is scoped by cluster and job alone",
}
"""Variables whose own query cannot be scoped by job and instance."""

_RECORDED = "shown as a share, through a recorded series"

UNSHOWN = {
    "modelhost_request_errors_total": "for error rates and alerts; requests_total has the same failures by code",
    "modelhost_demo": "for alerts and tables that must exclude simulated hosts",
    "modelhost_slo_objective_ratio": _RECORDED,
    "modelhost_goodput_requests_total": _RECORDED,
    "modelhost_energy_price_per_kwh": "a setting; costs are shown, through recorded series",
    "modelhost_goodput_good_requests_total": _RECORDED,
    "modelhost_proxy_include_usage": "a setting; explains why a server has no token counts",
    "modelhost_engine_kv_cache_capacity_tokens": "a constant of each engine; the share in use is shown",
    "modelhost_engine_several_processes": "usually 0; explains why an engine's counters are missing",
    "modelhost_proxy_upstream_retries_total": "usually 0; the retried requests succeeded",
    "modelhost_gpu_fields_lost": "usually 0; explains a missing series",
    "modelhost_process_descriptor_limit": "process_max_fds has the limit in force",
    "modelhost_gpu_ecc_errors_lifetime_total": "errors since the driver was loaded are shown: those call for action",
    "modelhost_engine_requests_waiting_by_reason": "parts of the waiting requests that are shown; vLLM alone has them",
    "modelhost_engine_input_tokens_recomputed_total": "usually few, and part of the hits that are shown",
    "modelhost_engine_external_cache_lookup_tokens_total": "only with a KV connector; its hits are among those shown",
    "modelhost_engine_external_cache_hit_tokens_total": "only with a KV connector, and part of the hits that are shown",
    "modelhost_infiniband_info": "model and firmware, to be joined with where they matter",
    "modelhost_infiniband_physical_state_id": "explains a port that is not active, which is shown",
    "modelhost_infiniband_port_transmit_wait_total": "in ticks whose length depends on the adapter",
    "modelhost_rapl_core_joules_total": "part of the processor's energy, which is shown",
    "modelhost_rapl_uncore_joules_total": "likewise",
    "modelhost_nvme_data_read_bytes_total": "of the drive's life; the Host dashboard shows what each disk reads",
    "modelhost_nvme_controller_busy_seconds_total": "of the drive's life; the utilisation of each disk is shown",
    "modelhost_nvme_power_cycles_total": "rarely of use",
    "modelhost_nvme_num_err_log_entries_total": "counts harmless errors too; those of stored data are shown",
    "modelhost_textfile_mtime_seconds": "its meaning depends on the program that writes the file",
    "modelhost_textfile_scrape_error": "the log names the file; for alerts",
    "modelhost_netstat_tcp_out_segments_total": "what retransmitted segments are a share of",
    "modelhost_memory_cached_bytes": "includes shared memory, which is used: available - free is shown",
    "modelhost_memory_slab_bytes": "its two parts are shown",
    "modelhost_memory_buffers_bytes": "part of available - free",
    "modelhost_host_disk_read_bytes_total": "recorded for sums over hosts; the Host dashboard shows each disk",
    "modelhost_host_disk_written_bytes_total": "likewise",
    "modelhost_web_config_last_reload_successful": "an alert reports it; the log names the mistake",
    "modelhost_web_config_last_reload_success_timestamp_seconds": "likewise",
    "modelhost_web_certificate_not_after_timestamp_seconds": "an alert reports a certificate that expires soon",
    "modelhost_web_tls_handshakes_failed_total": "explains a target that is down; the log has one of them a minute",
    "modelhost_insecure_listener": "a state of the configuration, of which the log warns",
    "modelhost_gpu_busy_updated_timestamp_seconds": "the age of busy_seconds, for checking its rate",
}
"""Metrics that no dashboard queries by name."""

SHOWN_AS_THEY_ARE = {
    **{
        f"modelhost_nvme_{name}_total": "of the drive's life"
        for name in ("media_errors", "unsafe_shutdowns", "data_written_bytes", "power_on_seconds")
    },
    **{
        f"modelhost_edac_{level}{kind}_errors_total": "few, and those before the time range matter too"
        for level in ("", "dimm_")
        for kind in ("correctable", "uncorrectable")
    },
    "modelhost_gpu_remapped_rows_total": "spare rows that the card has used up over its life",
    "modelhost_gpu_xid_errors_total": "few, and each series starts at 1, of which a rate knows nothing",
}
"""Counters of which a panel shows the value rather than a rate or an increase."""

OF_PROMETHEUS = {"up", "ALERTS", "ALERTS_FOR_STATE", "scrape_duration_seconds", "scrape_samples_scraped"}
"""Series that Prometheus itself writes."""

_H100 = "the simulated cards are H100"
_LISTENERS = "counted by listeners, which a recorded host does not have"
_UNITS = "the collector is off by default; the demo simulates no units"
_ALONE = "a label that only targets of several clusters have"
_NOTHING = "none in these 90 minutes; tests/grafana/test_events.py draws them"
NO_DATA = {
    **{
        (f"Model host / {title}", name): _NOTHING
        for title in ("Overview", "Models", "Host", "GPU", "Model servers", "Exporter")
        for name in ("Exporter restarts", "Configuration reloads", "Host restarts", "GPU driver changes", "Alerts")
    },
    **{
        (f"Model host / {title}", "cluster"): _ALONE
        for title in ("Overview", "Models", "Host", "GPU", "Model servers", "Exporter", "Fleet")
    },
    ("Model host / Host", "Units A"): _UNITS,
    ("Model host / Host", "Restarts of services A"): _UNITS,
    ("Model host / Exporter", "Connections closed for a limit A"): _LISTENERS,
    ("Model host / Exporter", "Connections closed for a limit B"): _LISTENERS,
    ("Model host / Exporter", "Shortages of file descriptors A"): _LISTENERS,
    ("Model host / GPU", "Cards B"): f"{_H100}: memory of their own, none shared with the host",
    ("Model host / GPU", "Fans A"): f"{_H100}: cooled by the server's fans",
    ("Model host / GPU", "Memory repairs F"): f"{_H100}: they remap rows; older cards retire pages",
    ("Model host / GPU", "Memory repairs G"): f"{_H100}: they remap rows; older cards retire pages",
}
"""Queries without data on the demo host, even with all incidents."""
