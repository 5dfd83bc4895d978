from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ems_fast import InputError
from ems_fast.files.tensors import MappedTensors


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    tensors = {
        "floats": torch.arange(6.0).view(2, 3),
        "halves": torch.tensor([1.0, -2.5], dtype=torch.bfloat16),
        "bytes": torch.tensor([[-127], [3]], dtype=torch.int8),
        "shorts": torch.arange(3, dtype=torch.int16),
    }
    save_file(tensors, path)
    return path


def test_tensors_are_views_of_the_file(file: Path) -> None:
    tensors = MappedTensors(file)
    np.testing.assert_array_equal(tensors.get("floats"), [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(tensors.get("bytes"), [[-127], [3]])
    halves = tensors.get("halves").astype(np.uint32) << 16
    np.testing.assert_array_equal(halves.view(np.float32), [1.0, -2.5])
    assert tensors.get("none") is None
    assert tensors.content[:] == file.read_bytes()
    with pytest.raises(ValueError, match="read-only"):
        tensors.get("floats")[0, 0] = 1


def test_what_is_no_such_file_is_an_error(file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="shorts is of dtype I16"):
        MappedTensors(file).get("shorts")
    with pytest.raises(InputError, match="cannot be read \\(No such file"):
        MappedTensors(tmp_path / "none")
    content = file.read_bytes()
    cut = (b"", content[:5], content[:60], b"\xff" * 64, content[:-1], content[:-30])
    for damaged in cut:
        file.write_bytes(damaged)
        with pytest.raises(InputError, match="cannot be read"):
            [MappedTensors(file).get(each) for each in ("floats", "halves", "bytes", "shorts")]


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 20]},
        {"dtype": "F32", "shape": [2, 3], "data_offsets": [-24, 0]},
        {"dtype": "F32", "shape": [2, 3]},
        {"dtype": "F32", "shape": "x", "data_offsets": [0, 24]},
        7,
    ],
)
def test_a_header_that_makes_no_sense_is_an_error(tmp_path: Path, entry: object) -> None:
    header = json.dumps({"t": entry}).encode()
    path = tmp_path / "x"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(24))
    with pytest.raises(InputError, match="cannot be read"):
        MappedTensors(path).get("t")
