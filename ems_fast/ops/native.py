"""The compiled extension: loaded once, with the reason kept when it cannot be."""

from __future__ import annotations

from types import ModuleType

# torch first: its libgomp.so.1 must be the one the kernels bind to, so that both share one pool.
import torch

from ems_fast.errors import BackendError

_kernels: ModuleType | None
_import_error: str | None
try:
    from ems_fast import _kernels  # type: ignore[attr-defined,no-redef]

    _import_error = None
except ImportError as error:
    _kernels = None
    _import_error = str(error)


def kernels() -> ModuleType:
    """The compiled kernels.

    Raises:
        BackendError: the extension is missing; the message says why and what to do.
    """
    if _kernels is None:
        raise BackendError(
            f"impl='fused' needs the compiled extension ems_fast._kernels, which failed to load "
            f"({_import_error}); reinstall ems-fast, or pass impl='reference'"
        )
    return _kernels


def import_error() -> str | None:
    """Why the compiled kernels are missing, or None if they are there."""
    return _import_error


def num_threads() -> int:
    """Threads that a kernel may use: torch's own setting, so there is one knob."""
    return torch.get_num_threads()


def has_fast_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 matrices faster than float32 ones."""
    return _kernels is not None and bool(_kernels.has_fast_bfloat16())


def has_fast_gemm() -> bool:
    """Whether the compiled float32 matrix products were built for this processor's vectors."""
    return _kernels is not None and bool(_kernels.gemm_is_fast())
