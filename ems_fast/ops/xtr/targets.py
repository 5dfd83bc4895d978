"""The sparse part of XTR: products of the bags of words with matrices of D columns."""

from __future__ import annotations

import torch
from torch import Tensor

from ems_fast.ops.native import CudaQueue, kernels, runs_on_cuda
from ems_fast.ops.xtr.products import DTYPES, Products


class Targets:
    """q [B, V] of one call, on the CPU.

    Args:
        indptr: int64 [B + 1].
        indices: int64 [K].
        q: float32 [K].
        p: the products of the same call.
    """

    def __init__(self, indptr: Tensor, indices: Tensor, q: Tensor, p: Products) -> None:
        self.indptr, self.indices, self.q = (
            indptr.contiguous(),
            indices.contiguous(),
            q.contiguous(),
        )
        self.p = p
        self._by_word: tuple[Tensor, ...] | None = None

    def gather(self) -> tuple[Tensor, Tensor, Tensor]:
        """Q W [B, D]; Σ q [B] and Σ q log q [B], float64."""
        p = self.p
        gathered, mass, entropy = self._gathered()
        kernels().xtr_gather(
            gathered.data_ptr(), mass.data_ptr(), entropy.data_ptr(), self.indptr.data_ptr(),
            self.indices.data_ptr(), self.q.data_ptr(), p.weight.data_ptr(),
            DTYPES[p.weight.dtype], p.B, p.D, p.threads,
        )  # fmt: skip
        return gathered, mass, entropy

    def scatter(self, out: Tensor, begin: int, scale: Tensor) -> None:
        """Out [n, D] += words begin … begin + n of qᵀ (scale h); scale [B]."""
        p = self.p
        wide = p.sum_dtype == torch.float64
        if self._by_word is None:
            ptr = torch.empty(p.V + 1, dtype=torch.int64)
            rows = torch.empty(self.q.numel(), dtype=torch.int32)
            values = torch.empty(self.q.numel(), dtype=p.sum_dtype)
            kernels().xtr_transpose(
                ptr.data_ptr(), rows.data_ptr(), values.data_ptr(), self.indptr.data_ptr(),
                self.indices.data_ptr(), self.q.data_ptr(), wide, p.B, p.V,
            )  # fmt: skip
            self._by_word = ptr, rows, values
        ptr, rows, values = self._by_word
        kernels().xtr_scatter(
            out.data_ptr(), ptr[begin:].data_ptr(), rows.data_ptr(), values.data_ptr(),
            scale.data_ptr(), p.hidden_sum.data_ptr(), wide, out.shape[0], p.D, p.threads,
        )  # fmt: skip

    def _gathered(self) -> tuple[Tensor, Tensor, Tensor]:
        p = self.p
        return (
            torch.empty((p.B, p.D), dtype=p.sum_dtype, device=p.device),
            torch.empty(p.B, dtype=torch.float64, device=p.device),
            torch.empty(p.B, dtype=torch.float64, device=p.device),
        )


class CudaTargets(Targets):
    """The same on a GPU. Nothing waits for the device, and sums have a fixed order."""

    def __init__(self, indptr: Tensor, indices: Tensor, q: Tensor, p: Products) -> None:
        super().__init__(indptr, indices, q, p)
        self._queue = CudaQueue(p.device)

    def gather(self) -> tuple[Tensor, Tensor, Tensor]:
        """As `Targets.gather`."""
        p = self.p
        gathered, mass, entropy = self._gathered()
        self._queue.run(
            "xtr_gather", gathered.data_ptr(), mass.data_ptr(), entropy.data_ptr(),
            self.indptr.data_ptr(), self.indices.data_ptr(), self.q.data_ptr(),
            p.weight.data_ptr(), DTYPES[p.weight.dtype], p.B, p.D, p.V, self.q.numel(),
        )  # fmt: skip
        return gathered, mass, entropy

    def scatter(self, out: Tensor, begin: int, scale: Tensor) -> None:
        """As `Targets.scatter`."""
        p = self.p
        if self._by_word is None:
            # Stable, so that a word's rows ascend and its sum has one order.
            words, order = torch.sort(self.indices, stable=True)
            ends = torch.searchsorted(words, words, right=True)
            rows = self._rows()[order].contiguous()
            self._by_word = words, ends, rows, self.q[order].to(p.sum_dtype)
        words, ends, rows, values = self._by_word
        self._queue.run(
            "xtr_scatter", out.data_ptr(), words.data_ptr(), ends.data_ptr(), rows.data_ptr(),
            values.data_ptr(), scale.data_ptr(), p.hidden_sum.data_ptr(),
            scale.dtype == torch.float64, begin, out.shape[0], p.B, p.D, self.q.numel(),
        )  # fmt: skip

    def _rows(self) -> Tensor:
        """The row of every entry [K]."""
        # Known without waiting for the number of entries, and in bounds whatever indptr holds.
        entries = torch.arange(self.q.numel(), device=self.p.device)
        return torch.searchsorted(self.indptr, entries, right=True) - 1


def targets_of(indptr: Tensor, indices: Tensor, q: Tensor, p: Products) -> Targets:
    """The way for the products' device."""
    return (CudaTargets if runs_on_cuda(p.device) else Targets)(indptr, indices, q, p)
