"""Panels of the Host dashboard about what memory is used for."""

from __future__ import annotations

from grafana import queries as q
from grafana import style as s
from grafana.panels import graph
from grafana.queries import Query

_PROGRAMS = {
    "anonymous": "not from files",
    "anonymous_hugepages": "of that in huge pages",
    "mapped": "mapped files",
    "shared": "shared",
    "locked": "locked",
    "unevictable": "not to be freed",
}
_KERNEL = {
    "slab_reclaimable": "structures, can be freed",
    "slab_unreclaimable": "structures",
    "page_tables": "page tables",
    "kernel_stack": "stacks",
    "per_cpu": "of CPUs",
    "hardware_corrupted": "broken",
}


def more_of_memory() -> tuple[s.Builder, ...]:
    """Draw memory of programs and of the kernel, unwritten data, promises and huge pages."""
    return (
        _sizes("Memory of programs", "By kind; kinds overlap. Good: steady while models stay loaded.", _PROGRAMS),
        _sizes(
            "Memory of the kernel",
            "By kind. Good: steady; structures that cannot be freed and only grow are a leak. Nothing is broken.",
            _KERNEL,
        ),
        _sizes(
            "Data not yet on disk",
            "Waiting to be written, and being written. Good: falls back to little; programs stall when it is much.",
            {"dirty": "waiting", "writeback": "being written"},
        ),
        _sizes(
            "Committed memory",
            "Memory that programs asked for, and the limit that is in force with vm.overcommit_memory=2 only. Good: "
            "where it is in force, below the limit.",
            {"committed": "asked for", "commit_limit": "limit"},
        ).span(12),
        _hugepages().span(12),
    )


def _sizes(title: str, text: str, kinds: dict[str, str]) -> s.Builder:
    return graph(
        title,
        text,
        *(
            Query(q.total(q.select(f"modelhost_memory_{kind}_bytes"), "instance"), f"{name} {{{{instance}}}}")
            for kind, name in kinds.items()
        ),
        unit=s.BYTES,
    )


def _hugepages() -> s.Builder:
    size = q.select("modelhost_memory_hugepage_size_bytes")
    return graph(
        "Huge pages",
        "Memory set apart in huge pages of the default size, and the part of it that is free, promised or beyond what "
        "was configured. Good: as configured; free pages are lost to all other programs.",
        *(
            Query(
                q.total(f"{q.select(f'modelhost_memory_hugepages{kind}')} * {size}", "instance"),
                f"{name} {{{{instance}}}}",
            )
            for kind, name in (("", "all"), ("_free", "free"), ("_reserved", "promised"), ("_surplus", "beyond"))
        ),
        unit=s.BYTES,
    )
