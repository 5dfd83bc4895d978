"""XTR, cross-lingual token-level reconstruction: bag-of-words cross-entropy over the vocabulary."""

from __future__ import annotations

import torch
from torch import Tensor

from ems_fast.errors import InputError, check_one_of
from ems_fast.ops import workspace
from ems_fast.ops.bag_of_words import BagOfWords
from ems_fast.ops.impl import (
    IMPLS,
    REDUCTIONS,
    Impl,
    Reduction,
    reduce_rows,
    run_compiled,
)
from ems_fast.ops.xtr.fused import xtr_rows
from ems_fast.ops.xtr.reference import xtr_loss_reference

_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def xtr_loss(
    hidden: Tensor,
    weight: Tensor,
    targets: BagOfWords,
    *,
    reduction: Reduction = "mean",
    impl: Impl = "fused",
    workspace_mb: int | None = None,
) -> Tensor:
    """KL(q ‖ softmax(hidden · weightᵀ)) per row (EMS, section 3.1).

    ``loss_i = Σ_w q_iw log q_iw + (Σ_w q_iw) · logsumexp_w(z_iw) − Σ_w q_iw z_iw``, which is the KL
    divergence when a row of q sums to 1 and what the authors' code computes when it does not.

    Under `torch.autocast` the op behaves as a linear layer followed by a loss: hidden and weight
    are rounded to autocast's dtype for the large products; sums, the sparse part, the loss and the
    gradient of a float32 weight are float32.

    The gradient of weight comes from a pool (`ems_fast.ops.workspace`), to which it returns once
    `optimizer.zero_grad(set_to_none=True)`, torch's default, has dropped it: so it costs neither
    fresh memory nor a pass that sets it to zero.

    Args:
        hidden: [B, D], the reconstruction head's output; float32, float64, bfloat16 or float16.
        weight: [V, D], the output embedding; hidden's dtype, except under autocast.
        targets: B bags of words over V tokens.
        reduction: ``mean`` over rows, ``sum``, or ``none`` → [B].
        impl: ``fused``, ``reference`` (plain PyTorch, the definition) or ``compiled``
            (`torch.compile` of the reference).
        workspace_mb: MiB that may be kept from forward for backward; the part of the logits beyond
            it is computed twice. None: ``EMS_FAST_WORKSPACE_MB``, 512 by default. Only for
            ``fused``.

    Returns:
        float32 (float64 for float64), a scalar or [B].

    Raises:
        InputError: shapes, dtypes or devices that do not fit, ids outside of the vocabulary,
            weights of targets that are negative or not finite.
        BackendError: `impl` names a backend that is missing.
    """
    check_one_of("impl", impl, IMPLS)
    check_one_of("reduction", reduction, REDUCTIONS)
    _check_tensors(hidden, weight, targets)
    if workspace_mb is not None and workspace_mb < 0:
        raise InputError(f"workspace_mb: got {workspace_mb}, expected 0 or more MiB")
    if impl == "fused":
        kept = workspace.budget() if workspace_mb is None else workspace_mb * workspace.MIB
        return reduce_rows(xtr_rows(hidden, weight, targets, workspace_bytes=kept), reduction)
    if not torch.compiler.is_compiling():
        targets.check(weight.shape[0])
    if impl == "compiled":
        return run_compiled(
            xtr_loss_reference, hidden, weight, targets, reduction=reduction, dynamic=True
        )
    return xtr_loss_reference(hidden, weight, targets, reduction=reduction)


def _check_tensors(hidden: Tensor, weight: Tensor, targets: BagOfWords) -> None:
    for name, tensor in (("hidden", hidden), ("weight", weight)):
        if tensor.dim() != 2 or tensor.shape[1] < 1:
            raise InputError(f"{name}: shape {list(tensor.shape)}, expected 2 dimensions")
        if tensor.dtype not in _DTYPES:
            raise InputError(
                f"{name}: dtype {str(tensor.dtype)[6:]}, expected one of "
                f"{', '.join(str(dtype)[6:] for dtype in _DTYPES)}"
            )
    (B, D), V = hidden.shape, weight.shape[0]
    if weight.shape[1] != D:
        raise InputError(f"weight: width {weight.shape[1]}, expected hidden's D = {D}")
    if V < 1:
        raise InputError("weight: no rows, expected one per token of the vocabulary")
    if len(targets) != B:
        raise InputError(f"targets: {len(targets)} rows for {B} rows of hidden")
    for name, other in (("weight", weight), ("targets", targets.indptr)):
        if other.device != hidden.device:
            raise InputError(f"{name}: on {other.device}, expected hidden's {hidden.device}")
    by_word = targets.by_word
    if by_word is not None:
        wanted = (4, targets.indices.numel())
        if by_word.dtype != torch.int64 or by_word.shape != wanted:
            raise InputError(
                f"targets.by_word: {str(by_word.dtype)[6:]} {list(by_word.shape)}, expected int64 "
                f"{list(wanted)}, as sorted_by_word() makes it"
            )
        if by_word.device != hidden.device:
            raise InputError(f"targets.by_word: on {by_word.device}, expected {hidden.device}")
    if not (targets.indptr.device == targets.indices.device == targets.weights.device):
        raise InputError("targets: indptr, indices and weights are on different devices")
