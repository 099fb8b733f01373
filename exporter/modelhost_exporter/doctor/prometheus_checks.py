"""Examine a Prometheus that scrapes exporters: its jobs, its targets, and the rules that it has loaded.

Source: Prometheus' HTTP API (status/config, targets, rules), as of 2.42 to 3.16.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Any

import yaml

from modelhost_exporter.connect_errors import cause_of
from modelhost_exporter.doctor.findings import Finding
from modelhost_exporter.engines.polling.fetching import Fetcher
from modelhost_exporter.untrusted_json import parse_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from modelhost_exporter.engines.polling.fetching import Client

_TIMEOUT_SECONDS = 10.0
_MAX_BYTES = 32 << 20
_GRAFANA_DEFAULT = "15s"
"""The scrape interval that Grafana assumes unless its data source says another."""
_CONVERTS, _KEEPS_CLASSIC = "convert_classic_histograms_to_nhcb", "always_scrape_classic_histograms"
_MAX_NAMED = 3

Json = dict[str, Any]


def check(url: str, rules: Mapping[str, str]) -> Iterator[Finding]:
    """Yield findings about the Prometheus at a URL; ``rules`` are the shipped files of rules, by their names."""
    with contextlib.closing(Fetcher(url, {}, _TIMEOUT_SECONDS, _MAX_BYTES)) as client:
        try:
            yield from _check(client, rules)
        except (OSError, LookupError, ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
            reason = cause_of(error) if isinstance(error, OSError) else error
            yield Finding("problem", "prometheus", url, f"it does not respond as a Prometheus: {reason}")


def _check(client: Client, rules: Mapping[str, str]) -> Iterator[Finding]:
    series = _get(client, "query?query=modelhost_build_info")["result"]
    jobs = sorted({one["metric"].get("job", "") for one in series})
    if not jobs:
        yield Finding("problem", "job", "", "it has scraped no exporter: modelhost-exporter export prometheus DIR")
        return
    settings = yaml.safe_load(_get(client, "status/config")["yaml"]) or {}
    for job in jobs:
        yield from _job(job, settings)
    yield from _targets(_get(client, "targets?state=active")["activeTargets"], jobs)
    yield from _rules(_get(client, "rules")["groups"], rules)


def _get(client: Client, path: str) -> Json:
    """Return what a page of the API has as data."""
    answer = parse_json(client.get(f"/api/v1/{path}"))
    if not isinstance(answer, dict) or not isinstance(answer.get("data"), dict):
        raise ValueError(f"/api/v1/{path} has no data")  # noqa: TRY004 - of what another program sent
    data: Json = answer["data"]
    return data


def _job(job: str, settings: Json) -> Iterator[Finding]:
    """Yield findings about the settings of a job."""
    everywhere = settings.get("global") or {}
    found = next((one for one in settings.get("scrape_configs") or () if one.get("job_name") == job), None)
    if found is None:  # its label was set by relabelling, or it is in another Prometheus
        yield Finding("absent", "job", job, "its settings are not those of a job of this name")
        return

    def setting(name: str) -> Any:
        return found.get(name, everywhere.get(name))

    interval = setting("scrape_interval") or "1m"
    detail = f"scraped every {interval}"
    if interval != _GRAFANA_DEFAULT:
        detail += f": Grafana's data source needs this as its scrape interval ({_GRAFANA_DEFAULT} by default)"
    yield Finding("ok", "job", job, detail)
    if setting(_CONVERTS) and not setting(_KEEPS_CLASSIC):
        yield Finding(
            "problem",
            "job",
            job,
            f"{_CONVERTS} removes the buckets that rules and dashboards read: add {_KEEPS_CLASSIC}: true",
        )
    if setting("honor_labels"):
        yield Finding("problem", "job", job, "honor_labels lets series replace the labels job and instance: remove it")


def _targets(targets: list[Json], jobs: list[str]) -> Iterator[Finding]:
    """Yield problems of targets: those that cannot be scraped, and those that several jobs scrape."""
    ours = [target for target in targets if target["labels"].get("job") in jobs]
    for target in ours:
        if target.get("health") == "down":
            yield Finding("problem", "target", target["scrapeUrl"], target.get("lastError") or "it is down")
    for address, count in Counter(target["scrapeUrl"] for target in ours).items():
        if count > 1:
            yield Finding(
                "problem", "target", address, f"{count} jobs or entries scrape it: sums count it {count} times"
            )


def _rules(groups: list[Json], shipped: Mapping[str, str]) -> Iterator[Finding]:
    """Yield findings about rules: those that fail, and those of ours that are not loaded."""
    loaded = {rule["name"] for group in groups for rule in group["rules"]}
    for group in groups:
        for rule in group["rules"]:
            if rule.get("health") == "err":
                yield Finding("problem", "rule", rule["name"], rule.get("lastError") or "it fails")
    for name, text in shipped.items():
        wanted = [
            rule.get("record") or rule["alert"] for group in yaml.safe_load(text)["groups"] for rule in group["rules"]
        ]
        missing = sorted({rule for rule in wanted if rule not in loaded})
        if missing:
            more = f" and {len(missing) - _MAX_NAMED} more" if len(missing) > _MAX_NAMED else ""
            detail = f"not loaded: {', '.join(missing[:_MAX_NAMED])}{more}: modelhost-exporter export rules DIR"
            yield Finding("problem", "rules", name, detail)
        else:
            yield Finding("ok", "rules", name, f"all {len(wanted)} are loaded")
