"""Registration of the fused losses with torch, so that autograd and `torch.compile` know them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ems_fast.errors import BackendError

_LIBRARY: Any = torch.library.Library("ems_fast", "FRAGMENT")  # type: ignore[no-untyped-call]


def _no_second_derivative(*_: Any) -> None:
    raise BackendError(
        "impl='fused' has first derivatives only: pass impl='reference' to differentiate twice"
    )


def register(
    name: str,
    function: Callable[..., Any],
    fake: Callable[..., Any],
    backward: Callable[..., Any] = _no_second_derivative,
    setup_context: Callable[..., None] | None = None,
) -> Any:
    """Register `function`, which changes none of its arguments, as the operator ``ems_fast::name``.

    The same as `torch.library.custom_op`, without the wrappers that it puts around an eager call:
    those cost as much as the kernels of a small batch.

    Args:
        name: of the operator.
        function: annotated, as its schema is read from it; its results share no memory with its
            arguments or with each other.
        fake: the same without data: tensors of the results' shapes and dtypes.
        backward: as `torch.library.register_autograd` has it; without one, differentiating the
            operator is a `BackendError`.
        setup_context: likewise.

    Returns:
        The operator, to be called with positional arguments.
    """
    qualified = f"ems_fast::{name}"
    _LIBRARY.define(name + torch.library.infer_schema(function, mutates_args=()))
    for device in ("CPU", "CUDA"):
        _LIBRARY.impl(name, function, device)
    torch.library.register_fake(qualified, fake, lib=_LIBRARY)
    torch.library.register_autograd(qualified, backward, setup_context=setup_context, lib=_LIBRARY)
    return getattr(torch.ops.ems_fast, name).default
