"""The contrastive loss in plain PyTorch: the definition that the fused kernels are held against."""

from __future__ import annotations

import torch
from torch import Tensor

from ems_fast.ops.impl import Reduction, reduce_rows

# Norms below this are raised to it, so that a zero vector has cosine 0 with everything.
NORM_EPS = 1e-12


def contrastive_loss_reference(
    a: Tensor,
    b: Tensor,
    *,
    temperature: float | Tensor = 0.1,
    source_ids: Tensor | None = None,
    target_ids: Tensor | None = None,
    margin: float = 0.0,
    hardness: float = 0.0,
    several_positives: bool = False,
    reduction: Reduction = "mean",
) -> Tensor:
    """The loss of `ems_fast.contrastive_loss` with every intermediate spelled out.

    The first B rows of b are a's positives; its other rows are further negatives of the rows of a.
    """
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    B, M = a.shape[0], b.shape[0]
    u = torch.nn.functional.normalize(a.to(dtype), dim=1, eps=NORM_EPS)
    v = torch.nn.functional.normalize(b.to(dtype), dim=1, eps=NORM_EPS)
    column = torch.arange(M, device=a.device)
    pairs = column[:B, None] == column[None, :]
    same = pairs.clone()
    if source_ids is not None:
        same |= source_ids[:B, None] == source_ids[None, :]
    if target_ids is not None:
        same |= target_ids[:B, None] == target_ids[None, :]
    is_positive = same if several_positives else pairs
    cosines = u @ v.T
    scores = (cosines - margin * is_positive.to(dtype)) / temperature  # (B, M)
    if hardness:
        scores = scores + hardness * cosines.detach().masked_fill(is_positive, 0)
    scores = scores.masked_fill(same & ~is_positive, float("-inf"))
    attracting = scores.masked_fill(~is_positive, 0)
    by_row = scores.logsumexp(dim=1) - attracting.sum(dim=1) / is_positive.sum(dim=1)
    square, chosen = attracting[:, :B], is_positive[:, :B]
    by_column = scores[:, :B].logsumexp(dim=0) - square.sum(dim=0) / chosen.sum(dim=0)
    return reduce_rows((by_row + by_column) / 2, reduction)
