"""Clipping gradients by their norm, sparse ones among them."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from ems_fast.ops.table import coalesce_rows


def clip_gradients(parameters: Iterable[Tensor], max_norm: float) -> Tensor:
    """Scale all gradients so that their norm, taken together, is at most `max_norm`.

    The same as `torch.nn.utils.clip_grad_norm_`, which knows dense gradients only.

    Returns:
        The norm before.
    """
    gradients = []
    for parameter in parameters:
        if parameter.grad is None:
            continue
        if parameter.grad.is_sparse:
            parameter.grad = coalesce_rows(parameter.grad)
            gradients.append(parameter.grad.values())
        else:
            gradients.append(parameter.grad)
    norm = torch.nn.utils.get_total_norm(gradients)
    if math.isinf(max_norm):
        return norm
    factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factor.to(gradient.device))
    return norm
