"""What a poll of each real capture shows: every sample of every family, worked out by hand from the page.

Histograms as count and sum; without the labels ``server`` and ``upstream``, and without the time of the poll.
"""

from __future__ import annotations

_VLLM_IDLE = """
engine_up 1
engine_several_processes 0
engine_info{kind=vllm,version=0.32.0} 1
engine_requests_running 0
engine_requests_waiting 0
engine_requests_waiting_by_reason{reason=capacity} 0
engine_requests_waiting_by_reason{reason=deferred} 0
engine_kv_cache_usage_ratio 0
engine_input_tokens_total{cache=miss} 0
engine_input_tokens_total{cache=hit} 0
engine_external_cache_lookup_tokens_total 0
engine_external_cache_hit_tokens_total 0
engine_output_tokens_total 0
engine_prefill_seconds_total 0
engine_decode_seconds_total 0
engine_preemptions_total 0
engine_requests_finished_total{finish_reason=stop} 0
engine_requests_finished_total{finish_reason=length} 0
engine_requests_finished_total{finish_reason=error} 0
engine_requests_finished_total{finish_reason=other} 0
engine_time_to_first_token_seconds_count 0
engine_time_to_first_token_seconds_sum 0
engine_inter_token_latency_seconds_count 0
engine_inter_token_latency_seconds_sum 0
engine_time_per_output_token_seconds_count 0
engine_time_per_output_token_seconds_sum 0
engine_request_duration_seconds_count 0
engine_request_duration_seconds_sum 0
engine_request_queue_seconds_count 0
engine_request_queue_seconds_sum 0
engine_request_prefill_seconds_count 0
engine_request_prefill_seconds_sum 0
engine_request_decode_seconds_count 0
engine_request_decode_seconds_sum 0
"""


def _samples(text: str) -> dict[str, float]:
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in text.split("\n") if line)}


def _model(name: str, context: int) -> str:
    return (
        f"model_info{{model={name},quantization=,family=,parameters=,format=}} 1\n"
        f"model_loaded{{model={name}}} 1\n"
        f"model_loads_total{{model={name}}} 0\n"
        f"model_unloads_total{{model={name}}} 0\n"
        f"model_context_length_tokens{{model={name}}} {context}\n"
    )


_IDLE = _samples(_VLLM_IDLE)

