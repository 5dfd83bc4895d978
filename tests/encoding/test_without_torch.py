"""Encoding with a token table where there is no torch, and that torch computes the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.without_torch import python_without_torch

import ems_fast
from ems_fast import InputError, SentenceEncoder

SENTENCES = ["Guten Morgen!", "", "good morning", "日本語の文", " ".join(["lang"] * 500)]


def in_torch(encoder: SentenceEncoder) -> SentenceEncoder:
    """The same model where the kernel does not take it: as a module in float64."""
    return SentenceEncoder(
        encoder.module, encoder.tokenizer, encoder.config, "cpu", torch.float64
    )  # fmt: skip


CODE = """
import json, pickle, sys, warnings
import numpy as np
import ems_fast

folder, output, sentences = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
warnings.simplefilter("ignore", ems_fast.EncodingWarning)
encoder = ems_fast.load(folder if folder != "None" else None)
encoder = pickle.loads(pickle.dumps(encoder)).to("cpu")
np.save(output + "vectors.npy", encoder.encode(sentences))
with open(output + "lines.txt", "w", encoding="utf-8") as file:
    file.writelines(line + "\\n" for line in sentences)
encoder = encoder.to("cpu:0")
file = output + "lines.txt", output + "file.npy"
ems_fast.encode_file(encoder, *file, devices=["cpu:0"], progress=False)
assert sys.modules["torch"] is None
"""


@pytest.mark.parametrize("storage", ["float32", "bfloat16", "int8", "shipped"])
def test_it_encodes_without_torch(table_run: Path, tmp_path: Path, storage: str) -> None:
    folder = None if storage == "shipped" else tmp_path / "model"
    if folder is not None:
        ems_fast.export(table_run, folder, to="ems-fast", bits=8 if storage == "int8" else 32)
    if storage == "bfloat16":
        weights = {k: v.bfloat16() for k, v in load_file(folder / "model.safetensors").items()}
        save_file(weights, folder / "model.safetensors")
        config = (folder / "config.toml").read_text(encoding="utf-8")
        (folder / "config.toml").write_text(config.partition("[files]")[0], encoding="utf-8")
    done = python_without_torch(CODE, folder, f"{tmp_path}/", json.dumps(SENTENCES))
    assert done.returncode == 0, done.stderr
    with pytest.warns(ems_fast.EncodingWarning):
        wanted = in_torch(ems_fast.load(folder)).encode(SENTENCES)
    for name in ("vectors", "file"):
        found = np.load(tmp_path / f"{name}.npy")
        np.testing.assert_allclose(found, wanted, atol=1e-6, rtol=0)


def test_what_needs_torch_says_so(run: Path) -> None:
    done = python_without_torch("import ems_fast; ems_fast.load(sys.argv[1])", run)
    assert done.returncode == 1
    assert "torch" in done.stderr.splitlines()[-1]


def test_a_module_of_the_table_encodes_the_same(table_run: Path) -> None:
    whole, made = ems_fast.load(table_run), ems_fast.load(table_run)
    made.module.to(torch.float32)
    sentences = SENTENCES[2:4]
    assert whole.dtype == made.dtype == torch.float32
    assert whole.device == made.device == torch.device("cpu")
    np.testing.assert_array_equal(made.encode(sentences), whole.encode(sentences))
    with torch.no_grad():  # the module is what counts from now on
        made.module.tokens.weight.mul_(2.0)
    np.testing.assert_allclose(made.encode(sentences), 2 * whole.encode(sentences), rtol=1e-6)


@pytest.mark.parametrize("normalize", [False, True])
def test_bfloat16_is_within_its_rounding(table_run: Path, normalize: bool) -> None:
    half, whole = ems_fast.load(table_run, dtype="bfloat16"), ems_fast.load(table_run)
    assert half.dtype == torch.bfloat16
    difference = half.encode(SENTENCES[2:4], normalize=normalize) - whole.encode(
        SENTENCES[2:4], normalize=normalize
    )
    assert 0 < np.abs(difference).max() < 0.02


def test_tables_that_do_not_fit_are_named(table_run: Path, tmp_path: Path) -> None:
    folder = ems_fast.export(table_run, tmp_path / "model", to="ems-fast", bits=8)
    config = (folder / "config.toml").read_text(encoding="utf-8").partition("[files]")[0]
    (folder / "config.toml").write_text(config, encoding="utf-8")
    weights = load_file(folder / "model.safetensors")
    name = "encoder.tokens.weight"
    for state, complaint in (
        ({"x": weights[name]}, "there is no encoder.tokens.weight"),
        ({name: weights[name][1:].clone(), f"{name}_scale": weights[f"{name}_scale"]}, "of shape"),
        ({name: weights[name]}, "do not go together"),
        ({name: weights[name], f"{name}_scale": weights[f"{name}_scale"][1:].clone()}, "is not"),
    ):
        save_file(state, folder / "model.safetensors")
        with pytest.raises(InputError, match=rf"does not fit config.toml \(.*{complaint}"):
            ems_fast.load(folder)
