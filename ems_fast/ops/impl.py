"""The `impl` switch that every objective shares."""

from __future__ import annotations

from typing import Literal, get_args

import torch

from ems_fast.errors import BackendError, InputError
from ems_fast.ops.native import cuda_import_error, cuda_kernels, cuda_problem

Impl = Literal["fused", "reference", "compiled"]
IMPLS: tuple[str, ...] = get_args(Impl)

# Device types that impl="fused" has kernels for in this build.
FUSED_DEVICES = frozenset({"cpu"} if cuda_import_error() else {"cpu", "cuda"})


def fused_runs_on(device: torch.device) -> bool:
    """Whether impl="fused" runs on `device`, here and now."""
    return device.type in FUSED_DEVICES and (device.type != "cuda" or cuda_problem() is None)


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


def check_impl(impl: str) -> None:
    """Raise `InputError` unless `impl` is one of `IMPLS`."""
    if impl not in IMPLS:
        raise InputError(f"impl: got {impl!r}, expected one of {', '.join(map(repr, IMPLS))}")


Reduction = Literal["mean", "sum", "none"]
REDUCTIONS: tuple[str, ...] = get_args(Reduction)


def check_reduction(reduction: str) -> None:
    """Raise `InputError` unless `reduction` is one of `REDUCTIONS`."""
    if reduction not in REDUCTIONS:
        raise InputError(
            f"reduction: got {reduction!r}, expected one of {', '.join(map(repr, REDUCTIONS))}"
        )
