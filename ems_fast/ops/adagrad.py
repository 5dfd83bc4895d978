"""AdaGrad on the rows of a table that a batch has touched."""

from __future__ import annotations

import torch
from torch import Tensor

from ems_fast.ops.native import Kernels, import_error, runs_on_cuda


def adagrad_rows(
    table: Tensor,
    sums: Tensor,
    rows: Tensor,
    gradient: Tensor,
    *,
    lr: float,
    eps: float,
    weight_decay: float,
) -> None:
    """Step the given rows, in place: one pass over them on a CPU in float32.

    ``sums_r += mean(g_r²)``, then ``w_r -= lr · (g_r / (√sums_r + eps) + weight_decay · w_r)``.

    Args:
        table: [V, D].
        sums: float32 [V], what earlier steps have summed.
        rows: int64 [R], distinct.
        gradient: [R, D] in table's dtype, of these rows.
        lr: the step size.
        eps: against division by zero.
        weight_decay: decoupled, in units of `lr`.

    Raises:
        ValueError: a row outside of the table.
    """
    on_cpu = table.device.type == "cpu" and not runs_on_cuda(table.device)
    there = on_cpu and import_error() is None
    if not (there and table.dtype == torch.float32 and table.is_contiguous()):
        adagrad_rows_reference(
            table, sums, rows, gradient, lr=lr, eps=eps, weight_decay=weight_decay
        )
        return
    Kernels(table.device).run(
        "table_adagrad", table, sums, rows.contiguous(), gradient.contiguous(), len(rows),
        table.shape[1], len(table), lr, eps, weight_decay,
    )  # fmt: skip


def adagrad_rows_reference(
    table: Tensor,
    sums: Tensor,
    rows: Tensor,
    gradient: Tensor,
    *,
    lr: float,
    eps: float,
    weight_decay: float,
) -> None:
    """`adagrad_rows` in plain PyTorch: its definition."""
    total = sums[rows] + gradient.square().mean(dim=1)
    sums[rows] = total
    step = gradient / (total.sqrt() + eps)[:, None] + weight_decay * table[rows]
    table.index_add_(0, rows, step.to(table.dtype), alpha=-lr)
