"""What ``ems-fast doctor`` prints."""

from __future__ import annotations

import platform
import re
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import torch

from ems_fast.ops import native
from ems_fast.ops.backends import backends
from ems_fast.runs.session import processor

# The extras of users; the others are for those who work on ems-fast itself.
EXTRAS = {
    "tensorboard": "curves of a run",
    "wandb": "curves of a run in wandb",
    "mlflow": "curves of a run in mlflow",
    "mteb": "evaluation on the tasks of mteb",
    "faiss": "mining beyond a million sentences",
    "export": "ONNX graphs",
    "hub": "models from and to the Hugging Face hub",
    "parquet": "reading Parquet",
    "datasets": "reading Hugging Face datasets",
    "fsspec": "reading from URLs",
    "filter": "languages and near-duplicates in filtering",
    "opusfilter": "the filter in OpusFilter",
    "released": "text for the authors' released checkpoint",
}


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
    if not native.has_openmp():  # or no kernels at all
        return True
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        shared: bool = native.kernels().openmp_max_threads() == threads + 1
    finally:
        torch.set_num_threads(threads)
    return shared


def report() -> str:
    """Everything that matters when something is slow or missing, as text."""
    lines = [
        f"ems-fast {version('ems-fast')}, Python {platform.python_version()}, "
        f"torch {torch.__version__}, {platform.system()} {platform.machine()}",
        f"processor: {processor()}, {torch.get_num_threads()} threads, bfloat16 "
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
    lines += ["", "extras"]
    for extra, purpose in EXTRAS.items():
        states = ", ".join(map(_state, packages_of(extra)))
        hint = f"; pip install 'ems-fast[{extra}]'" if " missing" in states else ""
        lines.append(f"  {extra:<14} {purpose}: {states}{hint}")
    return "\n".join(lines)


def packages_of(extra: str) -> list[str]:
    """The packages that an extra brings, as the installed ems-fast declares them."""
    marked = re.compile(rf"""^([\w.-]+).*;.*extra == ["']{re.escape(extra)}["']""")
    matches = map(marked.match, requires("ems-fast") or ())
    return [match[1] for match in matches if match]


def _state(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} missing"
