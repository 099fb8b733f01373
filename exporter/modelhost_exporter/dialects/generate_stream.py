"""The streamed form of native text generation (TGI, Triton, KoboldCpp), which its path alone requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.dialects import generate
from modelhost_exporter.dialects.contract import Call

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelhost_exporter.dialects.contract import Operation

NAME = "generate_stream"
PATHS: Mapping[str, Operation] = {
    "/generate_stream": "generate",
    "/api/extra/generate/stream": "generate",  # KoboldCpp
}

reply = generate.reply


def call(body: bytes) -> Call | None:
    """Parse a request body: the model."""
    parsed = generate.call(body)
    return None if parsed is None else Call(parsed.model, stream=True)
