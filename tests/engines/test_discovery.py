from __future__ import annotations

import subprocess
import sys

import pytest
import yaml

from modelhost_exporter.config import model as configuration
from modelhost_exporter.engines import kinds
from modelhost_exporter.engines.discovery import discover, report, usual_ports
from tests.support.pages import SERVERS, pages
from tests.support.programs import DEADLINE_SECONDS, free_port
from tests.support.stand_in import standing_in, status


def test_what_is_found_can_be_pasted() -> None:
    """Servers are found by port, named after their kinds, and printed as valid YAML configuration."""
    with standing_in(pages("ollama")) as ollama, standing_in(pages("vllm")) as one, standing_in(pages("vllm")) as two:
        ports = (free_port(), ollama.port, one.port, two.port)
        found = discover("127.0.0.1", ports, 5)
        text = report("127.0.0.1", ports, found)
    servers = configuration.read(yaml.safe_load(text)).polled
    assert [(server.name, server.kind, server.url.text if server.url else "") for server in servers] == [
        ("ollama", "ollama", ollama.url),
        (f"vllm-{one.port}", "vllm", one.url),
        (f"vllm-{two.port}", "vllm", two.url),
    ]
    assert "# ollama 0.13.5, models: llama3.2:latest, nomic-embed-text:v1.5" in text


def test_looking_does_no_harm() -> None:
    """No page that loads or wakes a model, or keeps it loaded, is requested."""
    with standing_in(pages("llama-server-pages")) as server:
        assert len(discover("127.0.0.1", (server.port,), 5)) == 1
        assert not [path for path in server.asked if path.startswith(("/metrics", "/slots", "/health"))]


def test_a_server_that_wants_a_key_is_found() -> None:
    """LiteLLM is detected without a key: it is printed with a hint, and its models are unknown."""
    with standing_in({**pages("litellm"), "/v1/models": status(401)}) as server:
        text = report("127.0.0.1", (server.port,), discover("127.0.0.1", (server.port,), 5))
    assert "litellm, which lists no model: it may need a key" in text
    assert yaml.safe_load(text)["servers"][0]["kind"] == "litellm"


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_an_engine_that_wants_a_key_is_known_by_its_metrics(kind: str) -> None:
    """Without a key, vLLM and SGLang do not list models, and are detected by their metrics."""
    with standing_in({**pages(kind), "/v1/models": status(401)}) as server:
        text = report("127.0.0.1", (server.port,), discover("127.0.0.1", (server.port,), 5))
    assert f"# {kind}, which lists no model: it may need a key" in text
    assert "    # headers: {Authorization: Bearer KEY}" in text
    assert [one["kind"] for one in yaml.safe_load(text)["servers"]] == [kind]


@pytest.mark.parametrize("code", [401, 403])
def test_what_only_wants_a_key_is_said_and_not_claimed(code: int) -> None:
    """A server of unknown kind is a comment, which is a valid entry without its comment marks."""
    locked = {path: status(code) for path in ("/v1/models", "/metrics", "/props", "/api/ps", "/info", "/v2")}
    with standing_in(locked) as server, standing_in(pages("ollama")) as ollama:
        text = report("h", (1,), discover("127.0.0.1", (server.port, ollama.port), 5))
        alone = report("h", (1,), discover("127.0.0.1", (server.port,), 5))
    assert [one["kind"] for one in yaml.safe_load(text)["servers"]] == ["ollama"]
    assert yaml.safe_load(alone) is None
    pasted = "\n".join(line.replace("# ", "", 1) for line in alone.splitlines() if "wants a key" not in line)
    servers = configuration.read(yaml.safe_load(pasted.partition("\n")[2])).polled
    assert [(one.name, one.kind, dict(one.headers)) for one in servers] == [
        (f"server-{server.port}", "auto", {"Authorization": "Bearer KEY"})
    ]


def test_something_else_is_not_claimed() -> None:
    """A server that is no model server, or that hides its metrics as well, is not printed."""
    with standing_in({"/": b"hello"}) as server:
        assert discover("127.0.0.1", (server.port,), 5) == []


def test_names_from_servers_cannot_break_the_yaml() -> None:
    """A model's name with a line break stays within its comment."""
    with standing_in({"/api/ps": b'{"models":[{"name":"a\\nproxy: {}"}]}'}) as server:
        text = report("h", (server.port,), discover("127.0.0.1", (server.port,), 5))
    assert set(yaml.safe_load(text)) == {"servers"}


def test_nothing_there_is_said_and_is_exit_code_1() -> None:
    """The subcommand prints the addresses tried; exit code 1 without any response (from a host that cannot exist)."""
    result = subprocess.run(
        [sys.executable, "-m", "modelhost_exporter", "discover", "no-such-host.invalid"],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert (result.returncode, result.stderr) == (1, "")
    assert result.stdout.startswith("# looked at ports ")
    assert "of no-such-host.invalid: no model server responds there" in result.stdout


def test_every_kind_has_a_usual_port() -> None:
    """Every kind that can be configured can be discovered."""
    assert all(set(kinds.engine_kind(kind).PORTS) <= set(usual_ports()) for kind in SERVERS.values())
    assert all(kinds.engine_kind(kind).PORTS for kind in SERVERS.values())
