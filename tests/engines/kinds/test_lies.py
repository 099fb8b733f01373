from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from modelhost_exporter.engines import kinds
from modelhost_exporter.engines.pages import PollPolicy
from tests.support.pages import SERVERS, pages

WORST = (10**400, "\ud800")  # more than a float holds; text that no page of metrics could carry
ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.sampled_from(WORST)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=15, deadline=None)
@given(data=st.data(), folder=st.sampled_from(sorted(SERVERS)))
def test_lies_about_types_never_raise_anything_unexpected(data: st.DataObject, folder: str) -> None:
    """Whatever JSON a page has, a snapshot has finite numbers and text only, or the page is rejected."""
    served = pages(folder)
    path = data.draw(st.sampled_from(sorted(path for path, body in served.items() if body[:1] in b"{[")))
    document = json.loads(served[path])
    broken = data.draw(ANYTHING | st.just(document).map(lambda whole: _replaced(whole, data.draw(ANYTHING))))
    served[path] = json.dumps(broken).encode()
    try:
        found = kinds.engine_kind(SERVERS[folder]).snapshot(served.__getitem__, PollPolicy("on"))
    except (LookupError, ValueError):
        return
    for model in found.models:
        assert isinstance(model.name, str)
        assert model.name.encode()
        for number in (model.vram_bytes, model.ram_bytes, model.context_length, model.expires, model.load_seconds):
            assert number is None or (isinstance(number, float) and math.isfinite(number))
        for text in (model.quantization, model.family, model.parameters, model.format, *model.aliases):
            assert isinstance(text, str)
            text.encode()


def _replaced(document: Any, lie: Any) -> Any:
    """Return the document with every plain value replaced by a lie."""
    if isinstance(document, dict):
        return {key: _replaced(value, lie) for key, value in document.items()}
    if isinstance(document, list):
        return [_replaced(value, lie) for value in document]
    return lie
