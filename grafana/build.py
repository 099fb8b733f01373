"""Write the JSON of the dashboards: ``python -m grafana.build [--check]``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from grafana import exporter, fleet, gpu, host, model_servers, models, overview

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FOLDER = Path(__file__).parent / "dashboards"
_LIVE_REFRESH = "5s"
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
    texts = dict(_texts(folder))
    stale = [path for path, text in texts.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    unknown = sorted({*folder.glob("*.json"), *live(folder).glob("*.json")} - set(texts))
    if "--check" in arguments:
        for path in (*stale, *unknown):
            print(f"{path.name} is not up to date: run python -m grafana.build", file=sys.stderr)  # noqa: T201 - for a person
        return 1 if stale or unknown else 0
    for path in stale:
        path.parent.mkdir(exist_ok=True)
        path.write_text(texts[path], encoding="utf-8")
    for path in unknown:
        path.unlink()
    return 0


def live(folder: Path = FOLDER) -> Path:
    """Return the folder of the same dashboards for a scrape every two seconds: they refresh more often."""
    return folder.with_name(f"{folder.name}-live")


def _texts(folder: Path) -> Iterator[tuple[Path, str]]:
    for name, board in BOARDS.items():
        yield folder / f"{name}.json", json.dumps(board().json(), indent=2) + "\n"
        yield live(folder) / f"{name}.json", json.dumps(board().json(_LIVE_REFRESH), indent=2) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
