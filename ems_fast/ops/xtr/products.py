"""The matrix products of XTR, by chunks of the vocabulary.

Three ways to make them. `Products` leaves them to torch's BLAS and lets the kernels pass over each
result. `NativeProducts` uses the project's own (`ems_fast.ops.gemm`), which exponentiate logits
while they are in the first-level cache. `CudaProducts` leaves them to cuBLAS, through torch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ems_fast.ops import workspace
from ems_fast.ops.gemm import Operand, is_native, multiply_transposed
from ems_fast.ops.native import (
    CudaQueue,
    address,
    cuda_kernels,
    has_fast_bfloat16,
    kernels,
    num_threads,
    runs_on_cuda,
)

# A chunk of logits of about this size is still in cache when it is read back; smaller ones would
# make threads meet more often, which costs most on a busy machine.
CHUNK_BYTES = 8 << 20
CHUNK_WORDS_MIN, CHUNK_WORDS_MAX = 256, 8192
# The project's own products start at once and read a chunk sooner: about the second-level caches of
# two cores. In whole blocks of rows (96, csrc/gemm_kernel.h) for up to four threads.
NATIVE_CHUNK_BYTES = 3 << 20
NATIVE_CHUNK_UNIT = 384
# A GPU's cache holds less of a chunk than its launches cost: fewer and larger ones.
CUDA_CHUNK_BYTES = 64 << 20

# Dtype of csrc/xtr.h and, with float16, of csrc/xtr_cuda.h.
DTYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}


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
    native = is_native(dtype, torch.device("cpu"))
    nbytes, unit = (NATIVE_CHUNK_BYTES, NATIVE_CHUNK_UNIT) if native else (CHUNK_BYTES, 64)
    words = nbytes // (max(B, 1) * dtype.itemsize) // unit * unit
    return min(max(words, CHUNK_WORDS_MIN), CHUNK_WORDS_MAX, V)


def cuda_chunk_words(B: int, V: int, dtype: torch.dtype) -> int:
    """The same on a GPU; rows of the weight's gradient stay aligned to whole lines of memory."""
    words = CUDA_CHUNK_BYTES // (max(B, 1) * dtype.itemsize) // 128 * 128
    return min(max(words, CHUNK_WORDS_MIN), V)


def layout(B: int, V: int, dtype: torch.dtype, device: torch.device) -> tuple[torch.dtype, int]:
    """The dtype that products asked for in `dtype` are computed in, and the words per chunk."""
    if runs_on_cuda(device):
        return dtype, cuda_chunk_words(B, V, dtype)
    dtype = computed_dtype(dtype)
    return dtype, chunk_words(B, V, dtype)


def kept_words(B: int, V: int, dtype: torch.dtype, chunk: int, budget: int) -> int:
    """Words whose exponentials fit the budget; whole chunks, or all."""
    if B * V * dtype.itemsize <= budget:
        return V
    return budget // (max(B, 1) * chunk * dtype.itemsize) * chunk


class Products:
    """The products of one call: chunks of W in their dtype, sums in float32 (float64)."""

    def __init__(self, hidden: Tensor, weight: Tensor, dtype: torch.dtype) -> None:
        self.B, self.D, self.V = *hidden.shape, weight.shape[0]
        self.dtype, self.chunk = layout(self.B, self.V, dtype, hidden.device)
        self.sum_dtype = sum_dtype(dtype)
        self.rounded = dtype
        self.weight = weight.contiguous()
        self.hidden = hidden.to(dtype).to(self.dtype).contiguous()  # (B, D)
        self.hidden_sum = self.hidden.to(self.sum_dtype)  # (B, D)
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
        shift: Tensor,
        total: Tensor,
        rescale: Tensor,
    ) -> bool:
        """E [n, B] = exp(W hᵀ − shift), added to total [B].

        Shift [B] may rise first; then total is brought to the new shift and rescale [B] says by
        how much. Returns whether it rose.
        """
        self._logits(e, weight)
        kernels().xtr_softmax(
            e.data_ptr(), shift.data_ptr(), total.data_ptr(), rescale.data_ptr(),
            DTYPES[self.dtype], *e.shape, self.threads,
        )  # fmt: skip
        return bool((rescale != 1).any())

    def probabilities(self, e: Tensor, weight: Tensor, shift: Tensor) -> None:
        """E [n, B] = exp(W hᵀ − shift), for a shift near or above the largest logit."""
        self._logits(e, weight)
        kernels().xtr_probabilities(
            e.data_ptr(), shift.data_ptr(), DTYPES[self.dtype], *e.shape, self.threads,
        )  # fmt: skip

    def add_to_hidden(self, out: Tensor, e: Tensor, weight: Tensor) -> None:
        """Out [B, D] += eᵀ W."""
        self._add(out, e.T, weight, keep=True)

    def scale_hidden(self, factor: Tensor) -> Tensor | Operand:
        """Rows of h times factor [B], as `write_to_weight` wants them."""
        return (self.hidden_sum * factor[:, None]).to(self.dtype)

    def write_to_weight(self, out: Tensor, e: Tensor, scaled: Tensor | Operand) -> None:
        """Out [n, D] = e scaled; scaled is what `scale_hidden` gave."""
        assert isinstance(scaled, Tensor)
        self._add(out, e, scaled, keep=False)

    def is_same(self, shift: Tensor, previous: Tensor | None) -> bool:
        """Whether the shifts of two chunks are equal, as far as that is known here."""
        return previous is not None and torch.equal(shift, previous)

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
        shift: Tensor,
        total: Tensor,
        rescale: Tensor,
    ) -> bool:
        """As `Products.softmax`; the shift of earlier words serves as long as it can."""
        # The first words have none yet.
        if self._has_shift and self._exponentials(e, weight, shift, total):
            return False
        self._has_shift = True
        return super().softmax(e, weight, shift, total, rescale)

    def probabilities(self, e: Tensor, weight: Tensor, shift: Tensor) -> None:
        """As `Products.probabilities`."""
        self._exponentials(e, weight, shift, None)

    def add_to_hidden(self, out: Tensor, e: Tensor, weight: Tensor) -> None:
        """Out [B, D] += eᵀ W."""
        multiply_transposed(out, e, weight, add=True)

    def scale_hidden(self, factor: Tensor) -> Operand:
        """As `Products.scale_hidden`."""
        return Operand(self.hidden_sum * factor[:, None])

    def write_to_weight(self, out: Tensor, e: Tensor, scaled: Tensor | Operand) -> None:
        """Out [n, D] = e scaled."""
        assert isinstance(scaled, Operand)
        scaled.multiply(out, e, add=False)

    def _exponentials(self, e: Tensor, weight: Tensor, shift: Tensor, total: Tensor | None) -> bool:
        within: bool = kernels().xtr_exponentials(
            e.data_ptr(), weight.data_ptr(), self._operand().data_ptr(), shift.data_ptr(),
            address(total), *e.shape, self.D, self.threads,
        )  # fmt: skip
        return within

    def _logits(self, out: Tensor, weight: Tensor) -> None:
        self._operand().multiply(out, weight, add=False)

    def _operand(self) -> Operand:
        if self._transposed is None:
            self._transposed = Operand(self.hidden.t())
        return self._transposed


