"""A teacher's vectors of one side of the text, which both sides learn.

Reimers and Gurevych, "Making monolingual sentence embeddings multilingual using knowledge
distillation" (2020). The vectors are computed once, into an array that is mapped into memory: row r
is that of training pair r, in the order of the corpus's shards.

Shapes: n pairs, B pairs of a batch, W width of the teacher.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from ems_fast.corpus import BinaryCorpus, Shard
from ems_fast.encoding.protocol import Encodes, encode_sentences
from ems_fast.errors import InputError
from ems_fast.files.arrays import map_array
from ems_fast.files.atomic import replacing

Teacher: TypeAlias = str | Path | Encodes
"""An array of vectors in .npy format, or anything with `encode`."""
TeacherLoss = Literal["cosine", "mse"]
TeacherArray: TypeAlias = npt.NDArray[Any]

# Sentences that are decoded, encoded or checked together.
_BLOCK = 16_384


def teacher_loss(student: Tensor, teacher: Tensor, kind: TeacherLoss) -> Tensor:
    """How far sources and translations are from the teacher's vectors, a mean over all.

    Args:
        student: [2B, W], the sources and then the targets.
        teacher: [B, W].
        kind: ``mse``, the mean of squared differences, or ``cosine``, 1 − cosine.
    """
    wanted = torch.cat([teacher, teacher]).to(student.dtype)
    if kind == "mse":
        return F.mse_loss(student, wanted)
    return (1.0 - F.cosine_similarity(student, wanted)).mean()


def check_teacher(teacher: object) -> None:
    """Raise `InputError` unless `teacher` is a path or can encode."""
    if not isinstance(teacher, str | Path) and not callable(getattr(teacher, "encode", None)):
        raise InputError(
            f"teacher: got an object of type {type(teacher).__name__}, expected the path of a .npy "
            "file of vectors or an object with encode(sentences)"
        )


def open_teacher(path: str | Path, corpus: BinaryCorpus) -> TeacherArray:
    """Map the vectors [n, W] of a file.

    Raises:
        InputError: it is no array of floats with a finite row for every training pair.
    """
    vectors: TeacherArray = map_array(Path(path), f"teacher: {path}")
    n = corpus.num_pairs
    if vectors.ndim != 2 or len(vectors) != n or vectors.dtype.kind != "f":
        raise InputError(
            f"teacher: {path} has shape {vectors.shape} and dtype {vectors.dtype}, expected floats "
            f"with {n} rows: one a training pair, in the order of {corpus.path}"
        )
    for first in range(0, n, _BLOCK):
        finite = np.isfinite(vectors[first : first + _BLOCK]).all(axis=1)
        if not finite.all():
            raise InputError(
                f"teacher: row {first + int(np.argmin(finite))} of {path} has NaN or infinity in "
                "it, expected numbers"
            )
    return vectors


def teach(teacher: Encodes, corpus: BinaryCorpus, path: Path) -> None:
    """Write the teacher's vectors of every training pair to `path`, float16 [n, W].

    It reads the source side, English where there is English; where it tells its `languages`, as
    our encoders do, and the source's is not among them, the target side. The text is what the
    tokenizer's normalisation left of it: lower-case.
    """
    known = getattr(teacher, "languages", None)
    begun = False
    # Written, not mapped: in mapped memory a full disk would be a signal.
    with replacing(path) as temporary, temporary.open("wb") as file:
        for shard in corpus.shards:
            side = _side(shard, known)
            for first in range(0, shard.num_pairs, _BLOCK):
                pairs = range(first, min(first + _BLOCK, shard.num_pairs))
                texts = [corpus.tokenizer.decode(shard.pair(i)[side].tolist()) for i in pairs]
                found = np.asarray(encode_sentences(teacher, "teacher", texts))
                if not begun:
                    shape = (corpus.num_pairs, found.shape[1])
                    np.lib.format.write_array_header_1_0(
                        file, {"descr": "<f2", "fortran_order": False, "shape": shape}
                    )
                    begun = True
                file.write(np.ascontiguousarray(found, "<f2").data)


def _side(shard: Shard, known: Collection[str] | None) -> int:
    if not known or shard.source in known:
        return 0
    if shard.target in known:
        return 1
    raise InputError(
        f"teacher: knows neither language of {shard.name}; it reads {' '.join(sorted(known))}"
    )
