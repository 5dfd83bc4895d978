"""The maths against numbers computed with the authors' released code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ems_fast.encoding.released.load import state_from_released
from ems_fast.model.config import ModelConfig
from ems_fast.model.ems import EMSModel
from ems_fast.model.packing import pack
from ems_fast.ops.bag_of_words import BagOfWords
from ems_fast.training.batches.batch import Batch
from ems_fast.training.objective import Objective, ObjectiveConfig

RELATIVE = 1e-5


@pytest.fixture(scope="module")
def numbers(shared: Path) -> dict[str, np.ndarray]:
    with np.load(shared / "fixtures" / "reference_small.npz") as archive:
        return {name: archive[name] for name in archive.files}


def build(numbers: dict[str, np.ndarray], prefix: str) -> dict[str, torch.Tensor]:
    return state_from_released(
        {
            name.removeprefix(prefix): torch.from_numpy(value)
            for name, value in numbers.items()
            if name.startswith(prefix)
        }
    )


@pytest.fixture(scope="module")
def model(numbers: dict[str, np.ndarray]) -> EMSModel:
    config = ModelConfig(
        vocab_size=300, languages=tuple("abcdefg"), layers=3, width=32, heads=4, ffn_width=64,
        language_width=12, projection_width=128, max_tokens=24,
    )  # fmt: skip
    model = EMSModel(config).eval()
    model.load_state_dict(build(numbers, "param/"))
    return model


def flat(ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([row[:n] for row, n in zip(ids, lengths, strict=True)])


@pytest.fixture(scope="module")
def batch(numbers: dict[str, np.ndarray]) -> Batch:
    lengths = [numbers["len1"], numbers["len2"]]
    sides = [flat(numbers["ids1"], lengths[0]), flat(numbers["ids2"], lengths[1])]
    offsets = np.concatenate([[0], np.concatenate(lengths).cumsum()])
    swapped = np.concatenate([[0], np.concatenate(lengths[::-1]).cumsum()])
    pairs = torch.arange(len(lengths[0]))
    return Batch(
        pack(np.concatenate(sides), offsets[:-1], np.diff(offsets)),
        BagOfWords.from_packed(
            torch.from_numpy(np.concatenate(sides[::-1])),
            torch.from_numpy(swapped),
            weighting="released",
        ),
        torch.from_numpy(np.concatenate([numbers["tgt_lang1"], numbers["tgt_lang2"]])),
        pairs,
        pairs,
    )


def assert_close(actual: torch.Tensor, expected: np.ndarray | torch.Tensor) -> None:
    """Relative to the largest entry: gradients of unused rows are exactly zero."""
    expected = torch.as_tensor(expected)
    scale = expected.abs().max().item()
    assert (actual.detach() - expected).abs().max().item() <= RELATIVE * scale


def test_embeddings(model: EMSModel, batch: Batch, numbers: dict[str, np.ndarray]) -> None:
    with torch.no_grad():
        source, target = model.encoder(batch.sentences).chunk(2)
    assert_close(source, numbers["emb1"])
    assert_close(target, numbers["emb2"])


@pytest.mark.parametrize("impl", ["reference", "fused"])
def test_losses_and_every_gradient(
    model: EMSModel, batch: Batch, numbers: dict[str, np.ndarray], impl: str
) -> None:
    model.zero_grad()
    losses = Objective(model, ObjectiveConfig(impl=impl))(batch)
    losses.total.backward()
    assert_close(losses.total, numbers["loss"])
    assert_close(losses.xtr, numbers["xtr"])
    assert_close(losses.contrastive, numbers["contrastive"])
    gradients = {name: p.grad for name, p in model.named_parameters()}
    expected = build(numbers, "grad/")
    assert gradients.keys() == expected.keys()
    for name, gradient in expected.items():
        assert gradients[name] is not None, name
        assert_close(gradients[name], gradient)
