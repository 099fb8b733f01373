"""Metrics that other programs write to files (*.prom) in a folder, as for node_exporter."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - an option's type, which is read at run time
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client.metrics_core import Metric

from modelhost_exporter.collector import Collector, CollectorContext, CollectorOptions, Unavailable
from modelhost_exporter.logs.state_log import StateLog
from modelhost_exporter.metrics.families import NAMESPACE, gauge
from modelhost_exporter.metrics.text_format import ParsedFamily, Series, parse_text, series_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MODIFIED = gauge(
    "textfile_mtime_seconds",
    "Time at which the file was last modified, in seconds since 1970.",
    "file",
    note="Alert on its age, to notice a program that no longer writes its file.",
)
ERROR = gauge(
    "textfile_scrape_error",
    "1 when a file or the folder could not be read or was left out, else 0.",
    note="The log names the file and the line. What other files have is exported all the same.",
)
FAMILIES = (MODIFIED, ERROR)

_MAX_FILES, _MAX_FILE_BYTES, _MAX_SAMPLES = 256, 2**20, 50_000
_RESERVED = (NAMESPACE, "process_", "python_")
"""The beginnings of the exporter's own names."""
_TOTAL = "_total"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TextfileOptions(CollectorOptions):
    """The folder."""

    directory: Path | None = None
    """None: there is nothing to measure."""


OPTIONS = TextfileOptions


class _Version(NamedTuple):
    """What changes when a file is written anew."""

    inode: int
    size: int
    modified_ns: int
    changed_ns: int
    """Of its permissions too."""


class _File(NamedTuple):
    """A file that was read: its version and families, or the reason why it is left out."""

    version: _Version
    families: Mapping[str, ParsedFamily]
    problem: str = ""


class TextfileCollector:
    """The families of all files; a file that is not valid, or repeats what another has, is left out as a whole.

    A file is parsed when it has changed. Programs must write another file and rename it, or half a file is read.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._files: dict[Path, _File] = {}
        self._problems: StateLog[str] = StateLog("")

    def collect(self) -> Iterator[Metric]:
        """Yield the families of the files, when each was modified, and whether all is well."""
        if self._directory is None:
            raise Unavailable("collectors.textfile.directory is not set")
        problems = dict.fromkeys(self._files, "")
        try:
            paths = sorted(path for path in self._directory.iterdir() if path.suffix == ".prom")
        except OSError as error:
            paths, problems[self._directory] = [], str(error)
        else:
            problems[self._directory] = f"more than {_MAX_FILES} files" if len(paths) > _MAX_FILES else ""
        self._files = {path: self._read(path) for path in paths[:_MAX_FILES]}
        page = _Page()
        for path, file in self._files.items():
            problems[path] = file.problem or page.add(file.families)
        self._report(problems)
        yield from page.metrics()
        yield from MODIFIED.by(
            ((str(path),), file.version.modified_ns / 1e9) for path, file in self._files.items() if not problems[path]
        )
        yield from ERROR.of(float(any(problems.values())))

    def _read(self, path: Path) -> _File:
        """Return a file as parsed before if it has not changed."""
        version = _Version(0, 0, 0, 0)
        try:
            status = path.stat()
            version = _Version(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            before = self._files.get(path)
            if before is not None and before.version == version:
                return before
            return _File(version, _checked(parse_text(_content(path))))
        except (OSError, ValueError) as error:
            return _File(version, {}, str(error))

    def _report(self, problems: Mapping[Path, str]) -> None:
        """Log each change of a file's problem once."""
        for path, problem in problems.items():
            if self._problems.changed(problem, str(path)):
                fields = {"fields": {"file": str(path), "problem": problem}}
                if problem:
                    log.warning("a file with metrics is left out", extra=fields)
                else:
                    log.info("a file with metrics is read again", extra=fields)


class _Page:
    """The families of the files so far."""

    def __init__(self) -> None:
        self._families: dict[str, ParsedFamily] = {}
        self._owners: dict[str, str] = {}
        self._series: set[Series] = set()

    def add(self, families: Mapping[str, ParsedFamily]) -> str:
        """Add the families of a file; return why it is left out, or ''."""
        added = {series_of(sample) for family in families.values() for sample in family.samples}
        if len(self._series) + len(added) > _MAX_SAMPLES:
            return f"with this file there are more than {_MAX_SAMPLES} samples"
        if repeated := added & self._series:
            return f"{min(repeated)[0]}: another file has the same series"
        for family in families.values():
            if problem := self._clash(family):
                return problem
        self._series |= added
        for family in families.values():
            known = self._families.setdefault(family.name, ParsedFamily(family.name, family.type, family.help))
            known.samples += family.samples
            self._owners |= dict.fromkeys(family.names(), family.name)
        return ""

    def _clash(self, family: ParsedFamily) -> str:
        known = self._families.get(family.name)
        if known is not None and (known.type, known.help) != (family.type, family.help):
            return f"{family.name}: another file has it with another type or HELP"
        others = {self._owners.get(name, family.name) for name in family.names()} - {family.name}
        return f"{family.name}: its name is taken by {min(others)} of another file" if others else ""

    def metrics(self) -> Iterator[Metric]:
        """Yield the families."""
        for family in self._families.values():
            help_text = "Metric read from a file." if family.help is None else family.help
            kind = family.type if _is_counter(family) else _OTHER_TYPES.get(family.type, family.type)
            metric = Metric(family.name.removesuffix(_TOTAL) if _is_counter(family) else family.name, help_text, kind)
            metric.samples = family.samples
            yield metric


_OTHER_TYPES = {"untyped": "unknown", "counter": "unknown"}


def _is_counter(family: ParsedFamily) -> bool:
    """Return whether a family can be written as a counter; one without _total in its name has no type then."""
    return family.type == "counter" and family.name.endswith(_TOTAL)


def _content(path: Path) -> str:
    if not path.is_file():  # opening a pipe waits
        raise ValueError("not a regular file")
    with path.open("rb") as file:
        content = file.read(_MAX_FILE_BYTES + 1)
    if len(content) > _MAX_FILE_BYTES:
        raise ValueError(f"larger than {_MAX_FILE_BYTES} bytes")
    return content.decode("utf-8")


def _checked(families: dict[str, ParsedFamily]) -> dict[str, ParsedFamily]:
    """Return the families; ValueError for a name of the exporter's own."""
    for name in families:
        if name.startswith(_RESERVED):
            raise ValueError(f"{name}: names of the exporter itself are not allowed")
    return families


def create(options: TextfileOptions, _context: CollectorContext) -> Collector:
    """Build the collector of text files."""
    return TextfileCollector(options.directory)
