"""XTR, cross-lingual token-level reconstruction: bag-of-words cross-entropy over the vocabulary."""

from __future__ import annotations

from torch import Tensor

from ems_fast.errors import InputError
from ems_fast.ops.bag_of_words import BagOfWords
from ems_fast.ops.impl import Impl, Reduction, check_impl, check_reduction
from ems_fast.ops.xtr_reference import xtr_loss_reference


def xtr_loss(
    hidden: Tensor,
    weight: Tensor,
    targets: BagOfWords,
    *,
    bias: Tensor | None = None,
    gradient_filter: float = 0.0,
    reduction: Reduction = "mean",
    impl: Impl = "reference",
) -> Tensor:
    """KL(q ‖ softmax(hidden · weightᵀ + bias)) per row (EMS, section 3.1).

    ``loss_i = Σ_w q_iw log q_iw + (Σ_w q_iw) · logsumexp_w(z_iw) − Σ_w q_iw z_iw``, which is the KL
    divergence when a row of q sums to 1 and what the authors' code computes when it does not.

    Args:
        hidden: [B, D], the reconstruction head's output.
        weight: [V, D], the output embedding.
        targets: B bags of words over V tokens.
        bias: [V] or None.
        gradient_filter: probabilities below it contribute nothing to the gradient; 0 is exact.
        reduction: ``mean`` over rows, ``sum``, or ``none`` → [B].
        impl: ``fused``, ``reference`` or ``compiled``.

    Raises:
        InputError: shapes that do not fit, ids outside of the vocabulary.
        BackendError: `impl` names a backend that is missing.
    """
    check_impl(impl)
    check_reduction(reduction)
    if len(targets) != hidden.shape[0]:
        raise InputError(f"targets: {len(targets)} rows for {hidden.shape[0]} rows of hidden")
    return xtr_loss_reference(hidden, weight, targets, bias=bias, reduction=reduction)
