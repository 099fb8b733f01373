"""What the live feed reads of the machine besides the families of the collectors: a source for each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from modelhost_exporter.live import processes
from modelhost_exporter.live.host_identity import host_identity
from modelhost_exporter.live.model_folders import ModelFolders

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from modelhost_exporter.collector import Paths
    from modelhost_exporter.live.message import HostIdentity
    from modelhost_exporter.live.model_folders import ModelFolder
    from modelhost_exporter.live.processes import ProcessSource


@dataclass(frozen=True)
class HostSources:
    """The sources of one machine."""

    identity: Callable[[], HostIdentity]
    """Returns what does not change while the exporter runs; may block for a moment the first time."""
    model_folders: Callable[[], Sequence[ModelFolder]]
    """Returns the folders of models that were found; never blocks."""
    processes: ProcessSource


def this_machine(paths: Callable[[], Paths]) -> HostSources:
    """Return the sources of this machine; ``paths`` returns where its files are mounted."""
    return HostSources(cache(lambda: host_identity(paths())), ModelFolders(paths), processes.this_machine(paths))
