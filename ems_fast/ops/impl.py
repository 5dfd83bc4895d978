"""The `impl` and `reduction` switches that every objective shares."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ems_fast.errors import BackendError
from ems_fast.ops.native import cuda_import_error, cuda_kernels, cuda_problem

Impl = Literal["fused", "reference", "compiled"]
IMPLS = get_args(Impl)

# Device types that impl="fused" has kernels for in this build.
FUSED_DEVICES = frozenset({"cpu"} if cuda_import_error() else {"cpu", "cuda"})


def fused_runs_on(device: torch.device) -> bool:
    """Whether impl="fused" runs on `device`, here and now."""
    return device.type in FUSED_DEVICES and (device.type != "cuda" or cuda_problem(device) is None)


def check_fused_device(device: torch.device) -> None:
    """Raise `BackendError` unless impl="fused" has kernels for tensors on `device`."""
    if device.type in FUSED_DEVICES:
        return
    if device.type == "cuda":
        cuda_kernels()  # says why there are none
    raise BackendError(
        f"impl='fused' has kernels for {' and '.join(sorted(FUSED_DEVICES))} tensors, got "
        f"{device.type}: move the tensors, or pass impl='reference' or impl='compiled'"
    )


@functools.cache
def _compiled(reference: Callable[..., Tensor], dynamic: bool | None) -> Callable[..., Tensor]:
    compiled: Callable[..., Tensor] = torch.compile(reference, dynamic=dynamic)
    return compiled


def run_compiled(
    reference: Callable[..., Tensor], *args: Any, dynamic: bool | None = None, **options: Any
) -> Tensor:
    """What `torch.compile` of a reference returns.

    Raises:
        BackendError: the compiler is missing or fails.
    """
    try:
        return _compiled(reference, dynamic)(*args, **options)
    except Exception as error:
        # The classes are not named here: importing torch._dynamo takes seconds. Which of them comes
        # where there is no C++ compiler differs between versions of torch.
        failed = {"BackendCompilerFailed", "InductorError", "InvalidCxxCompiler"}
        if type(error).__name__ not in failed and not isinstance(error, ImportError):
            raise
        reason = " ".join(str(error).split("\n")[:2])
        raise BackendError(
            f"impl='compiled': torch.compile failed ({reason}); install a C++ compiler, or pass "
            "impl='fused' or impl='reference'"
        ) from error


Reduction = Literal["mean", "sum", "none"]
REDUCTIONS = get_args(Reduction)


def reduce_rows(loss: Tensor, reduction: Reduction) -> Tensor:
    """Reduce loss [B]; the mean of no rows is 0, so that an empty batch trains on nothing."""
    if reduction == "none":
        return loss
    return loss.sum() if reduction == "sum" or loss.shape[0] == 0 else loss.mean()
