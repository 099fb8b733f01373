"""Reject replaced keys of the configuration, with an error that shows or names the new form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelhost_exporter.config.parsing import ConfigError
from modelhost_exporter.logs.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

OLD = ("proxy", "model_servers")
_SECRET = "***"  # noqa: S105 - what is shown in place of one

_OF_PROXY = {
    "listen": "listen",
    "usage": "include_usage",
    "inspect_bytes": "max_inspected_body_bytes",
    "connect_timeout": "connect_timeout",
    "idle_timeout": "idle_timeout",
}
_OF_PROXIED = {"upstream": "url", "kind": "kind", "max_models": "max_models"}
_OF_POLL = {key: key for key in ("timeout", "metrics", "metrics_url")}
_OF_POLLED = {key: key for key in ("url", "kind", "max_models", "probe")}

_OBJECTIVES = ("ttft", "tpot", "duration")
_OPTIONS = {"usage": "include_usage", "inspect_bytes": "max_inspected_body_bytes"}
# path of a mapping (* is any key or position) → its old keys, and what each is now, relative to that mapping
_RENAMED: Mapping[str, Mapping[str, str]] = {
    "servers.*": {
        "upstream": "url",
        "objectives": "slo",
        "poll_interval": "poll.interval",
        **{key: f"proxy.{key}" for key in ("listen", "connect_timeout", "idle_timeout")},
        **{key: f"proxy.{new}" for key, new in _OPTIONS.items()},
        **{key: f"poll.{key}" for key in ("interval", *_OF_POLL)},
    },
    "servers.*.proxy": _OPTIONS,
    "servers.*.poll": {"poll_interval": "interval"},
    "servers.*.slo.*": {"ratio": "target"},
    "servers.*.models.*": {"objectives": "slo", **{key: f"slo.{key}" for key in _OBJECTIVES}},
    "servers.*.models.*.slo.*": {"ratio": "target"},
    "collectors": {"model_servers": "engines"},
    "collectors.filesystem": {"stuck_after": "timeout"},
    "collectors.gpu": {"stuck_after": "timeout"},
}


def reject(raw: object) -> None:
    """Raise ConfigError for the first replaced key of a configuration.

    The error's hint is the new form of replaced lists; the error for a renamed key names the new key.
    """
    _reject_lists(raw)
    _reject_renamed(raw)


def _reject_renamed(raw: object) -> None:
    for path, renamed in _RENAMED.items():
        for where, found in _mappings(raw, path.split(".")):
            for key, new in renamed.items():
                if key in found:
                    raise ConfigError(where, f"unknown key {key!r}: it is {new} now")


def _mappings(raw: object, path: list[str], where: str = "") -> Iterator[tuple[str, dict[Any, Any]]]:
    """Yield each mapping at a path, with its place in the file such as ``servers[0].proxy``."""
    if not path:
        if isinstance(raw, dict):
            yield where, raw
        return
    key, *rest = path
    if key == "*" and isinstance(raw, list):
        below = [(f"{where}[{position}]", item) for position, item in enumerate(raw)]
    elif isinstance(raw, dict):
        below = [(f"{where}.{name}".lstrip("."), value) for name, value in raw.items() if key in ("*", name)]
    else:
        below = []
    for place, value in below:
        yield from _mappings(value, rest, place)


def _reject_lists(raw: object) -> None:
    if not isinstance(raw, dict):
        return
    found = [key for key in OLD if key in raw and (key != "proxy" or _has_servers(raw[key]))]
    interval = _interval(raw)
    if interval is not None:
        found.append("collectors.model_servers.poll_interval")
    if found:
        import yaml  # noqa: PLC0415 - 2 MB that are needed only here

        new = {"servers": _servers(raw, interval)}
        text = redact(yaml.safe_dump(new, sort_keys=False, allow_unicode=True))
        verb = "was" if len(found) == 1 else "were"
        raise ConfigError(", ".join(found), f"{verb} replaced by the list servers", hint=text)


def _has_servers(section: object) -> bool:
    """Return whether a section ``proxy`` is the old one; the new one has settings that apply to all servers."""
    return not isinstance(section, dict) or "servers" in section


def _interval(raw: dict[Any, Any]) -> object:
    options = raw.get("collectors")
    options = options.get("model_servers") if isinstance(options, dict) else None
    return options.get("poll_interval") if isinstance(options, dict) else None


def _servers(raw: dict[Any, Any], interval: object) -> list[dict[str, Any]]:
    """Return the new list: the servers that are in it already, then those of both old lists, joined by name.

    Entries of one name whose URLs differ cannot be one server: the polled one becomes NAME-polled.
    """
    new = {str(entry.get("name")): _with_interval(entry, interval) for entry in _entries(raw.get("servers"))}
    section = raw.get("proxy")
    listed = set(new)
    for old in _entries(section.get("servers") if isinstance(section, dict) else None):
        entry = _entry_of(new, old, _OF_PROXIED, "proxied")
        entry["proxy"] = _copied(old, _OF_PROXY)
        if str(entry["name"]) not in listed:
            entry["poll"] = False
        _convert(old, entry, "objectives", "slo", _objectives)
        _convert(old, entry, "models", "models", _models)
    for old in _entries(raw.get("model_servers")):
        entry = _entry_of(new, old, _OF_POLLED, "polled")
        entry.pop("poll", None)
        _convert(old, entry, "headers", "headers", _without_values)
        poll = _copied(old, _OF_POLL) | ({"interval": interval} if interval is not None else {})
        if poll:
            entry["poll"] = poll
    return list(new.values())


def _entry_of(
    new: dict[str, dict[str, Any]], old: dict[Any, Any], names: dict[str, str], suffix: str
) -> dict[str, Any]:
    """Return the new entry of an old one's name, or another where that name has a different URL."""
    copied, name = _copied(old, names), old.get("name")
    before = new.get(str(name), {})
    if _is_other_url(before.get("url"), copied.get("url")):
        name = f"{name}-{suffix}"
    entry = new.setdefault(str(name), {"name": name})
    entry.update(copied)
    return entry


