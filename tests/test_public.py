"""The package's own namespace: every public name is there, and none is imported too early."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ems_fast

STUB = Path(ems_fast.__file__).with_suffix(".pyi")


def test_type_checkers_see_the_same_names_from_the_same_modules() -> None:
    told, named = {}, []
    for node in ast.parse(STUB.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            told |= {alias.name: node.module for alias in node.names}
        elif isinstance(node, ast.Assign):
            named = ast.literal_eval(node.value)
    assert told == ems_fast._HOMES
    assert sorted(named) == ems_fast.__all__


def test_every_name_is_found_and_listed() -> None:
    for name in (*ems_fast.__all__, *ems_fast._ROOMS, "__version__"):
        assert getattr(ems_fast, name) is not None
        assert name in dir(ems_fast)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        ems_fast.trian  # noqa: B018


def test_every_room_is_one() -> None:
    rooms = {path.parent.name for path in STUB.parent.glob("*/__init__.py")} | {"errors"}
    assert set(ems_fast._ROOMS) == rooms


def test_importing_the_package_imports_nothing_else() -> None:
    code = """
import sys
import ems_fast
dir(ems_fast)
print(*sorted(name for name in sys.modules if name.startswith(("ems_fast", "numpy", "torch"))))
"""
    # Elsewhere than in the root, whose source would hide the installed package.
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    assert done.stdout.split() == ["ems_fast"], done.stderr
