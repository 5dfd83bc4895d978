"""The compiled extensions: loaded once, with the reason kept when one cannot be, and called."""

from __future__ import annotations

import functools
import importlib
from types import ModuleType
from typing import Any

# torch first: its libgomp.so.1 must be the one the kernels bind to, so that both share one pool.
import torch
from torch import Tensor

from ems_fast.errors import BackendError


def _load(name: str) -> tuple[ModuleType | None, str | None]:
    try:
        return importlib.import_module(f"ems_fast.{name}"), None
    except ImportError as error:
        return None, str(error)


_kernels, _import_error = _load("_kernels")
_cuda, _cuda_import_error = _load("_cuda")
if _cuda is None and _kernels is not None and _kernels.cuda_build != "built":
    _cuda_import_error = _kernels.cuda_build

# Types of the devices whose tensors go to the CUDA kernels. Tests add the CPU, with a _cuda that is
# the kernels' source compiled for it.
_cuda_device_types = frozenset({"cuda"})

# The numbers that stand for dtypes in the kernels (csrc/xtr.h); float16 only in those for CUDA.
DTYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}


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


def cuda_import_error() -> str | None:
    """Why the CUDA kernels are missing, or None if they are there (a device may still not be)."""
    return _cuda_import_error


def cuda_architectures() -> str:
    """What the CUDA kernels were compiled for, for example "80 90 120": 12.0 is the newest."""
    return "" if _cuda is None else str(_cuda.architectures)


def cuda_kernels() -> ModuleType:
    """The CUDA kernels.

    Raises:
        BackendError: they are missing, or cannot run here; the message says why and what to do.
    """
    problem = cuda_problem()
    if _cuda is None or problem is not None:
        raise BackendError(
            f"impl='fused' on a GPU needs the CUDA kernels of ems-fast, which cannot run: "
            f"{problem}; pass impl='compiled' or impl='reference'"
        )
    return _cuda


def cuda_problem() -> str | None:
    """Why the CUDA kernels cannot run here, or None if they can. Looks for a device once."""
    return _cuda_import_error if _cuda is None else _device_problem(_cuda)


@functools.cache
def _device_problem(cuda: ModuleType) -> str | None:
    count, problem = cuda.device_count()
    return None if count else problem or "there is no device"


def runs_on_cuda(device: torch.device) -> bool:
    """Whether tensors on `device` go to the CUDA kernels."""
    return device.type in _cuda_device_types


class Kernels:
    """The kernels for tensors on one device. A name takes the same arguments on every device.

    On a GPU a kernel is queued on the stream that is torch's current one when this is made, and
    nothing waits for it.

    Raises:
        BackendError: there are none for this device here.
    """

    def __init__(self, device: torch.device) -> None:
        self.on_cuda = runs_on_cuda(device)
        self._gpu: int | None = None
        self._where: tuple[int, ...]  # what every kernel wants to know last
        if not self.on_cuda:
            self._module, self._where = kernels(), (num_threads(),)
            return
        self._module, self._where = cuda_kernels(), (0, 0)
        if device.type == "cuda":
            stream = torch.cuda.current_stream(device)
            self._gpu = stream.device_index
            self._where = (stream.device_index, stream.cuda_stream)

    def run(self, name: str, *arguments: Tensor | float | None) -> Any:
        """Call a kernel. It takes tensors by their address (None: 0), dtypes as in `DTYPES`."""
        kernel = getattr(self._module, name)
        if self._gpu is not None and self._gpu != torch.cuda.current_device():
            with torch.cuda.device(self._gpu):
                return kernel(*arguments, *self._where)
        return kernel(*arguments, *self._where)


def num_threads() -> int:
    """Threads that a kernel may use: torch's own setting, so there is one knob."""
    return torch.get_num_threads()


def has_fast_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 matrices faster than float32 ones."""
    return _kernels is not None and bool(_kernels.has_fast_bfloat16())


def cuda_has_bfloat16() -> bool:
    """Whether torch's current GPU has instructions for bfloat16, and does not emulate them."""
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def has_fast_gemm() -> bool:
    """Whether the compiled float32 matrix products were built for this processor's vectors."""
    return _kernels is not None and bool(_kernels.gemm_is_fast())
