"""The matrix products of XTR, by chunks of the vocabulary.

Two ways to make them. `Products` leaves them to torch's BLAS and lets the kernels pass over each
result. `NativeProducts` uses the project's own float32 product (csrc/gemm.h), which exponentiates
logits while they are in the first-level cache; it is taken for float32 on processors with AVX2 or
AVX-512. On an AMD EPYC (Zen 4) it is also the faster product: MKL, torch's BLAS on x86, has its
best code for another maker's processors.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ems_fast.ops import workspace
from ems_fast.ops.native import has_fast_bfloat16, has_fast_gemm, kernels, num_threads

# A chunk of logits of about this size is still in cache when it is read back; smaller ones would
# make threads meet more often, which costs most on a busy machine.
CHUNK_BYTES = 8 << 20
CHUNK_WORDS_MIN, CHUNK_WORDS_MAX = 256, 8192

# csrc/xtr.h's Dtype.
DTYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2}


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """What products in `dtype` are summed in."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def computed_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which products asked for in `dtype` are computed."""
    if dtype == torch.bfloat16 and not has_fast_bfloat16():
        # The same roundings of the inputs, in products that this processor is good at.
        return torch.float32
    return dtype


def chunk_words(B: int, V: int, dtype: torch.dtype) -> int:
    """Words per chunk, from the batch alone: never from the ratio of V to D."""
    words = CHUNK_BYTES // (max(B, 1) * dtype.itemsize) // 64 * 64
    return min(max(words, CHUNK_WORDS_MIN), CHUNK_WORDS_MAX, V)


def kept_words(B: int, V: int, dtype: torch.dtype, chunk: int, budget: int) -> int:
    """Words whose exponentials fit the budget; whole chunks, or all."""
    if B * V * dtype.itemsize <= budget:
        return V
    return budget // (max(B, 1) * chunk * dtype.itemsize) * chunk


def address(tensor: Tensor | None) -> int:
    """Where the data begins; 0 stands for None."""
    return 0 if tensor is None else tensor.data_ptr()


class Products:
    """The products of one call: chunks of W in their dtype, sums in float32 (float64)."""

    def __init__(self, hidden: Tensor, weight: Tensor, dtype: torch.dtype) -> None:
        self.dtype, self.sum_dtype = computed_dtype(dtype), sum_dtype(dtype)
        self.rounded = dtype
        self.weight = weight.contiguous()
        self.hidden = hidden.to(dtype).to(self.dtype).contiguous()  # (B, D)
        self.hidden_sum = self.hidden.to(self.sum_dtype)  # (B, D)
        self.B, self.D, self.V = *hidden.shape, weight.shape[0]
        self.chunk = chunk_words(self.B, self.V, self.dtype)
        self.threads = num_threads()
        self.device = hidden.device
        self._cast: Tensor | None = None
        self._product: Tensor | None = None

    def chunks(self) -> list[tuple[int, int]]:
        """The first word of each chunk, and the one after its last."""
        return [(v, min(v + self.chunk, self.V)) for v in range(0, self.V, self.chunk)]

    def scratch(self, dtype: torch.dtype, columns: int) -> Tensor:
        """An uninitialised [chunk, columns]."""
        return workspace.empty((self.chunk, columns), dtype, self.device)

    def weight_chunk(self, begin: int, end: int) -> Tensor:
        """Words begin:end of W in the products' dtype; valid until the next call."""
        rows = self.weight[begin:end]
        if rows.dtype == self.dtype == self.rounded:
            return rows
        if self._cast is None:
            self._cast = self.scratch(self.dtype, self.D)
        cast = self._cast[: end - begin]
        # Two roundings only where the products' dtype is wider than what autocast asked for.
        cast.copy_(rows if self.dtype == self.rounded else rows.to(self.rounded))
        return cast

    def softmax(
        self,
        e: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        shift: Tensor,
        total: Tensor,
        rescale: Tensor,
    ) -> bool:
        """E [n, B] = exp(W hᵀ + bias − shift), added to total [B].

        Shift [B] may rise first; then total is brought to the new shift and rescale [B] says by
        how much. Returns whether it rose.
        """
        self._logits(e, weight)
        kernels().xtr_softmax(
            e.data_ptr(), shift.data_ptr(), total.data_ptr(), rescale.data_ptr(), address(bias),
            DTYPES[self.dtype], *e.shape, self.threads,
        )  # fmt: skip
        return bool((rescale != 1).any())

    def probabilities(self, e: Tensor, weight: Tensor, bias: Tensor | None, shift: Tensor) -> None:
        """E [n, B] = exp(W hᵀ + bias − shift), for a shift near or above the largest logit."""
        self._logits(e, weight)
        kernels().xtr_probabilities(
            e.data_ptr(), shift.data_ptr(), address(bias), DTYPES[self.dtype], *e.shape,
            self.threads,
        )  # fmt: skip

    def add_to_hidden(self, out: Tensor, e: Tensor, weight: Tensor) -> None:
        """Out [B, D] += eᵀ W."""
        self._add(out, e.T, weight, keep=True)

    def scale_hidden(self, factor: Tensor) -> Tensor:
        """Rows of h times factor [B], as `add_to_weight` wants them."""
        return (self.hidden_sum * factor[:, None]).to(self.dtype)

    def add_to_weight(self, out: Tensor, e: Tensor, scaled: Tensor, *, keep: bool) -> None:
        """Out [n, D] = e scaled, or += if `keep`."""
        self._add(out, e, scaled, keep=keep)

    def _logits(self, out: Tensor, weight: Tensor) -> None:
        torch.mm(weight, self.hidden.T, out=out)

    def _add(self, out: Tensor, a: Tensor, b: Tensor, *, keep: bool) -> None:
        """Out = a b, or out += a b, where out is float32 (float64) whatever a and b are."""
        if out.dtype == self.dtype:
            if keep:
                out.addmm_(a, b)
            else:
                torch.mm(a, b, out=out)
            return
        n, columns = out.shape
        if self._product is None or self._product.numel() < n * columns:
            self._product = workspace.empty((n * columns,), self.dtype, self.device)
        product = self._product[: n * columns].view(n, columns)
        torch.mm(a, b, out=product)
        kernels().xtr_accumulate(
            out.data_ptr(), product.data_ptr(), DTYPES[self.dtype], keep, n * columns, self.threads
        )


