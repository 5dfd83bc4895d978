"""What is compiled, what is active, and why something is not."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from ems_fast.ops import native

OPTIONAL_PACKAGES = {"tensorboard": "curves of a run"}


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
            detail = f"C++ kernels with OpenMP, {torch.get_num_threads()} threads"
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
    problem = native.cuda_problem()
    if problem is not None:
        return Backend("cuda", False, False, f"{compiled}, which cannot run: {problem}")
    return Backend("cuda", True, True, f"{compiled}, on {torch.cuda.get_device_name()}")


def _torch_backends() -> list[Backend]:
    return [
        Backend("reference", True, False, f"plain PyTorch {torch.__version__}, on any device"),
        Backend("compiled", True, False, "torch.compile of the reference; compiles at first use"),
    ]


def openmp_libraries() -> list[str]:
    """Paths of the OpenMP runtimes in this process; some packages bundle one of their own."""
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    except OSError:
        return []
    paths = {line.split(maxsplit=5)[-1] for line in maps.splitlines() if "/" in line}
    names = ("libgomp", "libiomp", "libomp")
    return sorted(path for path in paths if Path(path).name.startswith(names))


def shares_threads_with_torch() -> bool:
    """Whether the kernels run in torch's thread pool: both then see one number of threads."""
    if native.import_error() is not None:
        return True
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        shared: bool = native.kernels().openmp_max_threads() == threads + 1
    finally:
        torch.set_num_threads(threads)
    return shared


def report() -> str:
    """Everything that matters when something is slow or missing, as text (``ems-fast doctor``)."""
    lines = [
        f"ems-fast {version('ems-fast')}, Python {platform.python_version()}, "
        f"torch {torch.__version__}, {platform.system()} {platform.machine()}",
        f"processor: {_processor()}, {torch.get_num_threads()} threads, bfloat16 "
        + ("fast" if native.has_fast_bfloat16() else "not accelerated"),
        "",
        "backends",
    ]
    for backend in backends():
        state = "active" if backend.active else "available" if backend.available else "missing"
        lines.append(f"  {backend.name:<14} {state:<10} {backend.detail}")
    lines += ["", "OpenMP runtimes"]
    runtimes = openmp_libraries()
    lines += [f"  {path}" for path in runtimes] or ["  unknown on this system"]
    if not shares_threads_with_torch():
        lines.append(
            "  the kernels and torch use different ones and compete for the cores: import ems_fast "
            "or torch before other libraries that use OpenMP"
        )
    lines += ["", "optional packages"]
    for package, purpose in OPTIONAL_PACKAGES.items():
        try:
            state = version(package)
        except PackageNotFoundError:
            state = f"missing; pip install {package}"
        lines.append(f"  {package:<14} {purpose}: {state}")
    return "\n".join(lines)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
