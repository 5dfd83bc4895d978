"""XTR's loss in plain PyTorch: the definition that the fused kernels are held against."""

from __future__ import annotations

import torch
from torch import Tensor

from ems_fast.ops.bag_of_words import BagOfWords
from ems_fast.ops.impl import Reduction, reduce_rows


def xtr_loss_reference(
    hidden: Tensor,
    weight: Tensor,
    targets: BagOfWords,
    *,
    reduction: Reduction = "mean",
) -> Tensor:
    """The loss of `ems_fast.xtr_loss` with every intermediate spelled out."""
    logits = hidden @ weight.T  # (B, V)
    # Half-precision logits are reduced in float32, as the kernels do.
    dtype = torch.promote_types(logits.dtype, torch.float32)
    logits = logits.to(dtype)
    q = targets.weights.to(dtype)  # (K,)
    B = hidden.shape[0]
    rows = torch.repeat_interleave(
        torch.arange(B, device=q.device), targets.indptr.diff(), output_size=q.numel()
    )
    per_row = torch.zeros(B, dtype=dtype, device=q.device)
    mass = per_row.index_add(0, rows, q)
    entropy = per_row.index_add(0, rows, torch.xlogy(q, q))
    dot = per_row.index_add(0, rows, q * logits[rows, targets.indices.long()])
    return reduce_rows(entropy + mass * logits.logsumexp(dim=1) - dot, reduction)
