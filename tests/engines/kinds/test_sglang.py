from __future__ import annotations

from modelhost_exporter.engines.kinds.sglang import snapshot
from tests.support.pages import pages


def test_ranks_of_one_engine_count_once() -> None:
    """Tensor-parallel ranks report the same requests and count once; data-parallel engines are summed."""
    lines = [
        f'sglang:{name}{{model_name="m",tp_rank="{tp}",dp_rank="{dp}"}} {value}'
        for name, value in (("num_running_reqs", 3), ("max_total_num_tokens", 100))
        for tp in (0, 1)
        for dp in (0, 1)
    ]
    lines += ['sglang:generation_tokens_total{model_name="m"} 50']
    engine = snapshot({**pages("sglang"), "/metrics": "\n".join(lines).encode()}.__getitem__).engine
    assert (engine.requests_running, engine.kv_cache_capacity_tokens, engine.output_tokens) == (6, 200, 50)
