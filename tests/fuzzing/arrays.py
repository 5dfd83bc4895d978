"""Targets: what takes tensors, arrays and sentences from memory, down to the kernels."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

import ems_fast
from ems_fast import BagOfWords
from ems_fast.encoding.encoder import SentenceEncoder
from ems_fast.mining.search import mine_vectors
from fuzzing.models import write_run
from fuzzing.mutation import NUMBERS
from fuzzing.target import Attempt, Target

_FLOATS = (torch.float32, torch.float32, torch.float32, torch.float64, torch.bfloat16)
_OTHERS = (torch.float16, torch.int64, torch.bool, torch.complex64, torch.int8)
_SIZES = (0, 1, 1, 2, 3, 5, 17, 33)
_WILD = (float("nan"), float("inf"), -float("inf"), 1e38, -1e38, 1e-45, 0.0)
_IDS = tuple(n for n in NUMBERS if -(2**63) <= n < 2**63)
_TEXTS = (
    "", " ", "lumi kato", "\0", "\ud800", "\U0010ffff", "x" * 70_000, "\u202e" * 50, "a\u0301" * 99,
    "\ud55c\uae00 \u00e9", "\ufeff", "\n\t", "\u2581", "<unk>", "<pad>",
)  # fmt: skip


def _shape(rng: random.Random, *sizes: int) -> tuple[int, ...]:
    """The sizes, or now and then others."""
    if rng.random() < 0.97:
        return sizes
    return tuple(rng.choice(_SIZES) for _ in range(rng.choice((0, 1, 2, 2, 3))))


def _tensor(rng: random.Random, dtype: torch.dtype, *sizes: int) -> Tensor:
    """Of some dtype, strides and content, with a gradient where it can have one."""
    dtype = rng.choice((dtype,) if rng.random() < 0.97 else _OTHERS)
    shape = _shape(rng, *sizes)
    made = torch.randn(shape, generator=torch.Generator().manual_seed(rng.randrange(99)))
    if made.numel() and rng.random() < 0.3:
        made.view(-1)[rng.randrange(made.numel())] = rng.choice(_WILD)
    made = made.to(dtype)
    kind = rng.randrange(8)
    if kind == 0 and made.dim() == 2:
        made = made.t().contiguous().t()
    elif kind == 1 and made.dim() == 2:
        made = torch.cat([made, made], dim=1)[:, : made.shape[1]]
    elif kind == 2 and made.dim() == 2 and len(made):
        made = made[:1].expand(made.shape)
    if dtype.is_floating_point and rng.random() < 0.7:
        made = made.detach().requires_grad_()
    return made


def _odd(rng: random.Random, usual: Any, others: Sequence[Any]) -> Any:
    return usual if rng.random() < 0.8 else rng.choice(others)


def _ids(rng: random.Random, n: int, below: int) -> Tensor:
    """Ids, mostly below a number."""
    found = [rng.randrange(max(below, 1)) for _ in range(n)]
    if found and rng.random() < 0.3:
        found[rng.randrange(n)] = rng.choice(_IDS)
    ids = torch.tensor(found, dtype=torch.int64)
    if rng.random() < 0.2:
        return ids.to(rng.choice((torch.int32, torch.int16, torch.float32)))
    return torch.stack([ids, ids], dim=1)[:, 0] if rng.random() < 0.2 else ids


def _positions(rng: random.Random, n: int, end: int) -> Tensor:
    """n + 1 positions from 0 to `end` that ascend, mostly."""
    found = [0, *sorted(rng.randrange(end + 1) for _ in range(n - 1)), end][: n + 1]
    if rng.random() < 0.3:
        found[rng.randrange(len(found))] = rng.choice(_IDS)
    return torch.tensor(found, dtype=torch.int64)


def _backward(rng: random.Random, loss: Tensor) -> None:
    if loss.requires_grad and rng.random() < 0.8:
        loss.sum().backward()


def _xtr(_: Path) -> Attempt:
    def attempt(rng: random.Random) -> None:
        B, D, V, K = (rng.choice(_SIZES[1:]) for _ in range(4))
        dtype = rng.choice(_FLOATS)
        targets = BagOfWords(_positions(rng, B, K), _ids(rng, K, V), torch.rand(K))
        if rng.random() < 0.3:
            targets = targets.sorted_by_word()
        if K and rng.random() < 0.2:
            targets.weights[rng.randrange(K)] = rng.choice((*_WILD, -1.0))
        loss = ems_fast.xtr_loss(
            _tensor(rng, dtype, B, D), _tensor(rng, dtype, V, D), targets,
            reduction=rng.choice(("mean", "sum", "none")),
            workspace_mb=rng.choice((None, 0, 1)),
        )  # fmt: skip
        _backward(rng, loss)

    return attempt


def _contrastive(_: Path) -> Attempt:
    def attempt(rng: random.Random) -> None:
        B, M, E = (rng.choice(_SIZES[1:]) for _ in range(3))
        dtype = rng.choice(_FLOATS)
        ids = [_ids(rng, max(B, M), 3) if rng.random() < 0.5 else None for _ in range(2)]
        loss = ems_fast.contrastive_loss(
            _tensor(rng, dtype, min(B, M), E), _tensor(rng, dtype, max(B, M), E),
            temperature=_odd(rng, 0.1, (torch.tensor(0.1), 1e-30, 1e30, 0.0, -1.0, float("nan"))),
            source_ids=ids[0], target_ids=ids[1], margin=_odd(rng, 0.3, (0.0, 1.0, -1.0)),
            hardness=_odd(rng, 0.0, (1.0, 1e30, float("nan"))),
            several_positives=rng.random() < 0.3,
            matryoshka=_odd(rng, (), ((1,), (1, 2), (2, 1), (0,), (2**63,))),
        )  # fmt: skip
        _backward(rng, loss)

    return attempt


def _bags(_: Path) -> Attempt:
    def attempt(rng: random.Random) -> None:
        N, B, V = (rng.choice(_SIZES) for _ in range(3))
        options: dict[str, Any] = {
            "weighting": rng.choice(("count", "distinct", "released")),
            "vocab_size": _odd(rng, None, (V, -1, 2**31, 2**62)),
        }
        if rng.random() < 0.5:
            bags = BagOfWords.from_packed(_ids(rng, N, V), _positions(rng, B, N), **options)
        else:
            ids = _ids(rng, N * B, V).reshape(B, N)
            bags = BagOfWords.from_padded(ids, _ids(rng, B, N + 1), **options)
        bags.check(rng.choice((V + 1, 2**62)))
        if int(bags.indptr[-1]):
            bags.sorted_by_word()

    return attempt


def _array(rng: random.Random, n: int, width: int) -> npt.NDArray[Any]:
    kinds = ("<f4", "<f4", "<f4", "<f8", "<f2", ">f4", "|i1", "|u1", "<i8", "?", "<c8", "O", "<U3")
    made = np.random.default_rng(rng.randrange(99)).normal(size=_shape(rng, n, width))
    with np.errstate(invalid="ignore"):
        made = made.astype(rng.choice(kinds) if rng.random() < 0.3 else "<f4")
    if made.size and made.dtype.kind == "f" and rng.random() < 0.2:
        with np.errstate(over="ignore"):
            made.reshape(-1)[rng.randrange(made.size)] = rng.choice(_WILD)
    kind = rng.randrange(6)
    if kind == 0:
        made = np.asfortranarray(made)
    elif kind == 1 and made.ndim:
        made = made[::-1]
    elif kind == 2 and made.ndim == 2 and len(made):
        made = np.broadcast_to(made[:1], made.shape)
    return made


def _vectors(_: Path) -> Attempt:
    def attempt(rng: random.Random) -> None:
        n, m, D = (rng.choice(_SIZES[1:]) for _ in range(3))
        k = _odd(rng, 1, (2, 4, 0, -1, 2**31, 2**63, True, 1.5))
        threshold = _odd(rng, None, (0.5, float("nan"), float("inf")))
        margin = _odd(rng, "ratio", ("distance", "absolute", "x"))
        mine_vectors(
            _array(rng, n, D), _array(rng, m, D), k=k, margin=margin, threshold=threshold,
            memory_bytes=_odd(rng, 1 << 20, (1, 0, -1)),
        )  # fmt: skip
        scores = _array(rng, n, 1).reshape(-1)
        ems_fast.fit_threshold(scores, np.arange(len(scores)) % 2 == 0)

    return attempt


def _sentences(where: Path) -> Attempt:
    encoders: list[SentenceEncoder] = [
        ems_fast.load(write_run(where / kind, kind).path)
        for kind in ("phrases", "8", "4", "layers")
    ]

    def attempt(rng: random.Random) -> None:
        encoder = rng.choice(encoders)
        texts: list[Any] = [rng.choice(_TEXTS) for _ in range(rng.choice((0, 1, 2, 5)))]
        if rng.random() < 0.05:
            texts.append(rng.choice((None, 7, b"x", ["x"], float("nan"))))
        options: dict[str, Any] = {
            "normalize": rng.random() < 0.5,
            "on_overlong": _odd(rng, "truncate", ("error", "x")),
            "precision": _odd(rng, "float32", ("int8", "ubinary", "x")),
            "dim": _odd(rng, None, (8, 1, 0, -1, 17, 2**63)),
            "batch_tokens": _odd(rng, None, (1, 100, 0, 2**63)),
        }
        encoder.encode(texts, progress=False, **options)
        ems_fast.align(encoder, texts, texts[::-1], max_lines=_odd(rng, 4, (1, 0, 99)))

    return attempt


def targets() -> list[Target]:
    """All of them."""
    return [
        Target("xtr_loss", _xtr, 2),
        Target("contrastive_loss", _contrastive, 2),
        Target("BagOfWords", _bags, 4),
        Target("mine_vectors", _vectors, 2),
        Target("encode", _sentences, 2),
    ]