_EXPECTED: dict[str, dict[str, float]] = {
    # 32,768 blocks of 128 tokens
    "vllm-0.32/idle": _IDLE | _samples(_model("tiny", 1024)) | {"engine_kv_cache_capacity_tokens": 4_194_304},
    # hybrid: 65,536 blocks of 128 tokens would be 8,388,608, but the engine says how much really fits
    "vllm-0.32/gemma": _IDLE | _samples(_model("gemma", 1024)) | {"engine_kv_cache_capacity_tokens": 1_266_204},
    # 13 requests, one with n=3: 15 sequences; two were aborted and are missing
    "vllm-0.32/after": _IDLE
    | _samples(
        _model("tiny", 1024)
        + """
engine_kv_cache_capacity_tokens 4194304
engine_input_tokens_total{cache=miss} 1099
engine_output_tokens_total 163
engine_prefill_seconds_total 0.2945402039997589
engine_decode_seconds_total 1.889391759999853
engine_requests_finished_total{finish_reason=length} 15
engine_time_to_first_token_seconds_count 15
engine_time_to_first_token_seconds_sum 0.5606307983398438
engine_inter_token_latency_seconds_count 148
engine_inter_token_latency_seconds_sum 1.889391759999853
engine_time_per_output_token_seconds_count 15
engine_time_per_output_token_seconds_sum 0.17923828898868788
engine_request_duration_seconds_count 15
engine_request_duration_seconds_sum 2.431680917739868
engine_request_queue_seconds_count 15
engine_request_queue_seconds_sum 0.00037160999954721774
engine_request_prefill_seconds_count 15
engine_request_prefill_seconds_sum 0.2945402039997589
engine_request_decode_seconds_count 15
engine_request_decode_seconds_sum 1.889391759999853
"""
    ),
    "vllm-0.32/api2": _IDLE
    | _samples(
        _model("api2", 1024)
        + """
engine_kv_cache_capacity_tokens 4194304
engine_input_tokens_total{cache=miss} 664
engine_output_tokens_total 160
engine_prefill_seconds_total 0.09053354099978606
engine_decode_seconds_total 0.5395888649993594
engine_requests_finished_total{finish_reason=length} 8
engine_time_to_first_token_seconds_count 8
engine_time_to_first_token_seconds_sum 0.3663961887359619
engine_inter_token_latency_seconds_count 152
engine_inter_token_latency_seconds_sum 0.5395888649993594
engine_time_per_output_token_seconds_count 8
engine_time_per_output_token_seconds_sum 0.02839941394733471
engine_request_duration_seconds_count 8
engine_request_duration_seconds_sum 0.8987827301025391
engine_request_queue_seconds_count 8
engine_request_queue_seconds_sum 0.0003079220002746297
engine_request_prefill_seconds_count 8
engine_request_prefill_seconds_sum 0.09053354099978606
engine_request_decode_seconds_count 8
engine_request_decode_seconds_sum 0.5395888649993594
"""
    ),
    # two engines, whose numbers are added up; num_gpu_blocks is that of both already: 65,536 blocks of 128 tokens
    "vllm-0.32/dp2": _IDLE
    | _samples(
        _model("tiny", 1024)
        + """
engine_requests_running 1
engine_kv_cache_usage_ratio 1.5259254737998162e-05
engine_kv_cache_capacity_tokens 8388608
engine_input_tokens_total{cache=miss} 1797
engine_input_tokens_total{cache=hit} 768
engine_output_tokens_total 586
engine_prefill_seconds_total 5.958837153999639
engine_decode_seconds_total 2.804058357000031
engine_speculative_drafts_total 101
engine_speculative_draft_tokens_total 297
engine_speculative_accepted_tokens_total 0
engine_requests_finished_total{finish_reason=stop} 2
engine_requests_finished_total{finish_reason=length} 21
engine_time_to_first_token_seconds_count 25
engine_time_to_first_token_seconds_sum 6.356122732162476
engine_inter_token_latency_seconds_count 559
engine_inter_token_latency_seconds_sum 3.9827011849999963
engine_time_per_output_token_seconds_count 23
engine_time_per_output_token_seconds_sum 0.14757299021811726
engine_request_duration_seconds_count 23
engine_request_duration_seconds_sum 9.12759518623352
engine_request_queue_seconds_count 23
engine_request_queue_seconds_sum 0.0018337450001126854
engine_request_prefill_seconds_count 23
engine_request_prefill_seconds_sum 5.958837153999639
engine_request_decode_seconds_count 23
engine_request_decode_seconds_sum 2.804058357000031
"""
    ),
    # the page counts itself as a request in flight. A model of api_provider text-completion-openai never reported
    # cached tokens: its 9 are unknown
    "litellm-1.95": _samples(
        """
engine_up 1
engine_several_processes 0
engine_info{kind=litellm,version=1.95.1} 1
engine_requests_running 0
engine_input_tokens_total{cache=hit} 173
engine_input_tokens_total{cache=miss} 141
engine_input_tokens_total{cache=unknown} 9
engine_output_tokens_total 108
engine_requests_finished_total{finish_reason=error} 2
engine_requests_finished_total{finish_reason=unknown} 8
engine_time_to_first_token_seconds_count 5
engine_time_to_first_token_seconds_sum 3.576806
engine_request_duration_seconds_count 8
engine_request_duration_seconds_sum 35.620067
engine_request_queue_seconds_count 8
engine_request_queue_seconds_sum 0.0014910697937011719
model_info{model=chat,quantization=,family=,parameters=,format=} 1
"""
    ),
    "llama-server-pages": _samples(
        """
engine_up 1
engine_several_processes 0
engine_info{kind=llamacpp,version=b0-unknown} 1
engine_requests_running 0
engine_requests_waiting 0
engine_request_capacity 2
engine_kv_cache_usage_ratio 0
engine_kv_cache_capacity_tokens 2048
engine_input_tokens_total{cache=miss} 104
engine_input_tokens_total{cache=hit} 180
engine_output_tokens_total 226
engine_prefill_seconds_total 0.688352
engine_decode_seconds_total 5.28387
engine_speculative_drafts_total 0
engine_speculative_draft_tokens_total 0
engine_speculative_accepted_tokens_total 0
model_info{model=gemma-3-270m,quantization=Q4_K - Medium,family=,parameters=268M,format=gguf} 1
model_loaded{model=gemma-3-270m} 1
model_loads_total{model=gemma-3-270m} 0
model_unloads_total{model=gemma-3-270m} 0
model_context_length_tokens{model=gemma-3-270m} 1024
model_memory_bytes{model=gemma-3-270m,type=ram} 400000000
"""
    ),
}

_REASONS = ("unreachable", "timeout", "too_large", "redirect", "not_http", "refused", "not_understood")
_NO_FAILURES: dict[str, float] = {f"engine_poll_failures_total{{reason={reason}}}": 0 for reason in _REASONS}

FAMILIES = {folder: _NO_FAILURES | expected for folder, expected in _EXPECTED.items()}
