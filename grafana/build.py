"""Write the JSON of the dashboards: ``python -m grafana.build [--check]``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from grafana import exporter, fleet, gpu, host, model_servers, models, overview

if TYPE_CHECKING:
    from collections.abc import Sequence

FOLDER = Path(__file__).parent / "dashboards"
BOARDS = {
    "overview": overview.board,
    "models": models.board,
    "host": host.board,
    "gpu": gpu.board,
    "model-servers": model_servers.board,
    "exporter": exporter.board,
    "fleet": fleet.board,
}


def main(arguments: Sequence[str], folder: Path = FOLDER) -> int:
    """Write each dashboard to a file of its own; with ``--check`` return 1 when a file would change."""
    texts = {folder / f"{name}.json": json.dumps(board().json(), indent=2) + "\n" for name, board in BOARDS.items()}
    stale = [path for path, text in texts.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    unknown = sorted(set(folder.glob("*.json")) - set(texts))
    if "--check" in arguments:
        for path in (*stale, *unknown):
            print(f"{path.name} is not up to date: run python -m grafana.build", file=sys.stderr)  # noqa: T201 - for a person
        return 1 if stale or unknown else 0
    for path in stale:
        path.write_text(texts[path], encoding="utf-8")
    for path in unknown:
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
