"""The CUDA kernels' source compiled for the CPU (csrc/shim/cuda.h), and the fixtures to use it."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest

from ems_fast.ops import impl, native

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"
KERNELS = sorted(CSRC.glob("*_cuda.cu"))
BINDINGS = ROOT / "python" / "cuda.cpp"
BINDINGS_HEADERS = sorted(BINDINGS.parent.glob("*.h"))
# A fortified longjmp refuses to move between stacks.
FLAGS = [
    "-std=c++17", "-O1", "-g1", "-Wall", "-Wextra", "-Werror", "-U_FORTIFY_SOURCE", f"-I{CSRC}",
]  # fmt: skip


def compiler() -> str:
    """A C++ compiler, or the test is skipped."""
    name = os.environ.get("CXX", "g++")
    path = shutil.which(name)
    if path is None:
        pytest.skip(
            f"needs a C++ compiler to compile the CUDA kernels for the CPU, found no {name}"
        )
    return path


def compile_together(
    sources: Sequence[Path], output: Path, flags: Sequence[str] = (), folder: Path | None = None
) -> Path:
    """Compile every source at once and link them to `output`."""
    folder = folder or output.parent
    objects = [folder / f"{source.name}.o" for source in sources]
    compile_one = [compiler(), *FLAGS, *flags]
    running = [
        subprocess.Popen([*compile_one, "-x", "c++", "-c", str(source), "-o", str(to)])
        for source, to in zip(sources, objects, strict=True)
    ]
    assert [process.wait() for process in running] == [0] * len(running)
    link = [compiler(), *flags, *map(str, objects), "-o", str(output)]
    subprocess.run(link, check=True)
    return output


def fingerprint(*flags: str) -> str:
    """Changes whenever anything that is compiled here does."""
    files = [
        *CSRC.rglob("*.h"), *CSRC.glob("*.cu"), BINDINGS, *BINDINGS_HEADERS,
        *(ROOT / "tests/cuda").glob("*.cu"),
    ]  # fmt: skip
    text = b"".join(path.read_bytes() for path in sorted(files))
    return hashlib.sha256(text + " ".join([*FLAGS, *flags]).encode()).hexdigest()[:16]


@pytest.fixture(scope="session")
def shim(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """`ems_fast._cuda`, executed by the CPU; compiled once per version of its source."""
    pybind11 = pytest.importorskip("pybind11", reason="needs pybind11 to bind the kernels' source")
    include = sysconfig.get_path("include")
    if not (Path(include) / "Python.h").exists():
        pytest.skip(f"needs Python's headers, found no Python.h in {include}")
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    compiled = Path(pytestconfig.cache.mkdir("cuda_shim")) / f"{fingerprint()}{suffix}"
    if not compiled.exists():
        folder = tmp_path_factory.mktemp("cuda_shim")
        flags = [
            "-fPIC", "-shared", "-fvisibility=hidden", "-DEMS_SHIM",
            '-DEMS_CUDA_ARCHITECTURES="shim"', f"-isystem{pybind11.get_include()}",
            f"-isystem{include}",
        ]  # fmt: skip
        made = compile_together([*KERNELS, BINDINGS], folder / "shim.so", flags)
        shutil.copy(made, folder / "copy.so")
        os.replace(shutil.move(folder / "copy.so", f"{compiled}.{os.getpid()}"), compiled)
    spec = importlib.util.spec_from_file_location("_cuda", compiled)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def on_shim(shim: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """CPU tensors go through everything that CUDA tensors would."""
    monkeypatch.setattr(native, "_cuda", shim)
    monkeypatch.setattr(native, "_cuda_import_error", None)
    monkeypatch.setattr(native, "_cuda_device_types", frozenset({"cpu", "cuda"}))
    monkeypatch.setattr(impl, "FUSED_DEVICES", frozenset({"cpu", "cuda"}))
    shim.seed(1)
    return shim
