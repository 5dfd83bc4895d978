"""Where a model is loaded from, and what is wrong with its files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.synthetic import TINY

import ems_fast
from ems_fast import InputError, ModelConfig
from ems_fast.encoding import shipped
from ems_fast.encoding.encoder import _sent, default_batch_tokens, default_dtype
from ems_fast.model.packing import pack

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


@pytest.mark.parametrize(
    ("layers", "place", "capability", "dtype"),
    [
        (2, "cuda:1", (8, 0), torch.bfloat16),
        (2, "cuda:1", (7, 5), torch.float32),
        (0, "cuda:1", (8, 0), torch.float32),
        (2, "cpu", None, torch.float32),
    ],
)
def test_the_dtype_that_is_taken_by_itself(
    layers: int, place: str, capability: tuple[int, int] | None, dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    sizes = {"reconstruction": False} if layers == 0 else {}
    config = ModelConfig(**{**TINY, "layers": layers, **sizes})
    assert default_dtype(config, torch.device(place)) == dtype


def test_batches_are_larger_on_a_gpu_and_do_not_make_the_host_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copies: list[dict[str, object]] = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: Pinned(tensor, copies))
    gpu = torch.device("cuda")
    assert default_batch_tokens("cuda:1") > default_batch_tokens("cpu")
    batch = pack(np.arange(3), np.array([0, 1]), np.array([1, 2]))
    assert _sent(batch, gpu).groups == batch.groups
    assert copies == [{"device": gpu, "non_blocking": True}] * 4  # ids, positions, order, offsets


class Pinned:
    def __init__(self, tensor: torch.Tensor, copies: list[dict[str, object]]) -> None:
        self.tensor, self.copies = tensor, copies

    def to(self, device: torch.device, non_blocking: bool) -> torch.Tensor:
        self.copies.append({"device": device, "non_blocking": non_blocking})
        return self.tensor
