from __future__ import annotations

import subprocess
import sys

import pytest
import yaml

from modelhost_exporter.config import model as configuration
from modelhost_exporter.engines import kinds
from modelhost_exporter.engines.discovery import UnknownHost, discover, place, report, usual_ports
from tests.support.pages import SERVERS, pages
from tests.support.programs import DEADLINE_SECONDS, free_port
from tests.support.stand_in import standing_in, status


def _report(*urls: str) -> str:
    return report("some ports", discover(urls, 5), "modelhost-exporter")


def test_what_is_found_can_be_pasted() -> None:
    """Servers are found by port, named after their kinds, and printed as valid YAML configuration."""
    with standing_in(pages("ollama")) as ollama, standing_in(pages("vllm")) as one, standing_in(pages("vllm")) as two:
        text = _report(f"http://127.0.0.1:{free_port()}", ollama.url, one.url, two.url)
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
        assert len(discover([server.url], 5)) == 1
        assert not [path for path in server.asked if path.startswith(("/metrics", "/slots", "/health"))]


def test_a_server_that_wants_a_key_is_found() -> None:
    """LiteLLM is detected without a key: it is printed with a hint, and its models are unknown."""
    with standing_in({**pages("litellm"), "/v1/models": status(401)}) as server:
        text = _report(server.url)
    assert "litellm, which lists no model: it may need a key" in text
    assert yaml.safe_load(text)["servers"][0]["kind"] == "litellm"


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_an_engine_that_wants_a_key_is_known_by_its_metrics(kind: str) -> None:
    """Without a key, vLLM and SGLang do not list models, and are detected by their metrics."""
    with standing_in({**pages(kind), "/v1/models": status(401)}) as server:
        text = _report(server.url)
    assert f"# {kind}, which lists no model: it may need a key" in text
    assert "    # headers: {Authorization: Bearer KEY}" in text
    assert [one["kind"] for one in yaml.safe_load(text)["servers"]] == [kind]


@pytest.mark.parametrize("code", [401, 403])
def test_what_only_wants_a_key_is_said_and_not_claimed(code: int) -> None:
    """A server of unknown kind is a comment, which is a valid entry without its comment marks."""
    locked = {path: status(code) for path in ("/v1/models", "/metrics", "/props", "/api/ps", "/info", "/v2")}
    with standing_in(locked) as server, standing_in(pages("ollama")) as ollama:
        text = _report(server.url, ollama.url)
        alone = _report(server.url)
    assert [one["kind"] for one in yaml.safe_load(text)["servers"]] == ["ollama"]
    assert yaml.safe_load(alone) is None
    commented = alone.partition("# Next:")[0].splitlines()
    pasted = "\n".join(line.replace("# ", "", 1) for line in commented if "wants a key" not in line)
    servers = configuration.read(yaml.safe_load(pasted.partition("\n")[2])).polled
    assert [(one.name, one.kind, dict(one.headers)) for one in servers] == [
        (f"server-{server.port}", "auto", {"Authorization": "Bearer KEY"})
    ]


def test_something_else_is_not_claimed() -> None:
    """A server that is no model server, or that hides its metrics as well, is not printed."""
    with standing_in({"/": b"hello"}) as server:
        assert discover([server.url], 5) == []


def test_names_from_servers_cannot_break_the_yaml() -> None:
    """A model's name with a line break stays within its comment."""
    with standing_in({"/api/ps": b'{"models":[{"name":"a\\nproxy: {}"}]}'}) as server:
        text = _report(server.url)
    assert set(yaml.safe_load(text)) == {"servers"}


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "modelhost_exporter", "discover", *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )


def test_nothing_there_is_said_and_is_exit_code_1() -> None:
    """The subcommand prints the addresses tried, and what to do."""
    port = free_port()
    result = _run(f"127.0.0.1:{port}")
    assert (result.returncode, result.stderr) == (1, "")
    assert result.stdout.startswith(f"# looked at 127.0.0.1:{port}: no model server responds there\n# Next: start one")


def test_an_unknown_host_is_said() -> None:
    """A name without an address, in one line."""
    result = _run("no-such-host.invalid")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "modelhost-exporter: unknown host no-such-host.invalid\n"


@pytest.mark.parametrize("form", ["127.0.0.1:{port}", "http://127.0.0.1:{port}", "http://localhost:{port}/"])
def test_a_server_is_found_by_its_address(form: str) -> None:
    """A host with a port, or a URL as clients have it; the commands to go on with are printed."""
    with standing_in(pages("ollama")) as server:
        result = _run(form.format(port=server.port))
    assert (result.returncode, result.stderr) == (0, "")
    assert [one["kind"] for one in yaml.safe_load(result.stdout)["servers"]] == ["ollama"]
    assert "--proxy=auto" in result.stdout


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ("gpu-1:8000", ["http://gpu-1:8000"]),
        ("[::1]:8000", ["http://[::1]:8000"]),
        ("https://models.example.com/api", ["https://models.example.com/api"]),
        ("gpu-1", [f"http://gpu-1:{port}" for port in usual_ports()]),
        ("::1", [f"http://[::1]:{port}" for port in usual_ports()]),
        ("[::1]", [f"http://[::1]:{port}" for port in usual_ports()]),
    ],
)
def test_places(text: str, urls: list[str]) -> None:
    """A host, a host with a port, and a URL."""
    assert list(place(text).urls) == urls


@pytest.mark.parametrize(
    "text", ["", "a:b", "a:0", "a:65536", "[x]:80", "a/b", ":8000", "ftp://a", "http://u:secret@a"]
)
def test_what_is_no_place_is_one_line(text: str) -> None:
    """Exit code 2, and no secret is printed."""
    result = _run(text)
    assert (result.returncode, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    assert "secret" not in result.stderr


def test_a_host_that_cannot_be_looked_up() -> None:
    """A name that is too long for the resolver."""
    with pytest.raises(UnknownHost, match="unknown host"):
        discover([f"http://{'a' * 70}.example:80"])


def test_every_kind_has_a_usual_port() -> None:
    """Every kind that can be configured can be discovered."""
    assert all(set(kinds.engine_kind(kind).PORTS) <= set(usual_ports()) for kind in SERVERS.values())
    assert all(kinds.engine_kind(kind).PORTS for kind in SERVERS.values())
