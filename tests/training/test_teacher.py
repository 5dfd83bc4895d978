"""Learning from a teacher's vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.synthetic import ending_after
from support.word_teacher import WordTeacher

import ems_fast
from ems_fast import BinaryCorpus, InputError, ModelConfig
from ems_fast.runs.folder import RunFolder
from ems_fast.training.teacher import teacher_loss

TABLE = ModelConfig(layers=0, width=32, reconstruction=False)
QUICK = {
    "model": TABLE, "batch_pairs": 64, "log_steps": 1, "evaluations": 1, "device": "cpu",
    "progress": False,
}  # fmt: skip


def taught(folder: Path) -> list[float]:
    return [x["teacher"] for x in RunFolder(folder).read_metrics() if x["event"] == "train"]


def test_the_losses_are_their_definitions() -> None:
    a, b = torch.randn(6, 5, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    twice = torch.cat([b, b])
    torch.testing.assert_close(teacher_loss(a, b, "mse"), ((a - twice) ** 2).mean())
    cosines = (a * twice).sum(1) / a.norm(dim=1) / twice.norm(dim=1)
    torch.testing.assert_close(teacher_loss(a, b, "cosine"), 1 - cosines.mean())


@pytest.mark.parametrize("width", [32, 48])
@pytest.mark.parametrize("loss", ["cosine", "mse"])
def test_both_sides_learn_the_teacher_alone(
    corpus: BinaryCorpus, tmp_path: Path, width: int, loss: str
) -> None:
    teacher = WordTeacher(width)
    result = ems_fast.train(
        corpus.path, tmp_path / "run", teacher=teacher, teacher_loss=loss, contrastive_weight=0.0,
        max_steps=150, **QUICK,
    )  # fmt: skip
    curve = taught(tmp_path / "run")
    assert np.mean(curve[-5:]) < 0.5 * curve[0]
    source, target = zip(*corpus.shards[0].valid_pairs(), strict=True)
    if width == 32 and loss == "cosine":
        wanted = teacher.encode(list(source))
        for side in (source, target):
            cosines = np.sum(result.encoder.encode(list(side), normalize=True) * wanted, axis=1)
            assert np.mean(cosines / np.linalg.norm(wanted, axis=1)) > 0.6


def test_a_teacher_beside_the_others_resumes_exactly(corpus: BinaryCorpus, tmp_path: Path) -> None:
    options = {"teacher": WordTeacher(20), "max_steps": 8, **QUICK}
    ems_fast.train(corpus.path, tmp_path / "whole", **options)
    with ending_after(4):
        ems_fast.train(corpus.path, tmp_path / "parts", **options)
    ems_fast.train(None, tmp_path / "parts", resume=True, device="cpu", progress=False)
    whole, parts = (
        RunFolder(tmp_path / name).read_checkpoint()["model"] for name in ("whole", "parts")
    )
    assert "teacher_head.weight" in whole
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_file_of_vectors_is_what_the_teacher_says(corpus: BinaryCorpus, tmp_path: Path) -> None:
    teacher, options = WordTeacher(32), {"max_steps": 4, **QUICK}
    ems_fast.train(corpus.path, tmp_path / "a", teacher=teacher, **options)
    vectors = np.load(tmp_path / "a" / "teacher.npy")
    shard = corpus.shards[0]
    text = corpus.tokenizer.decode(shard.pair(7)[0].tolist())
    np.testing.assert_allclose(vectors[7], teacher.encode([text])[0], atol=2e-3)
    np.save(tmp_path / "vectors.npy", vectors)
    ems_fast.train(corpus.path, tmp_path / "b", teacher=tmp_path / "vectors.npy", **options)
    assert taught(tmp_path / "a") == taught(tmp_path / "b")


def test_a_teacher_that_does_not_fit_is_refused(corpus: BinaryCorpus, tmp_path: Path) -> None:
    def begin(vectors: object, **options: object) -> None:
        if isinstance(vectors, np.ndarray):
            np.save(tmp_path / "vectors.npy", vectors)
            vectors = tmp_path / "vectors.npy"
        ems_fast.train(corpus.path, tmp_path / "no", teacher=vectors, **QUICK, **options)

    vectors = np.zeros((corpus.num_pairs, 32), np.float32)
    with pytest.raises(InputError, match=rf"expected floats with {corpus.num_pairs} rows"):
        begin(vectors[1:])
    vectors[5, 3] = np.nan
    with pytest.raises(InputError, match=r"row 5 of .* has NaN"):
        begin(vectors)
    with pytest.raises(InputError, match="teacher: got an object of type int"):
        begin(3)
    with pytest.raises(InputError, match="cannot be read"):
        begin(tmp_path / "missing.npy")
    with pytest.raises(InputError, match=r"teacher_weight: got 0.0 with a teacher"):
        begin(WordTeacher(32), teacher_weight=0.0)
    with pytest.raises(InputError, match=r"teacher_weight: got 1.0 without a teacher"):
        begin(None, teacher_weight=1.0)
    with pytest.raises(InputError, match="order of a prepared corpus"):
        ems_fast.train(tmp_path, tmp_path / "no", teacher=tmp_path / "vectors.npy", **QUICK)
    assert not (tmp_path / "no").exists()
