"""The compiled extensions: loaded once, with the reason kept when one cannot be, and called."""

from __future__ import annotations

import functools
import importlib
import re
from types import ModuleType
from typing import Any

# torch first: its libgomp.so.1 must be the one the kernels bind to, so that both share one pool.
import torch
from torch import Tensor

from ems_fast.errors import BackendError, InputError
from ems_fast.ops.isa import choose_isa
from ems_fast.ops.threads import num_threads


def _load(name: str) -> tuple[ModuleType | None, str | None]:
    try:
        return importlib.import_module(f"ems_fast.{name}"), None
    except ImportError as error:
        return None, str(error)


_kernels, _import_error = _load("_kernels")
_wrong_isa: InputError | None = None  # said when kernels are asked for
if _kernels is not None:
    try:
        choose_isa(_kernels)
    except InputError as error:
        _wrong_isa = error
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
        InputError: the variable ``EMS_FAST_ISA`` names no instruction set of this processor.
    """
    if _wrong_isa is not None:
        raise _wrong_isa
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
    """What the CUDA kernels were compiled for: "80 90 120+" is up to 12.0, and newer by PTX."""
    return "" if _cuda is None else str(_cuda.architectures)


def cuda_kernels(device: torch.device | None = None) -> ModuleType:
    """The CUDA kernels, for tensors on `device`.

    Raises:
        BackendError: they are missing, or cannot run here; the message says why and what to do.
    """
    problem = cuda_problem(device)
    if _cuda is None or problem is not None:
        raise BackendError(
            f"impl='fused' on a GPU needs the CUDA kernels of ems-fast, which cannot run: "
            f"{problem}; pass impl='compiled' or impl='reference'"
        )
    return _cuda


def cuda_problem(device: torch.device | None = None) -> str | None:
    """Why the CUDA kernels cannot run here, or on one device. None if they can. Looks once."""
    if _cuda is None:
        return _cuda_import_error
    problem = _device_problem(_cuda)
    if problem is None and device is not None and device.type == "cuda":
        problem = _generation_problem(_cuda, device)
    return problem


@functools.cache
def _device_problem(cuda: ModuleType) -> str | None:
    count, problem = cuda.device_count()
    if count:
        return None
    if "insufficient" in problem:  # as CUDA says where there is no driver, too
        return (
            "the NVIDIA driver is missing, or too old for the CUDA that they were built with "
            f"({problem}); update it, or build ems-fast with an older CUDA toolkit"
        )
    return problem or "there is no device"


@functools.cache
def _generation_problem(cuda: ModuleType, device: torch.device) -> str | None:
    major, minor = torch.cuda.get_device_capability(device)
    if _is_built_for(cuda.architectures, (major, minor)):
        return None
    return (
        f"they were built for architectures {cuda.architectures}, but "
        f"{torch.cuda.get_device_name(device)} is {major}{minor}; build ems-fast with "
        f"-C cmake.define.EMS_CUDA_ARCHITECTURES={major}{minor}"
    )


def _is_built_for(architectures: str, capability: tuple[int, int]) -> bool:
    """Whether code for one of `architectures` runs on a GPU of this compute capability.

    That of its own generation does, up to its minor version, and PTX ("+") of any older one.
    """
    for name in architectures.split():
        match = re.fullmatch(r"(\d+)(\d)([a-z]?)(\+?)", name)
        if match is None:  # such as "native": only nvcc knew
            return True
        built = int(match[1]), int(match[2])
        if built == capability:
            return True
        # "90a" is for 9.0 alone.
        onwards = not match[3] and built < capability
        if onwards and (match[4] or built[0] == capability[0]):
            return True
    return False


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
        self._module, self._where = cuda_kernels(device), (0, 0)
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


def has_fast_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 matrices faster than float32 ones."""
    return _kernels is not None and bool(_kernels.has_fast_bfloat16())


def cuda_has_bfloat16(device: torch.device) -> bool:
    """Whether a GPU has instructions for bfloat16; torch emulates them on older ones."""
    return torch.cuda.get_device_capability(device) >= (8, 0)


def has_openmp() -> bool:
    """Whether the kernels of training were compiled to use several threads."""
    return _kernels is not None and _kernels.openmp_max_threads() > 0


def has_fast_gemm() -> bool:
    """Whether the compiled float32 matrix products were built for this processor's vectors."""
    return _kernels is not None and bool(_kernels.gemm_is_fast())
