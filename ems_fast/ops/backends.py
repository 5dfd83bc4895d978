"""What is compiled, what is active, and why something is not."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ems_fast.ops import native


@dataclass(frozen=True)
class Backend:
    """One way to compute.

    Attributes:
        name: for example ``cpu-avx512``.
        available: it can be used here.
        active: it is what ``impl="fused"`` uses on its device.
        detail: what it is, or why it is not available and what to do.
    """

    name: str
    available: bool
    active: bool
    detail: str


def backends() -> list[Backend]:
    """Every backend of the objectives, the available ones with the active one marked."""
    return [*_cpu_backends(), _cuda_backend(), *_torch_backends()]


def _cpu_backends() -> list[Backend]:
    error = native.import_error()
    if error is not None:
        detail = f"ems_fast._kernels failed to load ({error}); reinstall ems-fast"
        return [Backend("cpu", False, False, detail)]
    kernels = native.kernels()
    active = kernels.active_isa()
    available = kernels.available_isas()
    found = []
    for isa in kernels.compiled_isas():
        if isa not in available:
            detail = "compiled, but this processor does not have these instructions"
        elif isa == active:
            threads = f"with OpenMP, {torch.get_num_threads()} threads"
            detail = f"C++ kernels {threads if native.has_openmp() else 'without OpenMP, 1 thread'}"
        else:
            detail = f"C++ kernels; {active} is faster here"
        found.append(Backend(f"cpu-{isa}", isa in available, isa == active, detail))
    return found


def _cuda_backend() -> Backend:
    problem = native.cuda_import_error()
    if problem is not None:
        detail = f"no CUDA kernels: {problem}; on a GPU use impl='compiled' or 'reference'"
        return Backend("cuda", False, False, detail)
    compiled = f"CUDA kernels for architectures {native.cuda_architectures()}"
    if not torch.cuda.is_available():
        # torch knows better than the kernels whether its tensors can be on a device.
        reason = native.cuda_problem() or f"torch {torch.__version__} sees none"
        return Backend("cuda", False, False, f"{compiled}, but no device: {reason}")
    problem = native.cuda_problem(torch.device("cuda", torch.cuda.current_device()))
    if problem is not None:
        return Backend("cuda", False, False, f"{compiled}, which cannot run: {problem}")
    return Backend("cuda", True, True, f"{compiled}, on {torch.cuda.get_device_name()}")


def _torch_backends() -> list[Backend]:
    return [
        Backend("reference", True, False, f"plain PyTorch {torch.__version__}, on any device"),
        Backend("compiled", True, False, "torch.compile of the reference; compiles at first use"),
    ]
