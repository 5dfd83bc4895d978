"""The `impl` switch that every objective shares."""

from __future__ import annotations

from typing import Literal, get_args

from ems_fast.errors import InputError

Impl = Literal["fused", "reference", "compiled"]
IMPLS: tuple[str, ...] = get_args(Impl)

# Device types that impl="fused" has kernels for.
FUSED_DEVICES = frozenset({"cpu"})


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