def _is_other_url(before: object, url: object) -> bool:
    return isinstance(before, str) and isinstance(url, str) and before.rstrip("/") != url.rstrip("/")


def _with_interval(entry: dict[Any, Any], interval: object) -> dict[str, Any]:
    """Return an entry of the new list, with the old interval of polls unless it has one."""
    shown = dict(entry)
    _convert(entry, shown, "headers", "headers", _without_values)
    poll = entry.get("poll")
    if interval is not None and (poll is None or isinstance(poll, dict)):
        shown["poll"] = {"interval": interval, **(poll or {})}
    return shown


def _entries(raw: object) -> Iterable[dict[Any, Any]]:
    for entry in raw if isinstance(raw, list) else ():
        if isinstance(entry, dict):
            yield entry
        elif isinstance(entry, str):  # NAME=LISTEN=UPSTREAM
            name, listen, upstream = (*entry.split("=", 2), "", "")[:3]
            yield {"name": name, "listen": listen, "upstream": upstream}


def _copied(old: dict[Any, Any], names: dict[str, str]) -> dict[str, Any]:
    return {new: old[name] for name, new in names.items() if name in old}


def _convert(
    old: dict[Any, Any], entry: dict[str, Any], key: str, new: str, convert: Callable[[dict[Any, Any]], Any]
) -> None:
    if isinstance(old.get(key), dict):
        entry[new] = convert(old[key])


def _objectives(old: dict[Any, Any]) -> dict[Any, Any]:
    return {
        name: {("target" if key == "ratio" else key): value for key, value in objective.items()}
        if isinstance(objective, dict)
        else objective
        for name, objective in old.items()
    }


def _models(old: dict[Any, Any]) -> dict[Any, Any]:
    return {model: {"slo": _objectives(slo)} for model, slo in old.items() if isinstance(slo, dict)}


def _without_values(headers: dict[Any, Any]) -> dict[Any, Any]:
    return dict.fromkeys(headers, _SECRET)
