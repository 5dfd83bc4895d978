"""The contrastive loss by tiles: one exp per similarity serves both directions, no [B, M] matrix.

Forward: normalise, then for each tile of cosines (torch's BLAS) sum the exponentials of its rows
and of its columns. Backward: compute the tiles again, turn each into the gradient of its cosines
and multiply that into the gradients of both sides. A small batch is one tile and keeps it instead.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ems_fast.ops.contrastive.kernels import ContrastiveKernels
from ems_fast.ops.gemm import Operand, multiply_transposed
from ems_fast.ops.native import runs_on_cuda
from ems_fast.ops.operators import register

# Bytes of a tile, the only buffer that could grow with B · M. Two megabytes stay in the second-
# level caches of two cores; the matrix products measured 2 % slower with 4 MB.
TILE_BYTES = 2 << 20
# A batch whose whole matrix has at most this size is one tile, kept for the backward pass: three
# products instead of four.
KEPT_BYTES = 4 << 20
# The same two for a GPU, where memory is plenty and a launch costs as much as a megabyte's traffic.
CUDA_TILE_BYTES = 64 << 20
CUDA_KEPT_BYTES = 64 << 20
# Running maxima start at a value that no cosine falls below.
LEAST_COSINE = -2.0


def _is_kept(B: int, M: int, like: Tensor) -> bool:
    limit = CUDA_KEPT_BYTES if runs_on_cuda(like.device) else KEPT_BYTES
    return limit // like.dtype.itemsize >= B * M


def tile_shape(B: int, M: int, like: Tensor) -> tuple[int, int]:
    """Rows and columns of the largest tile: all of [B, M] if it is kept, else about 2 : 1.

    `like` has the device and the dtype.
    """
    if _is_kept(B, M, like):
        return B, M
    limit = CUDA_TILE_BYTES if runs_on_cuda(like.device) else TILE_BYTES
    elements = limit // like.dtype.itemsize
    rows = _even_part(B, math.isqrt(2 * elements))
    return rows, _even_part(M, elements // rows)


def _even_part(length: int, most: int) -> int:
    """The part size that cuts `length` into the fewest parts of about `most`, all but equal."""
    size = math.ceil(length / math.ceil(length / max(most, 1)))
    # A multiple of the kernels' vectors: other sizes slow the matrix product down.
    return min(math.ceil(size / 16) * 16, length)


def _stride(columns: int) -> int:
    # An odd number of cache lines: rows that lie a power of two apart evict each other.
    lines = (columns + 15) // 16
    return (lines + 1 - lines % 2) * 16


def _parts(length: int, size: int) -> Iterator[tuple[int, int]]:
    for start in range(0, length, max(size, 1)):
        yield start, min(length, start + size)


def _forward(
    a: Tensor,
    b: Tensor,
    temperature: Tensor,
    source_ids: Tensor | None,
    target_ids: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Per-pair losses [B] of a [B, E] and b [M, E], and what the backward pass needs.

    Returns:
        loss [B]; the normalised a and b; their inverse norms [B + M]; the sums of rows and
        columns, float64 [B + M]; the maxima they are relative to, [B + M], not used where that is
        1; the tile [B, M] if it is kept, otherwise [0, 0].
    """
    B, M, E = a.shape[0], b.shape[0], a.shape[1]
    native = ContrastiveKernels(a, temperature, B, M)

    unit_a, unit_b = a.new_empty(B, E), b.new_empty(M, E)
    inverse_norm = a.new_empty(B + M)
    native.normalise(unit_a, inverse_norm[:B], a)
    native.normalise(unit_b, inverse_norm[B:], b)

    duplicates = native.group_duplicates(source_ids), native.group_duplicates(target_ids)
    sums = a.new_zeros(B + M, dtype=torch.float64)
    maximum = a.new_full((B + M,), LEAST_COSINE)  # stays unused where the cosines are bounded
    loss = a.new_empty(B)
    rows, columns = tile_shape(B, M, a)
    keep = _is_kept(B, M, a)
    buffer = a.new_empty(rows, _stride(columns))
    workspace = native.workspace(rows, columns, a)
    for column, last_column in _parts(M, columns):
        columns_of_b = Operand(unit_b[column:last_column].t())
        for row, last_row in _parts(B, rows):
            tile = buffer[: last_row - row, : last_column - column]
            columns_of_b.multiply(tile, unit_a[row:last_row], add=False)
            native.accumulate(sums, maximum, loss, tile, workspace, duplicates, row, column, keep)
    native.finish(loss, sums, maximum)
    kept = buffer[:, :M] if keep else a.new_empty(0, 0)
    return loss, unit_a, unit_b, inverse_norm, sums, maximum, kept


def _fake_forward(a: Tensor, b: Tensor, *_: Tensor | None) -> tuple[Tensor, ...]:
    B, M = a.shape[0], b.shape[0]
    keep = _is_kept(B, M, a)
    return (
        a.new_empty(B),
        a.new_empty(a.shape),
        b.new_empty(b.shape),
        a.new_empty(B + M),
        a.new_empty(B + M, dtype=torch.float64),
        a.new_empty(B + M),
        a.new_empty_strided((B, M), (_stride(M), 1)) if keep else a.new_empty(0, 0),
    )


