from __future__ import annotations

import json
from typing import Any

import pytest

from modelhost_exporter.engines.kinds.lmstudio import snapshot


def model(*parallel: int | None, kind: str = "llm") -> dict[str, Any]:
    """Return the entry of a model that is loaded so many times."""
    instances = [{"id": "m", "config": {} if limit is None else {"parallel": limit}} for limit in parallel]
    return {"key": "m", "type": kind, "loaded_instances": instances}


@pytest.mark.parametrize(
    ("models", "capacity"),
    [
        ([model(4), model()], 4),
        ([model(4, 2), model(1)], 7),
        ([model(4), model(None, kind="embedding")], 4),
        ([model(4), model(None)], None),
        ([model()], None),
        ([model(0)], None),
    ],
)
def test_what_loaded_models_run_side_by_side_is_the_capacity(
    models: list[dict[str, Any]], capacity: float | None
) -> None:
    """Limits of loaded models are added up; unknown where one does not report it; embedding models have none."""
    served = {"/api/v1/models": json.dumps({"models": models}).encode()}
    assert snapshot(served.__getitem__).engine.request_capacity == capacity
