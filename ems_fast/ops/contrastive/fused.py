"""The contrastive loss by tiles: one exp per similarity serves both directions, no [B, M] matrix.

Forward: normalise, then for each tile of cosines (torch's BLAS) sum the exponentials of its rows
and of its columns. Backward: compute the tiles again, turn each into the gradient of its cosines
and multiply that into the gradients of both sides. Where all tiles together are small enough they
are kept instead: three products, not four.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ems_fast.ops import workspace
from ems_fast.ops.contrastive.kernels import ContrastiveKernels, positives_of
from ems_fast.ops.gemm import Operand, can_round, multiply_transposed
from ems_fast.ops.native import runs_on_cuda
from ems_fast.ops.operators import register

# Bytes of a tile. Two megabytes stay in the second-level caches of two cores; the matrix products
# measured 2 % slower with 4 MB. For a GPU, a launch costs as much as a megabyte's traffic.
TILE_BYTES = 2 << 20
CUDA_TILE_BYTES = 64 << 20
# Tiles that have at most this size together, 8,192 float32 pairs, are kept for the backward pass.
KEPT_BYTES = 320 << 20
# Running maxima start at a value that no cosine falls below.
LEAST_COSINE = -2.0


def tile_shape(B: int, M: int, like: Tensor) -> tuple[int, int]:
    """Rows and columns of the largest tile, about 2 : 1. `like` has the device and the dtype."""
    limit = CUDA_TILE_BYTES if runs_on_cuda(like.device) else TILE_BYTES
    elements = limit // like.dtype.itemsize
    if elements >= B * M:
        return B, M
    rows = _even_part(B, math.isqrt(2 * elements))
    return rows, _even_part(M, elements // rows)


def _kept_shape(B: int, M: int, rows: int, columns: int, itemsize: int) -> tuple[int, int, int]:
    """Tiles that are kept, and the size of each in memory; no tiles if they are made again."""
    tiles = -(-B // max(rows, 1)) * -(-M // max(columns, 1))
    shape = (tiles, rows, _stride(columns))
    limit = min(KEPT_BYTES, workspace.budget())
    return shape if math.prod(shape) * itemsize <= limit else (0, *shape[1:])


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
    margin: float,
    hardness: float,
    several: bool,
    rounded: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Per-pair losses [B] of a [B, E] and b [M, E], and what the backward pass needs.

    Returns:
        loss [B]; the normalised a and b; their inverse norms [B + M]; the sums of rows and
        columns, float64 [B + M]; the maxima they are relative to, [B + M], not used where that is
        1; the tiles that are kept, [tiles, rows, stride]; with `several` how many positives rows
        and columns have, float64 [B + M].
    """
    B, M, E = a.shape[0], b.shape[0], a.shape[1]
    maximum = a.new_full((B + M,), LEAST_COSINE)
    native = ContrastiveKernels(
        a, temperature, maximum, M, source_ids, target_ids, margin, hardness, several
    )

    unit_a, unit_b = a.new_empty(B, E), b.new_empty(M, E)
    inverse_norm = a.new_empty(B + M)
    native.normalise(unit_a, inverse_norm[:B], a)
    native.normalise(unit_b, inverse_norm[B:], b)

    sums = a.new_zeros(B + M, dtype=torch.float64)
    loss = a.new_empty(B)
    totals = a.new_zeros(2, B + M, dtype=torch.float64) if several else None
    rows, columns = tile_shape(B, M, a)
    kept = workspace.empty(_kept_shape(B, M, rows, columns, a.dtype.itemsize), a.dtype, a.device)
    keep = len(kept) > 0
    tiles = iter(kept if keep else itertools.repeat(a.new_empty(rows, _stride(columns))))
    room = native.workspace(rows, columns, a)
    for column, last_column in _parts(M, columns):
        columns_of_b = Operand(unit_b[column:last_column].t(), rounded=rounded)
        for row, last_row in _parts(B, rows):
            buffer = next(tiles)
            tile = buffer[: last_row - row, : last_column - column]
            if keep:  # an operator's result is defined all over
                buffer[last_row - row :].zero_()
                buffer[:, last_column - column :].zero_()
            columns_of_b.multiply(tile, unit_a[row:last_row], add=False)
            native.place_positives(tile, row, column, totals)
            native.accumulate(sums, loss, tile, room, row, column, keep)
    counts = a.new_empty(0, dtype=torch.float64)
    if totals is not None:
        mean, counts = totals[0] / totals[1], totals[1].clone()
        loss.copy_((mean[:B] + mean[B : 2 * B]) / 2)
    native.finish(loss, sums)
    return loss, unit_a, unit_b, inverse_norm, sums, maximum, kept, counts


