"""Batches larger than memory: encoding in slices changes nothing but what is kept."""

from __future__ import annotations

from itertools import accumulate, islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.synthetic import TINY, tiny_options
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

import ems_fast
from ems_fast import BinaryCorpus
from ems_fast.distributed.ranks import Ranks
from ems_fast.model.config import ModelConfig
from ems_fast.model.ems import EMSModel
from ems_fast.model.packing import pack
from ems_fast.training.batches import batch_stream
from ems_fast.training.batches.batch import Batch
from ems_fast.training.objective import Objective, ObjectiveConfig


@given(st.lists(st.integers(1, 12), min_size=1, max_size=40), st.integers(1, 60))
def test_slices_are_the_sentences_in_order(lengths: list[int], tokens: int) -> None:
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    packed = pack(np.arange(starts[-1]), starts[:-1], np.diff(starts))
    slices = packed.split(tokens)
    assert torch.equal(torch.cat([part.ids for part in slices]), packed.ids)
    assert torch.equal(torch.cat([part.positions for part in slices]), packed.positions)
    sizes = [T for part in slices for n, T in part.groups for _ in range(n)]
    assert sizes == sorted(lengths)
    for part in slices:
        assert part.offsets.tolist() == [0, *accumulate(part.lengths().tolist())]
        assert part.lengths().tolist() == [T for n, T in part.groups for _ in range(n)]
        assert part.order.tolist() == list(range(sum(n for n, _ in part.groups)))
        assert part.ids.numel() == sum(n * T for n, T in part.groups)
        assert part.ids.numel() <= tokens or part.num_sentences == 1


@pytest.fixture(scope="module")
def batch(corpus: BinaryCorpus) -> Batch:
    stream = batch_stream(corpus, tiny_options().batches, Ranks(0, 1, torch.device("cpu")))
    first = next(batch for batch, _ in islice(stream, 1))
    stream.close()
    return first


def objective(dropout: float = 0.0, slice_tokens: int | None = None) -> Objective:
    torch.manual_seed(3)
    model = EMSModel(
        ModelConfig(**TINY, vocab_size=600, languages=("de", "en", "fr"), dropout=dropout)
    )
    return Objective(model.train(), ObjectiveConfig(slice_tokens=slice_tokens))


def gradients(objective: Objective, batch: Batch) -> dict[str, Tensor]:
    torch.manual_seed(11)
    losses = objective(batch)
    losses.total.backward()
    found = {name: p.grad for name, p in objective.named_parameters() if p.grad is not None}
    return {"loss": losses.total.detach(), **found}


@pytest.mark.parametrize("slice_tokens", [1, 50, 10_000])
def test_slices_give_the_whole_batch_s_gradients(batch: Batch, slice_tokens: int) -> None:
    want = gradients(objective().double(), batch)
    got = gradients(objective(slice_tokens=slice_tokens).double(), batch)
    assert got.keys() == want.keys()
    for name, value in want.items():
        torch.testing.assert_close(got[name], value, rtol=1e-10, atol=1e-12)


def test_dropout_is_the_same_the_second_time(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    got = gradients(objective(dropout=0.3, slice_tokens=50), batch)
    # The same slices, but each encoded once and kept.
    monkeypatch.setattr(
        "ems_fast.training.objective.checkpoint", lambda encoder, part, use_reentrant: encoder(part)
    )
    want = gradients(objective(dropout=0.3, slice_tokens=50), batch)
    assert not torch.equal(want["loss"], gradients(objective(), batch)["loss"])
    for name, value in want.items():
        assert torch.equal(got[name], value), name


def kept_for_backward(slice_tokens: int | None, batch: Batch) -> int:
    """Elements that the encoder keeps from forward."""
    kept = 0

    def count(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.numel()
        return tensor

    module = objective(slice_tokens=slice_tokens)
    with saved_tensors_hooks(count, lambda tensor: tensor):
        module._embed(batch.sentences)
    return kept


def test_a_sliced_batch_keeps_next_to_nothing(batch: Batch) -> None:
    assert kept_for_backward(50, batch) < kept_for_backward(None, batch) / 20


def test_training_in_slices(corpus: BinaryCorpus, tmp_path: Path) -> None:
    options = {"batch_pairs": 16, "max_steps": 4, "evaluations": 1, "precision": "fp32"}
    model = ModelConfig(**TINY, dropout=0.0)
    results = [
        ems_fast.train(
            corpus.path, tmp_path / str(tokens), model=model, device="cpu", progress=False,
            slice_tokens=tokens, **options,
        )
        for tokens in (None, 60)
    ]  # fmt: skip
    plain, sliced = (result.encoder.encode(["dova kira", "tu"]) for result in results)
    np.testing.assert_allclose(sliced, plain, rtol=1e-4, atol=1e-5)


def test_bad_slices() -> None:
    with pytest.raises(ems_fast.InputError, match="slice_tokens: got 0"):
        ObjectiveConfig(slice_tokens=0)
