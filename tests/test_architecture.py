from __future__ import annotations

import ast
from pathlib import Path

import pytest

import modelhost_exporter

PACKAGE = Path(modelhost_exporter.__file__).parent
MODULES = {
    ".".join(("modelhost_exporter", *file.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): file
    for file in PACKAGE.rglob("*.py")
}
INNER = (
    "modelhost_exporter.collector",
    "modelhost_exporter.collectors",
    "modelhost_exporter.engines.kinds",
    "modelhost_exporter.dialects",
    "modelhost_exporter.requests.observation",
)
OUTER = {"modelhost_exporter.web", "modelhost_exporter.proxy", "modelhost_exporter.cli", "modelhost_exporter.service"}


def imported_by(module: str) -> set[str]:
    """Return the modules of the package that a module imports, at any place and in any form."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(module, node)
            found |= {base, *(f"{base}.{name.name}" for name in node.names)}
    return found & MODULES.keys()


def _absolute(module: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
    parts = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join((*parts, *filter(None, [node.module])))


IMPORTS = {module: imported_by(module) for module in MODULES}


def within(module: str, package: str) -> bool:
    """Return whether a module is a package or a part of it."""
    return module == package or module.startswith(f"{package}.")


def test_imports_are_found() -> None:
    """Plain, nested, relative and type-only imports are found: these are known to exist."""
    assert IMPORTS["modelhost_exporter.web.routes"] >= {
        "modelhost_exporter",
        "modelhost_exporter.threads",
        "modelhost_exporter.metrics.exposition",
        "modelhost_exporter.service",
    }
    assert "modelhost_exporter.config.yaml_file" in IMPORTS["modelhost_exporter.config.model"]
    assert IMPORTS["modelhost_exporter.collectors.filesystem"] >= {
        "modelhost_exporter.collector",
        "modelhost_exporter.parallel_reads",
    }


@pytest.mark.parametrize("module", sorted(module for module in MODULES if any(within(module, p) for p in INNER)))
def test_measuring_and_parsing_do_not_import_serving(module: str) -> None:
    """Collectors, model servers, dialects and observations import neither web, proxy, cli nor service."""
    assert not {found for found in IMPORTS[module] if any(within(found, outer) for outer in OUTER)}


@pytest.mark.parametrize(
    "module", sorted(module for module in MODULES if module.startswith("modelhost_exporter.collectors."))
)
def test_collectors_do_not_import_one_another(module: str) -> None:
    """One file is one collector: it can be read, changed and removed alone."""
    assert not {found for found in IMPORTS[module] - {module} if found.startswith("modelhost_exporter.collectors.")}


def test_only_main_imports_the_command_line() -> None:
    """Nothing depends on the command line but ``python -m modelhost_exporter``."""
    assert {module for module, found in IMPORTS.items() if "modelhost_exporter.cli" in found} == {
        "modelhost_exporter.__main__"
    }


def test_only_the_command_line_imports_the_demo() -> None:
    """Modules that measure a real machine do not depend on the simulated one."""
    outside = {module for module in MODULES if not within(module, "modelhost_exporter.demo")}
    assert {m for m in outside if any(within(found, "modelhost_exporter.demo") for found in IMPORTS[m])} == {
        "modelhost_exporter.cli"
    }


def test_one_place_wires_the_parts_together() -> None:
    """Only cli brings the running service and the web side together (web names Service's type, and no more)."""
    both = {
        module
        for module, found in IMPORTS.items()
        if {"modelhost_exporter.service", "modelhost_exporter.web.routes"} <= found
    }
    assert both == {"modelhost_exporter.cli"}
    assert not {found for found in IMPORTS["modelhost_exporter.service"] if within(found, "modelhost_exporter.web")}


def test_collectors_may_be_imported_in_any_order() -> None:
    """Imports between our modules form no cycle once type-only imports are left out."""
    edges = {module: _runtime_imports(module) for module in MODULES}
    seen: dict[str, bool] = {}

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " → ".join((*path, module))
        if seen.get(module):
            return
        for found in edges[module] - {module}:
            visit(found, (*path, module))
        seen[module] = True

    for module in MODULES:
        visit(module, ())


def _runtime_imports(module: str) -> set[str]:
    """Return the package's modules that a module imports at its top level, type-only imports left out."""
    found = set()
    for node in ast.parse(MODULES[module].read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            base = _absolute(module, node)
            names = {f"{base}.{name.name}" for name in node.names} & MODULES.keys()
            found |= names or {base}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return found & MODULES.keys()


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"modelhost_exporter.process.daemon_thread"}))
def test_threads_are_started_in_one_place(module: str) -> None:
    """``threading.Thread.start`` may wait for ever where memory is short (see ``process.daemon_thread.Thread``)."""
    started = {"Thread", "Timer", "start_new_thread", "to_thread", "ThreadPoolExecutor"}
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    names = {
        node.func.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name)
        if node.func.value.id in ("threading", "_thread", "asyncio", "futures")
    }
    assert not names & started


OPENS_FILES = {
    "modelhost_exporter.collectors.textfile": "files of other programs",
    "modelhost_exporter.config.file_content": "the operator's files: configuration, certificates",
    "modelhost_exporter.demo.kernel": "writes the simulated machine's /proc and /sys",
    "modelhost_exporter.export.shipped": "the package's own files, to export them",
    "modelhost_exporter.export.writing": "exported files that are there already",
    "modelhost_exporter.gpu.nvidia.library": "the loader's cache",
    "modelhost_exporter.gpu.nvidia.library_headers": "a library that is larger than a page",
    "modelhost_exporter.linux.kernel_files": "the small files of /proc and /sys",
    "modelhost_exporter.linux.tcp_listeners": "a table of which only the beginning is read",
    "modelhost_exporter.linux.nvme": "a drive's device file, for a command",
    "modelhost_exporter.page": "the page's static files",
    "modelhost_exporter.process.descriptors": "/dev/null",
}
_PATHS = {"Path", "os", "io", "path", "file", "folder", "cache", "_root"}


def test_small_kernel_files_are_read_in_one_place() -> None:
    """Only linux/kernel_files.py opens files of the kernel; every other module that opens a file has a reason."""
    found = {
        module
        for module, file in MODULES.items()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and _opens_a_file(node.func)
    }
    assert found == OPENS_FILES.keys()


def _opens_a_file(function: ast.expr) -> bool:
    """Return whether a called function is ``open``, or a method of a path that opens or reads it."""
    if isinstance(function, ast.Name):
        return function.id == "open"
    return (
        isinstance(function, ast.Attribute)
        and function.attr in ("open", "read_text", "read_bytes")
        and _is_path(function.value)
    )


def _is_path(node: ast.expr) -> bool:
    """Return whether an expression is a path, an operation on paths, or the os module, by its name."""
    if isinstance(node, ast.BinOp):
        return True
    if isinstance(node, ast.Call):
        return _is_path(node.func)
    return (node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")) in _PATHS


def test_a_public_class_name_occurs_once() -> None:
    """A search for a class name finds one definition."""
    found: dict[str, list[str]] = {}
    for module, file in MODULES.items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(module)
    assert {name: modules for name, modules in found.items() if len(modules) > 1} == {}
