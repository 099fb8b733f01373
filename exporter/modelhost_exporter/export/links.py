"""Addresses and names of the installation, entered into the exported files."""

from __future__ import annotations

import json
import string
from dataclasses import dataclass

from modelhost_exporter.config.http_url import ServerUrl

DEFAULT_JOB = "modelhost"

_RUNBOOK = "runbook_url: prometheus/runbook.md"
_DASHBOARD = "dashboard: /d/"
_GRAFANA_KEY = "grafana_url: null"
_ANY_JOB = ".*modelhost.*"
_OF_JOBS = frozenset(string.ascii_letters + string.digits + "_.:/-")
_OF_URLS = frozenset(string.ascii_letters + string.digits + "-._~:/[]!$&()*+,;=%")


@dataclass(frozen=True)
class Links:
    """What the exported files refer to; None leaves the shipped, relative form."""

    runbook: str | None = None
    """The URL of the page with the runbook."""
    grafana: str | None = None
    """The URL of Grafana."""
    job: str = DEFAULT_JOB
    """The name of the scrape job."""

    def in_rules(self, text: str) -> str:
        """Return rules whose annotations have absolute links, and which cover the job whatever its name is."""
        if self.runbook:
            text = text.replace(_RUNBOOK, f"runbook_url: {self.runbook}")
        if self.grafana:
            text = text.replace(_DASHBOARD, f"dashboard: {self.grafana}/d/")
        return self._with_job(text)

    def in_dashboard(self, text: str) -> str:
        """Return a dashboard that shows the job, unless it has the default name."""
        if self.job == DEFAULT_JOB:
            return text
        board = json.loads(self._with_job(text))
        for variable in board["templating"]["list"]:
            if variable["name"] == "job":
                variable["current"] = {"text": [self.job], "value": [self.job]}
        return json.dumps(board, indent=2, ensure_ascii=False) + "\n"

    def in_scrapes(self, text: str) -> str:
        """Return the settings of Prometheus with the name of the job."""
        return text.replace(f"job_name: {DEFAULT_JOB} ", f"job_name: {self.job} ")

    def in_config(self, text: str) -> str:
        """Return the exporter's configuration, whose live page links to Grafana."""
        return text.replace(_GRAFANA_KEY, f"grafana_url: {self.grafana}") if self.grafana else text

    def _with_job(self, text: str) -> str:
        """Add the job to the pattern for the exporter's jobs, which are those with modelhost in their name."""
        if DEFAULT_JOB in self.job:
            return text
        return text.replace(_ANY_JOB, f"{_ANY_JOB}|{self.job.replace('.', '[.]')}")


def link_url(text: str) -> str:
    """Return a URL without a slash at its end; raises ValueError for one that YAML or a template would change."""
    url = ServerUrl.from_text(text).text
    if set(url) - _OF_URLS:
        raise ValueError(f"{url!r} has characters that URLs write as %XX")
    return url


def job_name(text: str) -> str:
    """Return the name of a job; raises ValueError for one that needs quotes in YAML, JSON or a query."""
    if not text or set(text) - _OF_JOBS:
        raise ValueError(f"{text!r} is not a job's name of letters, digits and _ . : / -")
    return text
