"""A step that runs out of memory says what would make it fit, and the run goes on with that."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.synthetic import TINY

import ems_fast
from ems_fast import BinaryCorpus, ModelConfig
from ems_fast.errors import TrainingError
from ems_fast.training.batches.batch import Batch
from ems_fast.training.objective import Losses, Objective

OPTIONS = {
    "device": "cpu", "progress": False, "batch_pairs": 16, "precision": "fp32", "evaluations": 1,
    "checkpoint_minutes": 0.0,
}  # fmt: skip


def fails_at(step: int, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    forward, seen = Objective.forward, []

    def full(self: Objective, batch: Batch) -> Losses:
        seen.append(batch)
        if len(seen) == step:
            raise error
        return forward(self, batch)

    monkeypatch.setattr(Objective, "forward", full)


def test_too_large_a_batch_is_named_and_the_run_resumes(
    corpus: BinaryCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 1 GiB"
    with monkeypatch.context() as patched:
        fails_at(4, torch.OutOfMemoryError(words), patched)
        with pytest.raises(
            TrainingError,
            match=r"^step 4 ran out of memory over a batch of 16 pairs, \d+ tokens \(CUDA out of "
            r"memory\); the last checkpoint is whole: resume it with slice_tokens=\d+, which",
        ):
            ems_fast.train(
                corpus.path, tmp_path / "run", model=ModelConfig(**TINY), max_steps=6, **OPTIONS
            )
    result = ems_fast.train(
        None, tmp_path / "run", resume=True, slice_tokens=50, device="cpu", progress=False
    )
    assert result.metrics["steps"] == 6


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 3 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA: out of memory"),
    ],
)
def test_memory_of_other_kinds(
    error: Exception, corpus: BinaryCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails_at(1, error, monkeypatch)
    with pytest.raises(TrainingError, match=r"tokens, in slices of slice_tokens=40 .*tokens=10,"):
        ems_fast.train(
            corpus.path, tmp_path / "run", model=ModelConfig(**TINY), max_steps=6,
            slice_tokens=40, **OPTIONS,
        )  # fmt: skip


def test_other_errors_are_not_memory(
    corpus: BinaryCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails_at(1, RuntimeError("mat1 and mat2 shapes cannot be multiplied"), monkeypatch)
    with pytest.raises(RuntimeError, match=r"^mat1 and mat2"):
        ems_fast.train(
            corpus.path, tmp_path / "run", model=ModelConfig(**TINY), max_steps=6, **OPTIONS
        )
