"""The sentence-level contrastive objective: symmetric InfoNCE over cosines."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ems_fast.errors import InputError, check, check_one_of
from ems_fast.ops.contrastive.fused import contrastive_loss_fused
from ems_fast.ops.contrastive.reference import contrastive_loss_reference
from ems_fast.ops.impl import (
    IMPLS,
    REDUCTIONS,
    Impl,
    Reduction,
    check_fused_device,
    reduce_rows,
    run_compiled,
)

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def contrastive_loss(
    a: Tensor,
    b: Tensor,
    *,
    temperature: float | Tensor = 0.1,
    source_ids: Tensor | None = None,
    target_ids: Tensor | None = None,
    margin: float = 0.0,
    hardness: float = 0.0,
    several_positives: bool = False,
    matryoshka: Sequence[int] = (),
    matryoshka_weight: float = 1.0,
    reduction: Reduction = "mean",
    impl: Impl = "fused",
) -> Tensor:
    """Cross-entropy of in-batch translation retrieval, over rows and over columns (EMS, 3.2).

    ``s_ij = cos(a_i, b_j) / temperature``; b_i is a_i's translation and the loss of pair i is
    the mean of ``logsumexp_j(s_ij) − s_ii`` and ``logsumexp_j(s_ji) − s_ii``.
    The sums leave out every entry that is no true negative by `source_ids` or `target_ids`. With a
    `margin`, ``cos(a_i, b_i) − margin`` stands for the cosine of a pair (LaBSE, Feng et al., 2022):
    it has to win by so much. With `hardness`, the exponential of every negative is weighted by
    ``exp(hardness · cos(a_i, b_j))``, through which no gradient flows: what is nearest counts most
    (after Robinson et al., "Contrastive learning with hard negative samples", 2021, whose weights
    are normalised). With `several_positives` the entries that share a text with the pair are not
    left out but are positives too: the mean of all of a row's, margin included, stands for s_ii
    (``L_out`` of Khosla et al., "Supervised contrastive learning", 2020), and likewise of a
    column's. With `matryoshka` the loss is the mean of those of the first coordinates, so many of
    them as each width says, and of all (Kusupati et al., "Matryoshka representation learning",
    2022), each width weighing `matryoshka_weight` times as much as all: then the first coordinates
    alone are an embedding too.

    ``fused`` works in tiles of a few megabytes and keeps them for the backward pass while that
    takes no more than 320 MB; beyond, its memory does not grow with B · M. It has first derivatives
    only. Under autocast the loss is computed in float32, as PyTorch's own losses are; with autocast
    to bfloat16 on a processor that multiplies bfloat16 faster, ``fused`` rounds the operands of the
    matrix products, and only these, which takes half of their time.

    Args:
        a: [B, E], unnormalised; float32, float64, bfloat16 or float16. A zero vector has cosine 0
            with everything.
        b: [M, E] with M ≥ B, unnormalised; rows from B on are further negatives.
        temperature: positive; a scalar tensor gets a gradient.
        source_ids: int64 [M], hashes of the source texts of b's rows: pair j is not a negative of
            pair i where their hashes are equal.
        target_ids: int64 [M], hashes of the target texts, used the same way.
        margin: 0 or more, less than 1.
        hardness: 0 or more and finite; 0 weights all alike.
        several_positives: what to do with entries of equal ids: attract instead of leave out.
        matryoshka: widths from 1 to E − 1, ascending.
        matryoshka_weight: of each of these widths, the whole one's being 1; more than 0 and finite.
        reduction: ``mean`` over pairs, ``sum``, or ``none`` → [B].
        impl: ``fused``, ``reference`` or ``compiled``.

    Returns:
        The loss in float64 if a or b is, otherwise in float32.

    Raises:
        InputError: shapes, dtypes or values that do not fit.
        BackendError: `impl` names a backend that is missing.
    """
    check_one_of("impl", impl, IMPLS)
    check_one_of("reduction", reduction, REDUCTIONS)
    _check_vectors(a, b)
    _check_temperature(temperature)
    check(0 <= margin < 1, "margin", margin, "0 or more and less than 1")
    check(0 <= hardness < math.inf, "hardness", hardness, "0 or more and finite")
    _check_ids("source_ids", source_ids, b)
    _check_ids("target_ids", target_ids, b)
    _check_widths(matryoshka, a.shape[1])
    wanted = "more than 0 and finite"
    check(0 < matryoshka_weight < math.inf, "matryoshka_weight", matryoshka_weight, wanted)
    if matryoshka:
        losses = [
            contrastive_loss(
                a[:, :width], b[:, :width], temperature=temperature, source_ids=source_ids,
                target_ids=target_ids, margin=margin, hardness=hardness,
                several_positives=several_positives, reduction=reduction, impl=impl,
            )
            for width in (*matryoshka, a.shape[1])
        ]  # fmt: skip
        weights = [matryoshka_weight] * len(matryoshka) + [1.0]
        weighted = [w * loss for w, loss in zip(weights, losses, strict=True)]
        return torch.stack(weighted).sum(dim=0) / sum(weights)
    if impl == "fused":
        check_fused_device(a.device)
        by_pair = contrastive_loss_fused(
            a, b, temperature, source_ids, target_ids, margin, hardness, several_positives
        )
        return reduce_rows(by_pair, reduction)
    run: Callable[..., Tensor] = contrastive_loss_reference
    if impl == "compiled":
        run = functools.partial(run_compiled, run)
    with torch.autocast(a.device.type, enabled=False):
        return run(
            a, b, temperature=temperature, source_ids=source_ids, target_ids=target_ids,
            margin=margin, hardness=hardness, several_positives=several_positives,
            reduction=reduction,
        )  # fmt: skip


def _check_vectors(a: Tensor, b: Tensor) -> None:
    for name, x in (("a", a), ("b", b)):
        if not isinstance(x, Tensor):
            raise InputError(f"{name}: got {type(x).__name__}, expected a tensor")
        if x.dim() != 2 or x.shape[1] == 0:
            raise InputError(f"{name}: shape {list(x.shape)}, expected [rows, E] with E ≥ 1")
        if x.dtype not in DTYPES:
            raise InputError(
                f"{name}: dtype {x.dtype}, expected float32, float64, bfloat16 or float16"
            )
    if a.shape[1] != b.shape[1]:
        raise InputError(f"b: {b.shape[1]} columns, expected a's {a.shape[1]}")
    if a.device != b.device:
        raise InputError(f"b: on {b.device}, expected a's device {a.device}")
    if a.shape[0] > b.shape[0]:
        raise InputError(f"b: {b.shape[0]} rows, expected at least a's {a.shape[0]}")


def _check_temperature(temperature: float | Tensor) -> None:
    if isinstance(temperature, Tensor):
        if temperature.dim() != 0 or not temperature.is_floating_point():
            raise InputError(
                f"temperature: a {temperature.dtype} tensor of shape {list(temperature.shape)}, "
                "expected a floating-point scalar (shape [])"
            )
        if torch.compiler.is_compiling() or temperature.device.type != "cpu":
            return  # its value is not to be read here
        temperature = float(temperature.detach())
    if not isinstance(temperature, (int, float)):
        raise InputError(f"temperature: got {temperature!r}, expected a number or a scalar tensor")
    value = float(temperature)
    if not 0 < value < float("inf"):
        raise InputError(f"temperature: got {value}, expected a positive finite number")


def _check_ids(name: str, ids: Tensor | None, b: Tensor) -> None:
    if ids is None:
        return
    if not isinstance(ids, Tensor) or ids.dtype != torch.int64:
        given = ids.dtype if isinstance(ids, Tensor) else type(ids).__name__
        raise InputError(f"{name}: got {given}, expected an int64 tensor")
    if ids.shape != b.shape[:1]:
        raise InputError(
            f"{name}: shape {list(ids.shape)}, expected [{b.shape[0]}], one per row of b"
        )
    if ids.device != b.device:
        raise InputError(f"{name}: on {ids.device}, expected b's device {b.device}")


def _check_widths(widths: Sequence[int], E: int) -> None:
    whole = all(isinstance(width, int) and 1 <= width < E for width in widths)
    ascending = whole and all(x < y for x, y in itertools.pairwise(widths))
    check(ascending, "matryoshka", tuple(widths), f"ascending widths from 1 to {E - 1}")