def _gradients(
    grad_loss: Tensor,
    unit_a: Tensor,
    unit_b: Tensor,
    inverse_norm: Tensor,
    sums: Tensor,
    maximum: Tensor,
    kept: Tensor,
    temperature: Tensor,
    source_ids: Tensor | None,
    target_ids: Tensor | None,
    need_a: bool,
    need_b: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of a, b and the temperature, given that of the losses [B].

    Returns:
        grad_a [B, E] if `need_a`, else [0, E]; grad_b likewise; the temperature's gradient, a
        float64 scalar, which only `need_a` computes.
    """
    B, M, E = unit_a.shape[0], unit_b.shape[0], unit_a.shape[1]
    native = ContrastiveKernels(unit_a, temperature, B, M)
    # What autograd kept may come back through hooks, with other strides.
    grad_loss, unit_a, unit_b = grad_loss.contiguous(), unit_a.contiguous(), unit_b.contiguous()
    inverse_norm, sums, maximum = inverse_norm.contiguous(), sums.contiguous(), maximum.contiguous()
    weight = unit_a.new_empty(B + M)
    native.weigh(weight, sums, grad_loss)

    is_kept = kept.numel() > 0
    # A kept tile has its masked entries out already.
    ids = (None, None) if is_kept else (source_ids, target_ids)
    duplicates = native.group_duplicates(ids[0]), native.group_duplicates(ids[1])
    grad_a = unit_a.new_empty(B if need_a else 0, E)
    grad_b = unit_b.new_empty(M if need_b else 0, E)
    if is_kept:
        rows, columns = B, M
        kept = kept if kept.stride(1) == 1 else kept.contiguous()
        buffer = unit_a.new_empty(B, max(kept.stride(0), M))
    else:
        rows, columns = tile_shape(B, M, unit_a)
        buffer = unit_a.new_empty(rows, _stride(columns))
    for column, last_column in _parts(M, columns):
        columns_of_b = unit_b[column:last_column]
        transposed = None if is_kept else Operand(columns_of_b.t())
        operand = Operand(columns_of_b) if need_a else None
        for row, last_row in _parts(B, rows):
            rows_of_a = unit_a[row:last_row]
            tile = buffer[: last_row - row, : last_column - column]
            if transposed is not None:
                transposed.multiply(tile, rows_of_a, add=False)
            native.gradient(
                tile, kept if is_kept else tile, weight, maximum, grad_loss, duplicates,
                row, column, is_kept,
            )  # fmt: skip
            if operand is not None:
                operand.multiply(grad_a[row:last_row], tile, add=column > 0)
            if need_b:
                multiply_transposed(grad_b[column:last_column], tile, rows_of_a, add=row > 0)
    if B == 0:
        grad_b.zero_()  # no tile has written to it
    of_temperature = unit_a.new_zeros((), dtype=torch.float64)
    if need_a:
        of_temperature = -native.k * native.normalise_backward(grad_a, unit_a, inverse_norm[:B])
    if need_b:
        native.normalise_backward(grad_b, unit_b, inverse_norm[B:])
    return grad_a, grad_b, of_temperature


def _fake_gradients(
    _: Tensor, unit_a: Tensor, unit_b: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    E = unit_a.shape[1]
    need_a, need_b = rest[-2:]
    return (
        unit_a.new_empty(unit_a.shape[0] if need_a else 0, E),
        unit_b.new_empty(unit_b.shape[0] if need_b else 0, E),
        unit_a.new_empty((), dtype=torch.float64),
    )


contrastive_backward = register("contrastive_backward", _gradients, _fake_gradients)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, _, temperature, source_ids, target_ids = inputs
    ctx.set_materialize_grads(False)
    # The vectors stay differentiable, so that a second derivative is refused, not taken for zero.
    ctx.mark_non_differentiable(*output[3:])
    ctx.save_for_backward(*output[1:], temperature, source_ids, target_ids)


def _backward(ctx: Any, grad_loss: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    if grad_loss is None:
        return (None,) * 5
    need_a, need_b, need_temperature = ctx.needs_input_grad[:3]
    *saved, temperature, source_ids, target_ids = ctx.saved_tensors
    grad_a, grad_b, grad_temperature = contrastive_backward(
        grad_loss, *saved, temperature, source_ids, target_ids, need_a or need_temperature, need_b
    )
    of_temperature = grad_temperature.to(temperature) if need_temperature else None
    return (grad_a if need_a else None, grad_b if need_b else None, of_temperature, None, None)


contrastive_forward = register("contrastive", _forward, _fake_forward, _backward, _setup_context)


def contrastive_loss_fused(
    a: Tensor,
    b: Tensor,
    *,
    temperature: float | Tensor,
    source_ids: Tensor | None,
    target_ids: Tensor | None,
) -> Tensor:
    """Per-pair losses [B]; the arguments are those of `contrastive_loss`, already checked."""
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    if not isinstance(temperature, Tensor):
        temperature = torch.tensor(temperature, dtype=torch.float64)
    loss: Tensor = contrastive_forward(
        a.to(dtype), b.to(dtype), temperature, source_ids, target_ids
    )[0]
    return loss
