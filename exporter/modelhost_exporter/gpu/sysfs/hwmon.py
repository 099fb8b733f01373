"""Temperatures of a GPU from hwmon, which AMD's and Intel's drivers share.

Source: Linux Documentation/hwmon/sysfs-interface.rst.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.gpu import families
from modelhost_exporter.gpu.contract import Value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from modelhost_exporter.gpu.sysfs.folder import SysfsFolder

_MILLI = 1e-3


def temperatures(hwmon: SysfsFolder, sensors: Mapping[str, str], limits: Mapping[str, str]) -> Iterator[Value]:
    """Yield each sensor's temperature and limits.

    ``sensors`` maps the kernel's labels to names of sensors, ``limits`` the suffixes of files to names of limits.
    """
    for path in sorted(hwmon.path.glob("temp*_input")):
        prefix = path.name.removesuffix("_input")
        label = hwmon.text(f"{prefix}_label") or prefix
        sensor = sensors.get(label, label)
        yield Value(families.TEMPERATURE, (sensor,), hwmon.number(path.name, _MILLI))
        for suffix, limit in limits.items():
            number = hwmon.number(f"{prefix}_{suffix}", _MILLI)
            yield Value(families.TEMPERATURE_LIMIT, (f"{sensor}_{limit}",), number or None)
