"""The sentence-level contrastive objective: symmetric InfoNCE over cosines."""

from __future__ import annotations

from torch import Tensor

from ems_fast.errors import InputError
from ems_fast.ops.contrastive_reference import contrastive_loss_reference
from ems_fast.ops.impl import Impl, Reduction, check_impl, check_reduction


def contrastive_loss(
    a: Tensor,
    b: Tensor,
    *,
    temperature: float | Tensor = 0.1,
    source_ids: Tensor | None = None,
    target_ids: Tensor | None = None,
    reduction: Reduction = "mean",
    impl: Impl = "reference",
) -> Tensor:
    """Cross-entropy of in-batch translation retrieval, over rows and over columns (EMS, 3.2).

    ``s_ij = cos(a_i, b_j) / temperature``; the loss of pair i is the mean of
    ``logsumexp_j(s_ij) − s_ii`` and ``logsumexp_j(s_ji) − s_ii``.

    Args:
        a: [B, E], unnormalised.
        b: [M, E] with M ≥ B, unnormalised; row i < B is a_i's translation, the rows beyond are
            further negatives.
        temperature: positive; a scalar tensor gets a gradient.
        source_ids, target_ids: int64 [M] hashes of the texts; pair j is not a negative of pair i
            where either hash is equal.
        reduction: ``mean`` over pairs, ``sum``, or ``none`` → [B].
        impl: ``fused``, ``reference`` or ``compiled``.

    Raises:
        InputError: shapes that do not fit.
        BackendError: `impl` names a backend that is missing.
    """
    check_impl(impl)
    check_reduction(reduction)
    if a.shape[0] > b.shape[0]:
        raise InputError(f"b: {b.shape[0]} rows, expected at least a's {a.shape[0]}")
    return contrastive_loss_reference(
        a, b, temperature=temperature, source_ids=source_ids, target_ids=target_ids,
        reduction=reduction,
    )
