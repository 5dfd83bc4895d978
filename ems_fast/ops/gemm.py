"""Matrix products into given memory: the project's own in float32 where it is fast, else torch's.

The compiled product (csrc/gemm.h) serves CPU tensors in float32 on processors with AVX2 or AVX-512.
On an AMD EPYC (Zen 4) it is faster than MKL, torch's BLAS on x86. Its sums have one order, so that
results do not depend on the number of threads.

Where the processor multiplies bfloat16 faster, a product may be `rounded`: its operands lose the
lower half of their bits on their way into the registers, while memory and sums stay float32.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ems_fast.ops import workspace
from ems_fast.ops.native import has_fast_gemm, kernels, runs_on_cuda
from ems_fast.ops.threads import num_threads


def is_native(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether products of this dtype on this device are the project's own."""
    on_cpu = device.type == "cpu" and not runs_on_cuda(device)
    return dtype == torch.float32 and on_cpu and has_fast_gemm()


def can_round(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether products of this dtype on this device can be `rounded`."""
    return is_native(dtype, device) and bool(kernels().gemm_has_rounded())


class Operand:
    """The right operand [K, N] of many products, laid out once as they read it.

    Args:
        matrix: [K, N], or the transposed view of a contiguous [N, K].
        rounded: its products are; only where `can_round`.
    """

    def __init__(self, matrix: Tensor, *, rounded: bool = False) -> None:
        self.K, self.N = matrix.shape
        self._rounded = rounded
        self._native = is_native(matrix.dtype, matrix.device)
        if not self._native:
            self._matrix = matrix
            return
        transposed = matrix.stride(1) != 1
        source = (matrix.t() if transposed else matrix).contiguous()
        size = kernels().gemm_packed_size(self.K, self.N, rounded)
        self._matrix = workspace.empty((size,), matrix.dtype, matrix.device)
        kernels().gemm_pack(
            self._matrix, source, source.shape[1], transposed, self.K, self.N, rounded,
            num_threads(),
        )  # fmt: skip

    def data_ptr(self) -> int:
        """Where a kernel finds the packed operand."""
        return self._matrix.data_ptr()

    def multiply(self, out: Tensor, a: Tensor, *, add: bool) -> None:
        """Out [M, N] = a [M, K] times this, or += if `add`; rows of out and a are contiguous."""
        if self._native:
            kernels().gemm_multiply(
                out, out.stride(0), a, a.stride(0), self._matrix, a.shape[0], self.N, self.K, add,
                self._rounded, num_threads(),
            )  # fmt: skip
        elif add:
            torch.addmm(out, a, self._matrix, out=out)
        else:
            torch.mm(a, self._matrix, out=out)


def multiply_transposed(
    out: Tensor, a: Tensor, b: Tensor, *, add: bool, rounded: bool = False
) -> None:
    """Out [M, N] = aᵀ b for a [K, M] and b [K, N], or += if `add`; all rows are contiguous."""
    # Out-variants only: autocast leaves them alone.
    if is_native(out.dtype, out.device):
        kernels().gemm_multiply_transposed(
            out, out.stride(0), a, a.stride(0), b, b.stride(0), *out.shape, a.shape[0], add,
            rounded, num_threads(),
        )  # fmt: skip
    elif add:
        torch.addmm(out, a.t(), b, out=out)
    else:
        torch.mm(a.t(), b, out=out)
