"""The names in Grafana's own types: ``python -m tests.grafana.type_names FOLDER`` writes them to type_names.json.

FOLDER has the npm packages ``@grafana/schema``, ``ts-json-schema-generator`` and ``typescript`` in ``node_modules``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import unquote

FILE = Path(__file__).with_suffix(".json")
RAW = "node_modules/@grafana/schema/dist/types/raw"
PANELS = ("bargauge", "heatmap", "stat", "statetimeline", "table", "timeseries")
WITH_FIELDS = {"heatmap", "statetimeline", "table", "timeseries"}
ANY = "*"
"""The name that stands for any."""
Names: TypeAlias = dict[str, Any]
"""The names of an object's properties with the names below; without names below, any are allowed."""


def generated(folder: Path, file: str, type_: str) -> Names:
    """Return the names in a type of the package."""
    entry = folder / "entry.ts"
    entry.write_text(
        f"import * as types from './{RAW}/{file}/x/types.gen'; export interface Entry {{ it: types.{type_} }}"
    )
    command = ["node_modules/.bin/ts-json-schema-generator", "--path", entry.name, "--type", "Entry", "--no-type-check"]
    schema = json.loads(subprocess.run(command, cwd=folder, check=True, capture_output=True).stdout)
    names: Names = _names(schema["definitions"]["Entry"], schema["definitions"], ())["it"]
    return names


def _names(schema: Any, definitions: Any, within: tuple[str, ...]) -> Names:
    if "$ref" in schema:
        name = unquote(schema["$ref"].rsplit("/", 1)[1])
        return {} if name in within else _names(definitions[name], definitions, (*within, name))
    found: Names = {}
    for kind in ("anyOf", "allOf", "oneOf"):
        for each in schema.get(kind, ()):
            _merge(found, _names(each, definitions, within))
    if isinstance(schema.get("items"), dict):
        _merge(found, _names(schema["items"], definitions, within))
    for name, below in schema.get("properties", {}).items():
        _merge(found, {name: _names(below, definitions, within)})
    if isinstance(others := schema.get("additionalProperties"), dict):
        _merge(found, {ANY: _names(others, definitions, within)})
    return found


def _merge(names: Names, more: Names) -> None:
    for name, below in more.items():
        _merge(names.setdefault(name, {}), below)


def unknown(names: Names, value: Any, path: str = "") -> list[str]:
    """Return the paths in a value whose names the types do not have."""
    if isinstance(value, list):
        return [each for item in value for each in unknown(names, item, path)]
    if not isinstance(value, dict) or not names:
        return []
    found = []
    for name, below in value.items():
        if name in names or ANY in names:
            found += unknown(names[name if name in names else ANY], below, f"{path}.{name}")
        else:
            found.append(f"{path}.{name}")
    return found


def main(folder: Path) -> None:
    """Write the names of dashboards, rows and each type of panel."""
    names = {
        "dashboard": generated(folder, "dashboard", "Dashboard"),
        "row": generated(folder, "dashboard", "RowPanel"),
    }
    names["dashboard"]["panels"] = names["row"]["panels"] = {}
    for name in PANELS:
        names[name] = generated(folder, "dashboard", "Panel")
        names[name]["options"] = generated(folder, f"composable/{name}/panelcfg", "Options")
        if name in WITH_FIELDS:
            custom = generated(folder, f"composable/{name}/panelcfg", "FieldConfig")
            names[name]["fieldConfig"]["defaults"]["custom"] = custom
    version = json.loads((folder / "node_modules/@grafana/schema/package.json").read_text())["version"]
    lines = [f' "{name}": {json.dumps(below, sort_keys=True)}' for name, below in sorted(names.items())]
    FILE.write_text(",\n".join(['{\n "version": ' + json.dumps(version), *lines]) + "\n}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
