"""Where a model is loaded from, and what is wrong with its files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import ems_fast
from ems_fast import InputError
from ems_fast.encoding import shipped

SENTENCES = ["eins zwei", "drei", "vier fünf sechs"]


@pytest.fixture
def exported(run: Path, tmp_path: Path) -> Path:
    return ems_fast.export(run, tmp_path / "models" / "multilingual", to="ems-fast", bits=8)


@pytest.fixture
def installed(exported: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(shipped, "_FOLDER", exported.parent)
    return exported


def test_eight_bits_are_nearly_as_good(run: Path, exported: Path) -> None:
    whole, small = ems_fast.load(run).encode(SENTENCES), ems_fast.load(exported).encode(SENTENCES)
    cosines = (whole * small).sum(1) / np.linalg.norm(whole, axis=1) / np.linalg.norm(small, axis=1)
    assert cosines.min() > 0.99
    weights = "model.safetensors"
    assert (exported / weights).stat().st_size < (run / weights).stat().st_size


@pytest.mark.parametrize("name", [None, "multilingual"])
def test_a_shipped_model_needs_no_folder(installed: Path, name: str | None) -> None:
    wanted = ems_fast.load(installed).encode(SENTENCES)
    np.testing.assert_array_equal(ems_fast.load(name).encode(SENTENCES), wanted)


def test_a_folder_of_that_name_comes_first(
    installed: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ems_fast.export(run, "multilingual", to="ems-fast")
    wanted = ems_fast.load(run).encode(SENTENCES)
    np.testing.assert_array_equal(ems_fast.load("multilingual").encode(SENTENCES), wanted)


@pytest.mark.usefixtures("installed")
def test_an_unknown_name_lists_those_that_are_there() -> None:
    with pytest.raises(InputError, match=r"'labse' is neither the folder .*'multilingual'"):
        ems_fast.load("labse")
    with pytest.raises(InputError, match="holds no model"):
        ems_fast.load("nowhere/run")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.model"])
def test_a_damaged_file_is_found_before_use(exported: Path, name: str) -> None:
    content = bytearray((exported / name).read_bytes())
    content[len(content) // 2] ^= 1
    (exported / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name}: is damaged"):
        ems_fast.load(exported)
    (exported / name).unlink()
    with pytest.raises(InputError, match=rf"{name}: cannot be read"):
        ems_fast.load(exported)
