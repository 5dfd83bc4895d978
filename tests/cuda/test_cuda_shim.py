"""The shim that executes CUDA kernels on the CPU: it computes right, and shows mistakes."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from support.cuda_shim import KERNELS, compile_together

from ems_fast import BackendError, backends
from ems_fast.ops import native

HERE = Path(__file__).parent
NONE, NO_BARRIER, NO_SECOND_BARRIER, PAST_THE_END, ONE_TOO_FEW = range(5)
BLOCKS, THREADS = 3, 128


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("shim_kernels")
    compile_together([HERE / "shim_kernels.cu"], folder / "kernels.so", ["-fPIC", "-shared"])
    library = ctypes.CDLL(str(folder / "kernels.so"))
    library.set_seed.argtypes = [ctypes.c_uint64]
    for name in (
        "block_sum", "next_block", "half_a_barrier", "left_early", "wrong_mask", "large_block",
        "warp_functions", "count", "round_trip",
    ):  # fmt: skip
        getattr(library, f"run_{name}").restype = ctypes.c_char_p
    return library


def pointer(tensor: torch.Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def sums(kernels: ctypes.CDLL, mistake: int, seed: int) -> tuple[torch.Tensor, str]:
    x = torch.arange(BLOCKS * THREADS, dtype=torch.float64)
    out = torch.full((BLOCKS,), -1.0, dtype=torch.float64)
    kernels.set_seed(seed)
    problem = kernels.run_block_sum(pointer(out), pointer(x), BLOCKS, mistake)
    return out, problem.decode()


@pytest.mark.parametrize("seed", range(5))
def test_a_right_kernel_is_right_in_every_order(kernels: ctypes.CDLL, seed: int) -> None:
    got, problem = sums(kernels, NONE, seed)
    want = torch.arange(BLOCKS * THREADS).view(BLOCKS, THREADS).sum(1)
    assert problem == ""
    assert torch.equal(got, want.double())


@pytest.mark.parametrize("mistake", [NO_BARRIER, NO_SECOND_BARRIER, ONE_TOO_FEW])
def test_a_missing_barrier_or_entry_gives_wrong_sums(kernels: ctypes.CDLL, mistake: int) -> None:
    right, _ = sums(kernels, NONE, 0)
    results = [sums(kernels, mistake, seed)[0] for seed in range(1, 6)]
    assert all(not torch.equal(result, right) for result in results)


def test_a_write_past_shared_memory_is_an_error(kernels: ctypes.CDLL) -> None:
    assert sums(kernels, PAST_THE_END, 0)[1] == "a write past the end of shared memory"
    assert sums(kernels, NONE, 0)[1] == ""  # and the next launch is a fresh one


def test_a_race_between_blocks_shows(kernels: ctypes.CDLL) -> None:
    results = []
    for seed in range(3):
        x = torch.zeros(20, dtype=torch.float64)
        kernels.set_seed(seed)
        kernels.run_next_block(pointer(x), 20)
        results.append(x)
    assert torch.equal(results[0], torch.arange(1.0, 21.0, dtype=torch.float64))
    assert not torch.equal(results[1], results[0])
    assert not torch.equal(results[2], results[1])


@pytest.mark.parametrize("seed", [0, 1])
def test_threads_that_wait_for_ever_are_an_error(kernels: ctypes.CDLL, seed: int) -> None:
    out = torch.zeros(1, dtype=torch.float64)
    kernels.set_seed(seed)
    assert kernels.run_half_a_barrier() == (
        b"threads wait for ever: 64 at __syncthreads, 0 at a warp function, 64 have left the kernel"
    )
    assert b"31 at a warp function, 1 have left" in kernels.run_left_early(pointer(out))
    assert b"whose mask leaves it out" in kernels.run_wrong_mask(pointer(out))
    assert kernels.run_large_block(pointer(out)) == b"launch: a block has 1 to 1024 threads"


@pytest.mark.parametrize("seed", [0, 1])
def test_warp_functions(kernels: ctypes.CDLL, seed: int) -> None:
    out = torch.zeros(6, 32, dtype=torch.int64)
    kernels.set_seed(seed)
    assert kernels.run_warp_functions(pointer(out)) == b""
    lanes = torch.arange(32)
    assert torch.equal(out[0], (lanes ^ 5) * 10)
    assert torch.equal(out[1], torch.where(lanes < 29, lanes + 3, lanes) * 10)
    assert (out[2] == 70).all()
    assert (out[3] == sum(1 << lane for lane in range(0, 32, 3))).all()
    assert (out[4] == 1).all()
    assert (out[5] == 1).all()


def test_every_thread_of_every_block_runs(kernels: ctypes.CDLL) -> None:
    total = torch.zeros(1, dtype=torch.int32)
    assert kernels.run_count(pointer(total), 7, 3) == b""
    assert total.item() == 7 * 3 * 65
    assert kernels.run_count(pointer(total), 0, 3) == b""
    assert total.item() == 7 * 3 * 65


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounding_is_that_of_torch(kernels: ctypes.CDLL, dtype: torch.dtype) -> None:
    bits = torch.arange(-(1 << 31), 1 << 31, 99_991, dtype=torch.int64).to(torch.int32)
    exact = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16).view(dtype).float()
    nearby = torch.stack([exact, exact * (1 + 2**-12), exact * (1 + 2**-9), exact * 1.0004])
    x = torch.cat([bits.view(torch.float32), nearby.view(-1), torch.tensor([0.0, -0.0, 65519.9])])
    want = x.to(dtype).float()
    assert kernels.run_round_trip(pointer(x), x.numel(), dtype == torch.float16) == b""
    torch.testing.assert_close(x, want, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(x.signbit()[~x.isnan()], want.signbit()[~x.isnan()])


def test_kernels_are_clean_under_the_sanitizers(tmp_path: Path) -> None:
    """Every kernel over shapes around its blocks, in buffers of exactly the size it may touch."""
    flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    probe = tmp_path / "probe.cu"
    probe.write_text("int main() { return 0; }")
    try:
        compile_together([probe], tmp_path / "probe", flags)
    except subprocess.CalledProcessError:
        pytest.skip("needs the libraries of gcc's address and undefined-behaviour sanitizers")
    program = compile_together([*KERNELS, HERE / "sanitized.cu"], tmp_path / "sanitized", flags)
    options = {"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1"}
    done = subprocess.run(
        [program], env=os.environ | options, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.startswith("checked ")
    overrun = subprocess.run(
        [program, "overrun"], env=os.environ | options, capture_output=True, text=True, check=False
    )
    assert overrun.returncode != 0
    assert "heap-buffer-overflow" in overrun.stderr


def test_every_line_of_the_kernels_runs(tmp_path: Path) -> None:
    """What the sanitizers see is all of it: gcov counts 100 % of the lines of both files."""
    gcov = shutil.which("gcov")
    if gcov is None:
        pytest.skip("needs gcov, which comes with gcc")
    program = compile_together(
        [*KERNELS, HERE / "sanitized.cu"], tmp_path / "counted", ["--coverage", "-O0"]
    )
    subprocess.run([program], check=True, capture_output=True, cwd=tmp_path)
    counted = subprocess.run(
        [gcov, "-n", *tmp_path.glob("*.gcda")],
        check=True, capture_output=True, text=True, cwd=tmp_path,
    ).stdout  # fmt: skip
    lines = dict(re.findall(r"File '.*/(\w+_cuda\.cu)'\nLines executed:([\d.]+)%", counted))
    assert lines.pop("device_cuda.cu") == "0.00"  # asks for a device, which a shim has not
    assert lines == {"xtr_cuda.cu": "100.00", "contrastive_cuda.cu": "100.00"}


def test_missing_kernels_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_cuda", None)
    monkeypatch.setattr(native, "_cuda_import_error", "no working nvcc was found")
    with pytest.raises(BackendError, match=r"cannot run: no working nvcc was found; pass impl="):
        native.cuda_kernels()
    (cuda,) = [backend for backend in backends() if backend.name == "cuda"]
    assert not cuda.available
    assert cuda.detail.startswith("no CUDA kernels: no working nvcc was found; on a GPU use")


def test_compiled_kernels_without_a_device_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoDevice:
        architectures = "80 90"

        @staticmethod
        def device_count() -> tuple[int, str]:
            return 0, "no CUDA-capable device is detected"

    monkeypatch.setattr(native, "_cuda", NoDevice)
    monkeypatch.setattr(native, "_cuda_import_error", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BackendError, match="cannot run: no CUDA-capable device is detected; pass"):
        native.cuda_kernels()
    (cuda,) = [backend for backend in backends() if backend.name == "cuda"]
    assert not cuda.available
    assert cuda.detail == (
        "CUDA kernels for architectures 80 90, but no device: no CUDA-capable device is detected"
    )


def test_a_driver_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    class OldDriver:
        @staticmethod
        def device_count() -> tuple[int, str]:
            return 0, "CUDA driver version is insufficient for CUDA runtime version"

    monkeypatch.setattr(native, "_cuda", OldDriver)
    with pytest.raises(BackendError, match=r"driver is missing, or too old .*; update it"):
        native.cuda_kernels()


@pytest.mark.parametrize(
    ("architectures", "capability", "runs"),
    [
        ("75 80 90 120+", (8, 0), True),
        ("75 80 90 120+", (8, 9), True),  # code for 8.0
        ("75 80 90 120+", (13, 0), True),  # PTX of 12.0
        ("75 80 90 120+", (10, 0), False),
        ("75 80 90 120+", (7, 0), False),
        ("80+", (10, 3), True),
        ("90a", (9, 0), True),
        ("90a+", (10, 0), False),
        ("native", (6, 1), True),
    ],
)
def test_gpus_that_the_kernels_were_built_for(
    architectures: str, capability: tuple[int, int], runs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Built:
        @staticmethod
        def device_count() -> tuple[int, str]:
            return 1, ""

    Built.architectures = architectures
    monkeypatch.setattr(native, "_cuda", Built)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some GPU")
    gpu = torch.device("cuda:0")
    assert native.cuda_problem() is None
    if runs:
        assert native.cuda_kernels(gpu) is Built
        return
    number = "{}{}".format(*capability)
    said = f"architectures .*, but Some GPU is {number}; build .*ARCHITECTURES={number}; pass impl="
    with pytest.raises(BackendError, match=said):
        native.cuda_kernels(gpu)
