"""The matrix products of XTR, by chunks of the vocabulary.

Two ways to make them. `Products` leaves them to torch's BLAS and lets the kernels pass over each
result. `NativeProducts` uses the project's own (`ems_fast.ops.gemm`), which exponentiate logits
while they are in the first-level cache.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ems_fast.ops import workspace
from ems_fast.ops.gemm import Operand, is_native, multiply_transposed
from ems_fast.ops.native import has_fast_bfloat16, kernels, num_threads

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

    def scale_hidden(self, factor: Tensor) -> Tensor | Operand:
        """Rows of h times factor [B], as `add_to_weight` wants them."""
        return (self.hidden_sum * factor[:, None]).to(self.dtype)

    def add_to_weight(
        self, out: Tensor, e: Tensor, scaled: Tensor | Operand, *, keep: bool
    ) -> None:
        """Out [n, D] = e scaled, or += if `keep`; scaled is what `scale_hidden` gave."""
        assert isinstance(scaled, Tensor)
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
        self._transposed: Operand | None = None  # hᵀ (D, B)
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
        multiply_transposed(out, e, weight, add=True)

    def scale_hidden(self, factor: Tensor) -> Operand:
        """As `Products.scale_hidden`."""
        return Operand(self.hidden_sum * factor[:, None])

    def add_to_weight(
        self, out: Tensor, e: Tensor, scaled: Tensor | Operand, *, keep: bool
    ) -> None:
        """Out [n, D] = e scaled, or += if `keep`."""
        assert isinstance(scaled, Operand)
        scaled.multiply(out, e, add=keep)

    def _exponentials(
        self, e: Tensor, weight: Tensor, bias: Tensor | None, shift: Tensor, total: Tensor | None
    ) -> bool:
        within: bool = kernels().xtr_exponentials(
            e.data_ptr(), weight.data_ptr(), self._operand().data_ptr(), shift.data_ptr(),
            address(bias), address(total), *e.shape, self.D, self.threads,
        )  # fmt: skip
        return within

    def _logits(self, out: Tensor, weight: Tensor) -> None:
        self._operand().multiply(out, weight, add=False)

    def _operand(self) -> Operand:
        if self._transposed is None:
            self._transposed = Operand(self.hidden.t())
        return self._transposed


def products_of(hidden: Tensor, weight: Tensor, dtype: torch.dtype) -> Products:
    """The faster way for this dtype and processor."""
    native = is_native(computed_dtype(dtype), hidden.device)
    return (NativeProducts if native else Products)(hidden, weight, dtype)
