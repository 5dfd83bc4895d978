"""The sparse part of XTR: products of the bags of words with matrices of D columns."""

from __future__ import annotations

import torch
from torch import Tensor

from ems_fast.ops.native import CudaQueue, address, kernels, runs_on_cuda
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
        gathered, mass, entropy = self._gathered(p.D)
        kernels().xtr_gather(
            gathered.data_ptr(), mass.data_ptr(), entropy.data_ptr(), self.indptr.data_ptr(),
            self.indices.data_ptr(), self.q.data_ptr(), p.weight.data_ptr(),
            DTYPES[p.weight.dtype], p.B, p.D, p.threads,
        )  # fmt: skip
        return gathered, mass, entropy

    def gather_bias(self, bias: Tensor) -> Tensor:
        """Q bias [B], float64; bias [V]."""
        dot = torch.zeros(self.p.B, dtype=torch.float64)
        return dot.index_add_(0, self._rows(), self.q.double() * bias[self.indices].double())

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

    def scatter_bias(self, out: Tensor, scale: Tensor) -> None:
        """Out [V] += qᵀ scale."""
        out.index_add_(0, self.indices, scale[self._rows()] * self.q.to(scale.dtype))

    def _gathered(self, columns: int) -> tuple[Tensor, Tensor, Tensor]:
        p = self.p
        return (
            torch.empty((p.B, columns), dtype=p.sum_dtype, device=p.device),
            torch.empty(p.B, dtype=torch.float64, device=p.device),
            torch.empty(p.B, dtype=torch.float64, device=p.device),
        )

    def _rows(self) -> Tensor:
        """The row of every entry [K]."""
        return torch.repeat_interleave(torch.arange(self.p.B), self.indptr.diff())


class CudaTargets(Targets):
    """The same on a GPU. Nothing waits for the device, and sums have a fixed order."""

    def __init__(self, indptr: Tensor, indices: Tensor, q: Tensor, p: Products) -> None:
        super().__init__(indptr, indices, q, p)
        self._queue = CudaQueue(p.device)

    def gather(self) -> tuple[Tensor, Tensor, Tensor]:
        """As `Targets.gather`."""
        return self._gather(self.p.weight)

    def gather_bias(self, bias: Tensor) -> Tensor:
        """As `Targets.gather_bias`: a matrix of one column."""
        return self._gather(bias[:, None])[0][:, 0].double()

    def scatter(self, out: Tensor, begin: int, scale: Tensor) -> None:
        """As `Targets.scatter`."""
        self._scatter(out, begin, scale, self.p.hidden_sum)

    def scatter_bias(self, out: Tensor, scale: Tensor) -> None:
        """As `Targets.scatter_bias`: a matrix of one column."""
        self._scatter(out[:, None], 0, scale, torch.ones_like(scale)[:, None])

    def _gather(self, matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        V, columns = matrix.shape
        gathered, mass, entropy = self._gathered(columns)
        self._queue.run(
            "xtr_gather", gathered.data_ptr(), mass.data_ptr(), entropy.data_ptr(),
            self.indptr.data_ptr(), self.indices.data_ptr(), self.q.data_ptr(), address(matrix),
            DTYPES[matrix.dtype], self.p.B, columns, V, self.q.numel(),
        )  # fmt: skip
        return gathered, mass, entropy

    def _scatter(self, out: Tensor, begin: int, scale: Tensor, matrix: Tensor) -> None:
        if self._by_word is None:
            # Stable, so that a word's rows ascend and its sum has one order.
            words, order = torch.sort(self.indices, stable=True)
            ends = torch.searchsorted(words, words, right=True)
            rows = self._rows()[order].contiguous()
            self._by_word = words, ends, rows, self.q[order].to(self.p.sum_dtype)
        words, ends, rows, values = self._by_word
        self._queue.run(
            "xtr_scatter", out.data_ptr(), words.data_ptr(), ends.data_ptr(), rows.data_ptr(),
            values.data_ptr(), scale.data_ptr(), matrix.data_ptr(), scale.dtype == torch.float64,
            begin, *out.shape[:1], self.p.B, out.shape[1], self.q.numel(),
        )  # fmt: skip

    def _rows(self) -> Tensor:
        # Known without waiting for the number of entries, and in bounds whatever indptr holds.
        entries = torch.arange(self.q.numel(), device=self.p.device)
        return torch.searchsorted(self.indptr, entries, right=True) - 1


def targets_of(indptr: Tensor, indices: Tensor, q: Tensor, p: Products) -> Targets:
    """The way for the products' device."""
    return (CudaTargets if runs_on_cuda(p.device) else Targets)(indptr, indices, q, p)
