"""The file systems of the message: those with models, that at /, and the largest others."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter.live.host import percent

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from modelhost_exporter.live.family_lookup import Families
    from modelhost_exporter.live.message import DiskUsage, FileSystem
    from modelhost_exporter.live.model_folders import ModelFolder

MAX_FILE_SYSTEMS = 6
_LABELS = ("device", "mountpoint", "fstype")

_Key = tuple[str, ...]
"""Device, mount point and type."""


def disk_usage(families: Families) -> DiskUsage | None:
    """Return the space of the file system at ``/``, or of the largest where that is not measured, computed like df."""
    spaces = _Spaces.of(families)
    if not spaces.sizes:
        return None
    chosen = next((key for key in spaces.sizes if key[1] == "/"), None) or max(spaces.sizes, key=spaces.size)
    return {"used": spaces.used(chosen), "total": spaces.size(chosen), "percent": spaces.percent(chosen)}


def file_systems(families: Families, folders: Sequence[ModelFolder]) -> list[FileSystem]:
    """Return the file systems with models first, then that at ``/`` and the largest, each once."""
    spaces = _Spaces.of(families)
    models = _titles_by_mountpoint(folders, [key[1] for key in spaces.every])

    def order(key: _Key) -> tuple[bool, bool, float, str]:
        return key[1] not in models, key[1] != "/", -spaces.size(key), key[1]

    chosen: dict[object, _Key] = {}
    for key in sorted(spaces.every, key=order):
        size = spaces.sizes.get(key)
        chosen.setdefault(key if size is None else (key[0], size), key)  # one for each device: mounted again elsewhere
    return [spaces.message(key, models.get(key[1], [])) for key in list(chosen.values())[:MAX_FILE_SYSTEMS]]


def _titles_by_mountpoint(folders: Iterable[ModelFolder], mountpoints: Collection[str]) -> dict[str, list[str]]:
    """Return the titles of folders by the mount point that each folder is below."""
    found: dict[str, list[str]] = {}
    for folder in folders:
        above = [point for point in mountpoints if f"{folder.path}/".startswith(f"{point.rstrip('/')}/")]
        if above:
            titles = found.setdefault(max(above, key=len), [])
            if folder.title not in titles:
                titles.append(folder.title)
    return found


class _Spaces(NamedTuple):
    """The space of every file system."""

    sizes: Mapping[_Key, float]
    free: Mapping[_Key, float]
    available: Mapping[_Key, float]
    readonly: Mapping[_Key, float]
    errors: Mapping[_Key, float]

    @classmethod
    def of(cls, families: Families) -> _Spaces:
        """Return those of the collector's families."""
        names = ("size_bytes", "free_bytes", "available_bytes", "readonly", "device_error")
        return cls(*(families.by(f"filesystem_{name}", *_LABELS) for name in names))

    @property
    def every(self) -> list[_Key]:
        """Those with a size, and those that do not respond."""
        return [*self.sizes, *(key for key, failed in self.errors.items() if failed and key not in self.sizes)]

    def size(self, key: _Key) -> float:
        """Return the size in bytes; 0 where it is not known."""
        return self.sizes.get(key, 0.0)

    def used(self, key: _Key) -> float | None:
        """Return the used space in bytes."""
        size, free = self.sizes.get(key), self.free.get(key)
        return None if size is None or free is None else size - free

    def percent(self, key: _Key) -> float | None:
        """Return the used space in percent of what unprivileged users can use."""
        used, available = self.used(key), self.available.get(key)
        return percent(used, None if used is None or available is None else used + available)

    def message(self, key: _Key, models: list[str]) -> FileSystem:
        """Return one file system."""
        return {
            "mountpoint": key[1],
            "used": self.used(key),
            "total": self.sizes.get(key),
            "available": self.available.get(key),
            "percent": self.percent(key),
            "readOnly": bool(self.readonly.get(key)),
            "models": models,
        }
