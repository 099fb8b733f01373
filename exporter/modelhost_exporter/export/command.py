"""``modelhost-exporter export``: write the files, and say what was written and what still needs an address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.export import contents, writing

if TYPE_CHECKING:
    from modelhost_exporter.export.arguments import ExportArguments

_RELATIVE = ("runbook_url: prometheus/", "dashboard: /d/")
"""Links in rules that no address was given for."""
_OPTIONS = ("--runbook-base-url", "--grafana-url")


def run(given: ExportArguments) -> str:
    """Write the files and return the report; raises writing.CannotExport."""
    files = contents.files(given.kind, given.links)
    changed = writing.write(given.folder, files, force=given.force)
    lines = [*map(str, changed), f"{len(changed)} files written, {len(files) - len(changed)} unchanged"]
    options = [
        option for link, option in zip(_RELATIVE, _OPTIONS, strict=True) if any(link in text for text in files.values())
    ]
    if options:
        lines.append(f"links of alerts are relative: {' and '.join(options)} make them absolute")
    return "".join(f"{line}\n" for line in lines)