class NativeProducts(Products):
    """The same in float32 by csrc/gemm.h, the exponentials inside of the first product."""

    def __init__(self, hidden: Tensor, weight: Tensor, dtype: torch.dtype) -> None:
        super().__init__(hidden, weight, dtype)
        self._packed_hidden: Tensor | None = None
        self._has_shift = False

    def softmax(
        self,
        e: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        shift: Tensor,
        total: Tensor,
        rescale: Tensor,
    ) -> bool:
        """As `Products.softmax`; the shift of earlier words serves as long as it can."""
        # The first words have none yet.
        if self._has_shift and self._exponentials(e, weight, bias, shift, total):
            return False
        self._has_shift = True
        return super().softmax(e, weight, bias, shift, total, rescale)

    def probabilities(self, e: Tensor, weight: Tensor, bias: Tensor | None, shift: Tensor) -> None:
        """As `Products.probabilities`."""
        self._exponentials(e, weight, bias, shift, None)

    def add_to_hidden(self, out: Tensor, e: Tensor, weight: Tensor) -> None:
        """Out [B, D] += eᵀ W."""
        kernels().gemm_multiply_transposed(
            out.data_ptr(), self.D, e.data_ptr(), self.B, weight.data_ptr(), self.D, self.B,
            self.D, e.shape[0], True, self.threads,
        )  # fmt: skip

    def scale_hidden(self, factor: Tensor) -> Tensor:
        """As `Products.scale_hidden`, packed."""
        return self._pack(super().scale_hidden(factor), transposed=False)

    def add_to_weight(self, out: Tensor, e: Tensor, scaled: Tensor, *, keep: bool) -> None:
        """Out [n, D] = e scaled, or += if `keep`."""
        kernels().gemm_multiply(
            out.data_ptr(), self.D, e.data_ptr(), self.B, scaled.data_ptr(), e.shape[0], self.D,
            self.B, keep, self.threads,
        )  # fmt: skip

    def _exponentials(
        self, e: Tensor, weight: Tensor, bias: Tensor | None, shift: Tensor, total: Tensor | None
    ) -> bool:
        within: bool = kernels().xtr_exponentials(
            e.data_ptr(), weight.data_ptr(), self._packed().data_ptr(), shift.data_ptr(),
            address(bias), address(total), *e.shape, self.D, self.threads,
        )  # fmt: skip
        return within

    def _logits(self, out: Tensor, weight: Tensor) -> None:
        kernels().gemm_multiply(
            out.data_ptr(), self.B, weight.data_ptr(), self.D, self._packed().data_ptr(),
            *out.shape, self.D, False, self.threads,
        )  # fmt: skip

    def _packed(self) -> Tensor:
        if self._packed_hidden is None:
            self._packed_hidden = self._pack(self.hidden, transposed=True)
        return self._packed_hidden

    def _pack(self, operand: Tensor, *, transposed: bool) -> Tensor:
        rows, columns = operand.shape
        K, N = (columns, rows) if transposed else (rows, columns)
        packed = workspace.empty((kernels().gemm_packed_size(K, N),), torch.float32, self.device)
        kernels().gemm_pack(
            packed.data_ptr(), operand.data_ptr(), columns, transposed, K, N, self.threads
        )
        return packed


def products_of(hidden: Tensor, weight: Tensor, dtype: torch.dtype) -> Products:
    """The faster way for this dtype and processor."""
    native = computed_dtype(dtype) == torch.float32 and has_fast_gemm()
    return (NativeProducts if native else Products)(hidden, weight, dtype)