def _fake_forward(a: Tensor, b: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    several = rest[-2]
    B, M = a.shape[0], b.shape[0]
    kept = _kept_shape(B, M, *tile_shape(B, M, a), a.dtype.itemsize)
    norms = a.new_empty(B + M)
    return (
        a.new_empty(B), a.new_empty(a.shape), b.new_empty(b.shape), norms,
        torch.empty_like(norms, dtype=torch.float64), torch.empty_like(norms), a.new_empty(kept),
        a.new_empty(B + M if several else 0, dtype=torch.float64),
    )  # fmt: skip


def _gradients(
    grad_loss: Tensor,
    unit_a: Tensor,
    unit_b: Tensor,
    inverse_norm: Tensor,
    sums: Tensor,
    maximum: Tensor,
    kept: Tensor,
    counts: Tensor,
    temperature: Tensor,
    source_ids: Tensor | None,
    target_ids: Tensor | None,
    margin: float,
    hardness: float,
    several: bool,
    rounded: bool,
    need_a: bool,
    need_b: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of a, b and the temperature, given that of the losses [B].

    Returns:
        grad_a [B, E] if `need_a`, else [0, E]; grad_b likewise; the temperature's gradient, a
        float64 scalar, which only `need_a` computes.
    """
    B, M, E = unit_a.shape[0], unit_b.shape[0], unit_a.shape[1]
    # What autograd kept may come back through hooks, with other strides.
    grad_loss, unit_a, unit_b = grad_loss.contiguous(), unit_a.contiguous(), unit_b.contiguous()
    inverse_norm, sums, maximum = inverse_norm.contiguous(), sums.contiguous(), maximum.contiguous()
    is_kept = len(kept) > 0
    # A kept tile has its masked entries out already.
    ids = (None, None) if is_kept and not several else (source_ids, target_ids)
    native = ContrastiveKernels(unit_a, temperature, maximum, M, *ids, margin, hardness, several)
    weight = unit_a.new_empty(B + M)
    native.weigh(weight, sums, grad_loss)
    grad_a = unit_a.new_empty(B if need_a else 0, E)
    grad_b = unit_b.new_empty(M if need_b else 0, E)
    rows, columns = tile_shape(B, M, unit_a)
    buffer = unit_a.new_empty(rows, _stride(columns))
    tiles = iter(kept.contiguous() if is_kept else itertools.repeat(buffer))
    of_positives = unit_a.new_zeros(B if several else 1, dtype=torch.float64)
    pull = _pull(grad_loss, counts, native.slope, M) if several else None
    for column, last_column in _parts(M, columns):
        columns_of_b = unit_b[column:last_column]
        transposed = None if is_kept else Operand(columns_of_b.t(), rounded=rounded)
        operand = Operand(columns_of_b, rounded=rounded) if need_a else None
        for row, last_row in _parts(B, rows):
            rows_of_a = unit_a[row:last_row]
            extent = slice(last_row - row), slice(last_column - column)
            tile, of_tile = next(tiles)[extent], buffer[extent]
            if transposed is not None:
                transposed.multiply(tile, rows_of_a, add=False)
                native.place_positives(tile, row, column, None)
            native.gradient(of_tile, tile, weight, grad_loss, row, column, is_kept)
            if pull is not None:
                native.pull_positives(of_tile, of_positives, pull, row, column)
            elif margin:
                of_positives += positives_of(of_tile, row, column).sum(dtype=torch.float64)
            if operand is not None:
                operand.multiply(grad_a[row:last_row], of_tile, add=column > 0)
            if need_b:
                multiply_transposed(
                    grad_b[column:last_column], of_tile, rows_of_a, add=row > 0, rounded=rounded
                )
    if B == 0:
        grad_b.zero_()  # no tile has written to it
    if need_a:
        along = native.normalise_backward(grad_a, unit_a, inverse_norm[:B])
        of_temperature = -native.slope * (along - margin * of_positives.sum())
    else:
        of_temperature = unit_a.new_zeros((), dtype=torch.float64)
    if need_b:
        native.normalise_backward(grad_b, unit_b, inverse_norm[B:])
    return grad_a, grad_b, of_temperature


def _pull(grad_loss: Tensor, counts: Tensor, slope: Tensor | float, M: int) -> Tensor:
    """What every positive of a row and of a column takes from its gradient, [B + M]."""
    B = len(grad_loss)
    half = grad_loss.double() * slope / 2
    pull = grad_loss.new_zeros(B + M)
    pull[:B] = half / counts[:B]
    pull[B : 2 * B] = half / counts[B : 2 * B]
    return pull


def _fake_gradients(_: Tensor, a: Tensor, b: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    need_a, need_b = rest[-2:]
    return (
        a.new_empty(len(a) if need_a else 0, a.shape[1]),
        b.new_empty(len(b) if need_b else 0, b.shape[1]),
        a.new_empty((), dtype=torch.float64),
    )


contrastive_backward = register("contrastive_backward", _gradients, _fake_gradients)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, _, temperature, source_ids, target_ids, *ctx.scalars = inputs
    ctx.set_materialize_grads(False)
    # The vectors stay differentiable, so that a second derivative is refused, not taken for zero.
    ctx.mark_non_differentiable(*output[3:])
    ctx.save_for_backward(*output[1:], temperature, source_ids, target_ids)


def _backward(ctx: Any, grad_loss: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    if grad_loss is None:
        return (None,) * 9
    need_a, need_b, need_temperature = ctx.needs_input_grad[:3]
    *saved, temperature, source_ids, target_ids = ctx.saved_tensors
    grad_a, grad_b, grad_temperature = contrastive_backward(
        grad_loss, *saved, temperature, source_ids, target_ids, *ctx.scalars,
        need_a or need_temperature, need_b,
    )  # fmt: skip
    of_temperature = grad_temperature.to(temperature) if need_temperature else None
    return (grad_a if need_a else None, grad_b if need_b else None, of_temperature, *(None,) * 6)


contrastive_forward = register("contrastive", _forward, _fake_forward, _backward, _setup_context)


def _rounds(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether autocast asks for products in bfloat16, and they are there."""
    if not (torch.is_autocast_enabled(device.type) and can_round(dtype, device)):
        return False
    return torch.get_autocast_dtype(device.type) == torch.bfloat16


def contrastive_loss_fused(
    a: Tensor,
    b: Tensor,
    temperature: float | Tensor,
    source_ids: Tensor | None,
    target_ids: Tensor | None,
    margin: float,
    hardness: float,
    several: bool,
) -> Tensor:
    """Per-pair losses [B]; the arguments are those of `contrastive_loss`, already checked."""
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    if not isinstance(temperature, Tensor):
        temperature = torch.tensor(temperature, dtype=torch.float64)
    rounded = _rounds(dtype, a.device)
    loss: Tensor = contrastive_forward(
        a.to(dtype), b.to(dtype), temperature, source_ids, target_ids, margin, hardness, several,
        rounded,
    )[0]  # fmt: skip
    return loss