class CudaProducts(Products):
    """The same on a GPU, by cuBLAS. Nothing waits for the device.

    Half-precision operands are multiplied into float32 results. The gradient of weight is
    proportional to upstream gradients over a vocabulary's worth of words, which float16 would
    flush to zero: so `scale_hidden` takes the largest factor out and `write_to_weight` puts it
    back.
    """

    def __init__(self, hidden: Tensor, weight: Tensor, dtype: torch.dtype) -> None:
        super().__init__(hidden, weight, dtype)
        self._queue = CudaQueue(self.device)
        size = cuda_kernels().xtr_softmax_workspace_size(self.chunk, self.B)
        self._partial = torch.empty(size, dtype=self.sum_dtype, device=self.device)
        self._taken_out: Tensor | None = None

    def softmax(
        self,
        e: Tensor,
        weight: Tensor,
        shift: Tensor,
        total: Tensor,
        rescale: Tensor,
    ) -> bool:
        """As `Products.softmax`; whether the shift rose is for the device to know: always True."""
        self._logits(e, weight)
        self._queue.run(
            "xtr_softmax", e.data_ptr(), shift.data_ptr(), total.data_ptr(), rescale.data_ptr(),
            self._partial.data_ptr(), DTYPES[self.dtype], *e.shape,
        )  # fmt: skip
        return True

    def probabilities(self, e: Tensor, weight: Tensor, shift: Tensor) -> None:
        """As `Products.probabilities`."""
        self._logits(e, weight)
        self._queue.run(
            "xtr_probabilities", e.data_ptr(), shift.data_ptr(), DTYPES[self.dtype], *e.shape,
        )  # fmt: skip

    def is_same(self, shift: Tensor, previous: Tensor | None) -> bool:
        """As `Products.is_same`; two tensors are not compared."""
        return shift is previous

    def add_to_hidden(self, out: Tensor, e: Tensor, weight: Tensor) -> None:
        """Out [B, D] += eᵀ W."""
        self._multiply(out, e.T, weight, None, keep=True)

    def scale_hidden(self, factor: Tensor) -> Tensor:
        """As `Products.scale_hidden`."""
        self._taken_out = None
        if self.dtype == torch.float16:
            tiny = torch.finfo(factor.dtype).tiny
            self._taken_out = factor.abs().amax().clamp_min(tiny)
            factor = factor / self._taken_out
        return (self.hidden_sum * factor[:, None]).to(self.dtype)

    def write_to_weight(self, out: Tensor, e: Tensor, scaled: Tensor | Operand) -> None:
        """Out [n, D] = e scaled."""
        assert isinstance(scaled, Tensor)
        self._multiply(out, e, scaled, self._taken_out, keep=False)

    def _multiply(
        self, out: Tensor, a: Tensor, b: Tensor, scale: Tensor | None, *, keep: bool
    ) -> None:
        """Out = scale a b, or +=, where out is float32 (float64) whatever a and b are."""
        if out.dtype == self.dtype:
            self._add(out, a, b, keep=keep)
        elif scale is None and not keep:
            _multiply_wide(out, a, b)
        else:
            n, columns = out.shape
            if self._product is None or self._product.numel() < n * columns:
                self._product = workspace.empty((n * columns,), self.sum_dtype, self.device)
            product = self._product[: n * columns].view(n, columns)
            _multiply_wide(product, a, b)
            self._queue.run(
                "xtr_accumulate", out.data_ptr(), product.data_ptr(), address(scale), False, keep,
                n * columns,
            )  # fmt: skip


def _multiply_wide(out: Tensor, a: Tensor, b: Tensor) -> None:
    """Out = a b in float32, for a and b in half precision."""
    if a.device.type == "cuda":
        torch.mm(a, b, out_dtype=torch.float32, out=out)
    else:  # torch has that product for CUDA only
        torch.mm(a.float(), b.float(), out=out)


def products_of(hidden: Tensor, weight: Tensor, dtype: torch.dtype) -> Products:
    """The faster way for this dtype and processor."""
    if runs_on_cuda(hidden.device):
        return CudaProducts(hidden, weight, dtype)
    native = is_native(computed_dtype(dtype), hidden.device)
    return (NativeProducts if native else Products)(hidden, weight, dtype)
