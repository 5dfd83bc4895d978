"""Imports point down the list of rooms, also those inside functions and for type checkers only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import ems_fast

PACKAGE = "ems_fast"
# From the top down; a room may import itself and the rooms after it.
ROOMS = (
    "cli", "demo", "growing", "exporting", "training", "reporting", "evaluation", "filtering",
    "alignment",
    "mining", "encoding", "runs", "corpus", "model", "ops", "distributed", "text", "files",
    "errors",
)  # fmt: skip
ELSEWHERE = {"__main__": "cli"}  # `python -m ems_fast` is the command line
COMPILED = {"_kernels", "_encoding", "_cuda", "_batching"}  # modules without imports of their own
# The module of each exception, what it imports, and why.
EXCEPTIONS: dict[tuple[str, str], str] = {
    ("ems_fast.cli.commands", PACKAGE): "the command line is a user of the public interface",
    ("ems_fast.cli.parser", PACKAGE): "it prints the version",
}


class Import(NamedTuple):
    """One import of one module."""

    module: str
    line: int
    room: str


def room_of(module: str) -> str:
    """The room a dotted name lies in; the package's own name for what lies in none."""
    name = module.removeprefix(f"{PACKAGE}.").split(".")[0]
    return ELSEWHERE.get(name, name if name in {*ROOMS, *COMPILED} else PACKAGE)


def imports_of(module: str, source: str, *, is_package: bool = False) -> Iterator[Import]:
    """Every import of the package's own modules, wherever in the source it stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parents = parts[: len(parts) - node.level + is_package]
                base = ".".join([*parents, base] if base else parents)
            # `from ems_fast import ops` names a room only with its last word.
            names = [f"{base}.{alias.name}" if base == PACKAGE else base for alias in node.names]
        else:
            continue
        for name in names:
            if name == PACKAGE or name.startswith(f"{PACKAGE}."):
                yield Import(module, node.lineno, room_of(name))


def violation(found: Import) -> str | None:
    """What is wrong with an import, or None."""
    importer = room_of(found.module)
    if found.room in COMPILED or (found.module, found.room) in EXCEPTIONS:
        return None
    where = f"{found.module}, line {found.line}"
    if found.room == PACKAGE:
        return f"{where}: imports the package's own namespace, expected the module that defines it"
    if importer == PACKAGE:
        # The package's namespace collects what is public; the command line is not.
        wrong = found.room in {"cli", "demo"}
        return f"{where}: the public namespace imports {found.room}" if wrong else None
    if ROOMS.index(found.room) < ROOMS.index(importer):
        return f"{where}: {importer} imports {found.room}, which is above it"
    return None


def check_no_circle(imports: list[Import]) -> None:
    """Raise CycleError when rooms import each other in a circle."""
    graph: dict[str, set[str]] = {}
    for found in imports:
        importer = room_of(found.module)
        if found.room != importer and (found.module, found.room) not in EXCEPTIONS:
            graph.setdefault(importer, set()).add(found.room)
    TopologicalSorter(graph).prepare()


@pytest.fixture(scope="module")
def modules() -> dict[str, Path]:
    """The installed package's modules by dotted name."""
    root = Path(ems_fast.__file__).parent
    return {
        ".".join((PACKAGE, *path.relative_to(root).with_suffix("").parts)).removesuffix(
            ".__init__"
        ): path
        for path in sorted(root.rglob("*.py"))
    }


@pytest.fixture(scope="module")
def imports(modules: dict[str, Path]) -> list[Import]:
    return [
        found
        for name, path in modules.items()
        for found in imports_of(
            name, path.read_text(encoding="utf-8"), is_package=path.name == "__init__.py"
        )
    ]


def test_imports_point_down(imports: list[Import]):
    assert len(imports) > 100
    assert [wrong for found in imports if (wrong := violation(found))] == []


def test_rooms_form_no_circle(imports: list[Import]):
    check_no_circle(imports)


def test_every_module_lies_in_a_known_room(modules: dict[str, Path]):
    outside = {name for name in modules if room_of(name) == PACKAGE}
    assert outside == {PACKAGE}
    assert {room_of(name) for name in modules} == {*ROOMS, PACKAGE}


def test_every_exception_is_needed(imports: list[Import]):
    assert set(EXCEPTIONS) <= {(found.module, found.room) for found in imports}


@pytest.mark.parametrize(
    "source",
    [
        "from ems_fast.training.api import train",
        "import ems_fast.training",
        "from ems_fast import training",
        "from ..training import train",
        "from .. import training",
        "def late():\n    from ems_fast.training import train",
        "if TYPE_CHECKING:\n    from ems_fast.training import TrainResult",
        "from ems_fast import train",
        "import ems_fast",
    ],
)
def test_an_upward_import_is_caught(source: str):
    (found,) = imports_of("ems_fast.corpus.binary", source)
    assert violation(found)


@pytest.mark.parametrize(
    "source", ["from ems_fast.errors import InputError", "from .tsv import Tsv", "import numpy"]
)
def test_a_downward_import_is_not(source: str):
    assert [violation(x) for x in imports_of("ems_fast.corpus.binary", source)] in ([], [None])


def test_a_circle_is_caught():
    circle = [
        *imports_of("ems_fast.files.atomic", "from ems_fast.text import languages"),
        *imports_of("ems_fast.text.languages", "import ems_fast.files"),
    ]
    with pytest.raises(CycleError):
        check_no_circle(circle)
