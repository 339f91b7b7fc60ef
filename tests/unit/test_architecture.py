"""The plan of the house: what the package exports, which way imports go, what an import costs."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import pglab

ROOT = Path(pglab.__file__).parent

# From the ground up. A module imports from its own layer or from those below, never from above.
LAYERS = (
    ("errors",),
    ("closeable", "config", "framed", "whole_file"),
    ("servers",),
    (
        *("schema", "dataset", "load", "queries", "retry", "ingestion", "models", "plans"),
        *("encryption", "cache", "queues", "connection_state", "tls", "tls_relay"),
    ),
    ("databases", "templates", "lab"),
    (
        "purge",
        "bench",
        "backup",
        "monitor",
        "comparison",
        "connections",
        "leaks",
        "tls_experiment",
    ),
    # Verdicts are shown as results are, and a magic asks for them: one layer, without cycles.
    ("notebook", "exercises"),
    (
        "manifest",
        "workspace",
        "jupyter",
        "doctor",
        "doctor_url",
        "cli_shared",
        "cli_bench",
        "cli_backup",
        "cli_monitor",
        "cli",
    ),
    ("__main__",),
)
RANK = {part: rank for rank, layer in enumerate(LAYERS) for part in layer}

# These are given a connection, an engine or rows, so that they work on any server.
KNOW_NO_SERVER = frozenset(LAYERS[3])
THEY_MAY_IMPORT = KNOW_NO_SERVER | {"errors", "closeable"}

# (importer, imported): why it may.
EXCEPTIONS = {
    ("lab", "notebook"): "pglab.open() in a kernel switches on %%sql, and only there",
}

# The version stands in the facade, where hatchling and people look for it.
VERSION_READERS = frozenset({"pglab.bench.machine", "pglab.cli", "pglab.doctor", "pglab.workspace"})

# Whoever imports pglab pays for these only when they use them.
HEAVY = (
    "pandas",
    "matplotlib",
    "numpy",
    "sqlalchemy",
    "redis",
    "IPython",
    "psycopg",
    "cryptography",
    "pymongo",
)


class Import(NamedTuple):
    """One import of a module of ours.

    Attributes:
        checking: only a type checker sees it. Such imports obey the layers, too; but since they
            make no cycle when the program runs, two modules of one layer may name each other.
    """

    importer: str
    imported: str
    checking: bool


MODULES = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}


def part(module):
    """Return the first word below pglab: the layer's unit."""
    return module.split(".")[1] if "." in module else ""


@cache
def imports():
    found = []
    for module, path in MODULES.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        only_checked = {
            id(node)
            for branch in ast.walk(tree)
            if isinstance(branch, ast.If) and ast.unparse(branch.test) == "TYPE_CHECKING"
            for statement in branch.body
            for node in ast.walk(statement)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{module}: a relative import hides its direction"
                names = [
                    name if (name := f"{node.module}.{alias.name}") in MODULES else node.module
                    for alias in node.names
                ]
            else:
                continue
            found += [
                Import(module, name, id(node) in only_checked)
                for name in names
                if name.partition(".")[0] == "pglab"
            ]
    return found


def run(code):
    """Run code in a fresh interpreter; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_names_a_lesson_uses():
    assert pglab.__all__ == ["IngestReport", "Lab", "PglabError", "__version__", "ingest", "open"]
    assert all(getattr(pglab, name) is not None for name in pglab.__all__)
    assert set(pglab.__all__) <= set(dir(pglab))


def test_every_module_has_its_place_in_the_layers():
    assert {part(module) for module in MODULES} - {""} <= set(RANK)


def test_imports_go_one_way():
    wrong = [
        f"{i.importer} imports {i.imported}"
        for i in imports()
        if i.importer != "pglab"  # the facade fetches names lazily, from everywhere
        and i.imported != "pglab"
        and RANK[part(i.imported)] > RANK[part(i.importer)]
        and (part(i.importer), part(i.imported)) not in EXCEPTIONS
    ]
    assert wrong == []


def test_every_exception_is_still_needed():
    made = {(part(i.importer), part(i.imported)) for i in imports()}
    assert made >= set(EXCEPTIONS)


def test_what_is_given_a_connection_knows_no_server():
    wrong = [
        f"{i.importer} imports {i.imported}"
        for i in imports()
        if part(i.importer) in KNOW_NO_SERVER and part(i.imported) not in THEY_MAY_IMPORT
    ]
    assert wrong == []


def test_no_module_imports_the_facade():
    wrong = [i.importer for i in imports() if i.imported == "pglab" and i.importer != "pglab"]
    assert sorted(set(wrong) - VERSION_READERS) == []


def test_no_two_modules_import_each_other():
    graph = {module: set() for module in MODULES}
    for i in imports():
        inside_out = i.importer.startswith(f"{i.imported}.")  # a package and its own module
        exempt = (part(i.importer), part(i.imported)) in EXCEPTIONS
        if not (i.checking or exempt or inside_out or i.importer == "pglab"):
            graph[i.importer].add(i.imported)
    assert set(TopologicalSorter(graph).static_order()) >= set(MODULES)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_says_what_it_is_for(module):
    assert ast.get_docstring(ast.parse(MODULES[module].read_text(encoding="utf-8")))


@pytest.mark.parametrize("module", ["pglab", "pglab.lab", "pglab.cli", "pglab.servers.supervisor"])
def test_an_import_loads_no_heavy_library(module):
    loaded = run(f"import {module}, sys, json; print(json.dumps(sorted(sys.modules)))")
    assert module in loaded
    assert [name for name in HEAVY if name in loaded] == []


def test_importing_pglab_does_nothing_but_read_its_modules():
    code = """
import sys, json
seen = []
def hook(event, arguments):
    if event.partition(".")[0] in {"open", "socket", "subprocess", "os", "shutil", "tempfile"}:
        seen.append([event, str(arguments[0]) if arguments else ""])
sys.addaudithook(hook)
import pglab
allowed = sorted({m.__file__ for m in sys.modules.values() if getattr(m, "__file__", None)})
print(json.dumps([seen, allowed]))
"""
    seen, modules = run(code)
    folders = {str(Path(name).parent) for name in modules}
    cached = {str(Path(name).parent / "__pycache__") for name in modules}
    other = [
        (event, what)
        for event, what in seen
        if not (event == "open" and (what in modules or str(Path(what).parent) in cached))
        # the import system lists folders to learn what can be imported
        and not (event in {"os.listdir", "os.scandir"} and (what in folders or what in sys.path))
    ]
    assert other == []
    assert any("pglab" in what for event, what in seen), "the hook saw nothing at all"


def test_importing_a_lab_starts_nothing():
    code = """
import sys, json
seen = []
sys.addaudithook(lambda event, arguments: seen.append(event))
import pglab.lab
print(json.dumps(sorted(set(seen))))
"""
    events = run(code)
    assert "import" in events
    assert [e for e in events if e.startswith(("socket.connect", "subprocess.", "os.mkdir"))] == []
    assert [e for e in events if e in {"os.fork", "os.posix_spawn", "os.exec", "os.remove"}] == []
