"""The compared ways to an upstream: direct, nginx, a bare aiohttp proxy, this proxy, an older one, LiteLLM."""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import load
from benchmarks.loops import run
from benchmarks.measuring import CannotStart, Program, exporter, free_port, listening

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Iterator

DIRECT, NGINX, BARE, OURS = "direct", "nginx", "bare aiohttp", "this proxy"
_BEFORE, _LITELLM = "before", "LiteLLM"
MODEL = "bench"
CLIENTS = 32
_LITELLM_START_SECONDS = 120.0

_NGINX_CONFIG = """
daemon off;
master_process off;
pid {folder}/pid;
error_log stderr;
events {{ worker_connections 2048; }}
http {{
  access_log off;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  keepalive_requests 1000000000;
  upstream model_server {{ server {upstream}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port};
    client_max_body_size 0;
    location / {{
      proxy_pass http://model_server;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_request_buffering off;
    }}
  }}
}}
"""
_LITELLM_CONFIG = """
model_list:
  - model_name: {model}
    litellm_params: {{ model: openai/{model}, api_base: "{upstream}/v1", api_key: none }}
"""


@dataclass
class Way:
    """A way to the upstream, and its measurements by figure."""

    name: str
    url: str
    program: Program | None = None
    figures: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def median(self, figure: str) -> float | None:
        """Return the median of a figure's rounds; None if it was not measured."""
        values = self.figures.get(figure)
        return statistics.median(values) if values else None


def start(stack: contextlib.ExitStack, litellm: str | None, before: str | None = None) -> Iterator[Way]:
    """Start all ways whose program is installed; ``before`` is the Python of an older version's environment."""
    port = free_port()
    stack.enter_context(listening([sys.executable, "-m", "benchmarks.upstream", str(port)], port))
    upstream = f"127.0.0.1:{port}"
    yield Way(DIRECT, f"http://{upstream}")
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    nginx = shutil.which("nginx", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin")))
    if nginx is None:
        print("nginx is not installed: left out")
    else:
        yield _nginx(stack, nginx, folder, upstream)
    port = free_port()
    bare = listening([sys.executable, "-m", "benchmarks.bare", str(port), f"http://{upstream}"], port, path="")
    program = stack.enter_context(bare)
    yield Way(BARE, program.url, program)
    flag = f"--proxy=bench=127.0.0.1:0=http://{upstream}"
    program = stack.enter_context(exporter(flag))
    yield Way(OURS, program.logged("proxying")["url"], program)
    if before is not None:
        program = stack.enter_context(exporter(flag, python=before))
        yield Way(_BEFORE, program.logged("proxying")["url"], program)
    if litellm is None:
        print("LiteLLM is not installed (--litellm=PATH): left out")
    else:
        try:
            yield _litellm(stack, litellm, folder, upstream)
        except CannotStart as error:
            print(f"LiteLLM does not start, left out: {str(error)[-300:]}")


def _nginx(stack: contextlib.ExitStack, nginx: str, folder: Path, upstream: str) -> Way:
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(_NGINX_CONFIG.format(folder=folder, upstream=upstream, port=port), encoding="utf-8")
    program = stack.enter_context(
        listening([nginx, "-p", str(folder), "-e", "stderr", "-c", str(config)], port, path="")
    )
    return Way(NGINX, program.url, program)


def _litellm(stack: contextlib.ExitStack, litellm: str, folder: Path, upstream: str) -> Way:
    port = free_port()
    config = folder / "litellm.yaml"
    config.write_text(_LITELLM_CONFIG.format(model=MODEL, upstream=f"http://{upstream}"), encoding="utf-8")
    # no price list from the internet, no key, and its own choice of event loop
    settings = ("LITELLM_LOCAL_MODEL_COST_MAP=True", "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY=true")
    command = ["env", "--unset=PYTHONPATH", *settings, litellm]
    command += ["--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    program = stack.enter_context(listening(command, port, path="", start_seconds=_LITELLM_START_SECONDS))
    run(load.latencies(program.url, MODEL, 5.0))  # its first requests are slow
    return Way(_LITELLM, program.url, program)
