"""XTR's matrix products and kernels (csrc/xtr.h, csrc/xtr_cuda.h), on tensors.

Products in float32 on the CPU are the project's own (`ems_fast.ops.gemm`), which exponentiate
logits while they are in the first-level cache. All others are left to torch's BLAS, and the kernels
pass over each result.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial

import torch
from torch import Tensor

from ems_fast.ops import workspace
from ems_fast.ops.bag_of_words import entries_by_word
from ems_fast.ops.gemm import Operand, is_native, multiply_transposed
from ems_fast.ops.native import DTYPES, Kernels
from ems_fast.ops.xtr import chunks


class XtrKernels:
    """The products and kernels of one call. On a GPU nothing waits for the device.

    Attributes:
        B, D, V: the sizes of hidden [B, D] and weight [V, D].
        P: the columns of a chunk of logits; beyond B (`chunks.padded_rows`) hidden is zero.
        on_cuda: whether the kernels are those for CUDA.
        dtype: of the products' operands.
        sum_dtype: of the products' results, float32 (float64 for float64).
        hidden_sum: hidden as the products see it, in `sum_dtype` [P, D].
    """

    def __init__(self, hidden: Tensor, weight: Tensor, dtype: torch.dtype) -> None:
        self._kernels = Kernels(hidden.device)
        self.on_cuda = self._kernels.on_cuda
        self.device = hidden.device
        self.B, self.D, self.V = *hidden.shape, weight.shape[0]
        self.dtype = chunks.computed_dtype(dtype, self.device)
        self.sum_dtype = chunks.sum_dtype(dtype)
        self.P = chunks.padded_rows(self.B, self.dtype, self.device)
        self._chunk = chunks.chunk_words(self.P, self.V, self.dtype, self.device)
        self._is_native = is_native(self.dtype, self.device)
        self._rounded = dtype
        self._weight = weight.contiguous()
        self._hidden = self.padded(hidden.to(dtype).to(self.dtype).contiguous())
        self.hidden_sum = self._hidden.to(self.sum_dtype)
        self._cast: Tensor | None = None
        self._product: Tensor | None = None

    def padded(self, rows: Tensor) -> Tensor:
        """Rows [B, …] and zeros [P, …]."""
        if self.P == self.B:
            return rows
        return torch.cat([rows, rows.new_zeros(self.P - self.B, *rows.shape[1:])])

    def chunks(self) -> list[tuple[int, int]]:
        """The first word of each chunk, and the one after its last."""
        return [(v, min(v + self._chunk, self.V)) for v in range(0, self.V, self._chunk)]

    def scratch(self, dtype: torch.dtype, columns: int) -> Tensor:
        """An uninitialised [chunk, columns]."""
        return workspace.empty((self._chunk, columns), dtype, self.device)

    def weight_chunk(self, begin: int, end: int) -> Tensor:
        """Words begin:end of W in the products' dtype; valid until the next call."""
        rows = self._weight[begin:end]
        if rows.dtype == self.dtype == self._rounded:
            return rows
        if self._cast is None:
            self._cast = self.scratch(self.dtype, self.D)
        cast = self._cast[: end - begin]
        # Two roundings only where the products' dtype is wider than what autocast asked for.
        cast.copy_(rows if self.dtype == self._rounded else rows.to(self._rounded))
        return cast

    def softmax(
        self,
        e: Tensor,
        weight: Tensor,
        shift: Tensor,
        total: Tensor,
        rescale: Tensor,
        *,
        is_first: bool,
    ) -> bool:
        """E [n, P] = exp(W hᵀ − shift), added to total [P].

        Shift [P] may rise first, as it does for the first words; then total is brought to the new
        shift and rescale [P] says by how much. Returns whether it rose; always True on a GPU, where
        that is for the device to know.
        """
        # The shift of earlier words serves as long as it can.
        if self._is_native and not is_first and self._exponentials(e, weight, shift, total):
            return False
        self._transposed.multiply(e, weight, add=False)
        self._kernels.run(
            "xtr_softmax", e, shift, total, rescale, self._partial, DTYPES[self.dtype], *e.shape
        )
        return self.on_cuda or bool((rescale != 1).any())

    def probabilities(self, e: Tensor, weight: Tensor, shift: Tensor) -> None:
        """E [n, P] = exp(W hᵀ − shift), for a shift near or above the largest logit."""
        if self._is_native:
            self._exponentials(e, weight, shift, None)
        else:
            self._transposed.multiply(e, weight, add=False)
            self._kernels.run("xtr_probabilities", e, shift, DTYPES[self.dtype], *e.shape)

    def is_same(self, shift: Tensor, previous: Tensor | None) -> bool:
        """Whether the shifts of two chunks are equal, as far as that is known without waiting."""
        if shift is previous or previous is None or self.on_cuda:
            return shift is previous
        return torch.equal(shift, previous)

    def add_to_hidden(self, out: Tensor, e: Tensor, weight: Tensor) -> None:
        """Out [P, D] += eᵀ W."""
        if self.dtype == self.sum_dtype:
            multiply_transposed(out, e, weight, add=True)
        else:
            self._multiply(out, e.T, weight, add=True)

    def times_hidden(self, factor: Tensor) -> Callable[[Tensor, Tensor], None]:
        """What writes out [n, D] = e (factor h), given out and e [n, P]; factor [P]."""
        if self.dtype == self.sum_dtype:
            return partial(Operand(self.hidden_sum * factor[:, None]).multiply, add=False)
        scale = None
        if self.dtype == torch.float16:
            # The gradient of weight is proportional to upstream gradients over a vocabulary's worth
            # of words, which float16 would flush to zero: the largest factor stays outside.
            scale = factor.abs().amax().clamp_min(torch.finfo(factor.dtype).tiny)
            factor = factor / scale
        scaled = (self.hidden_sum * factor[:, None]).to(self.dtype)
        return lambda out, e: self._multiply(out, e, scaled, scale=scale)

    def gather(self, indptr: Tensor, indices: Tensor, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Q W [B, D]; Σ q [B] and Σ q log q [B], float64."""
        gathered = self.hidden_sum.new_empty(self.B, self.D)
        mass, entropy = self.hidden_sum.new_empty((2, self.B), dtype=torch.float64)
        self._kernels.run(
            "xtr_gather", gathered, mass, entropy, indptr.contiguous(), indices.contiguous(),
            q.contiguous(), self._weight, DTYPES[self._weight.dtype], self.B, self.D, self.V,
            q.numel(),
        )  # fmt: skip
        return gathered, mass, entropy

    def by_word(
        self, indptr: Tensor, indices: Tensor, q: Tensor, known: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        """The entries of q by word instead of by row, as `scatter` wants them.

        `known` is `BagOfWords.by_word`, which a GPU takes over.
        """
        if self.on_cuda:
            if known is None:
                known = entries_by_word(indptr, indices)
            words, ends, rows, order = known.contiguous().unbind()
            return words, ends, rows, q[order].to(self.sum_dtype)
        begins = torch.empty(self.V + 1, dtype=torch.int64)
        rows = torch.empty(q.numel(), dtype=torch.int32)
        values = torch.empty(q.numel(), dtype=self.sum_dtype)
        self._kernels.run(
            "xtr_transpose", begins, rows, values, indptr.contiguous(), indices.contiguous(),
            q.contiguous(), DTYPES[self.sum_dtype], self.B, self.V,
        )  # fmt: skip
        return begins, None, rows, values

    def scatter(
        self, out: Tensor, begin: int, entries: tuple[Tensor | None, ...], scale: Tensor
    ) -> None:
        """Out [n, D] += words begin … begin + n of qᵀ (scale h); scale [B]."""
        assert entries[-1] is not None
        self._kernels.run(
            "xtr_scatter", out, *entries, scale, self.hidden_sum, DTYPES[self.sum_dtype], begin,
            out.shape[0], self.B, self.D, entries[-1].numel(),
        )  # fmt: skip

    @cached_property
    def _transposed(self) -> Operand:
        return Operand(self._hidden.t())  # (D, B)

    @cached_property
    def _partial(self) -> Tensor:
        size = self._kernels.run("xtr_softmax_workspace_size", self._chunk, self.P)
        return self.hidden_sum.new_empty(size)

    def _exponentials(self, e: Tensor, weight: Tensor, shift: Tensor, total: Tensor | None) -> bool:
        within: bool = self._kernels.run(
            "xtr_exponentials", e, weight, self._transposed.data_ptr(), shift, total, *e.shape,
            self.D,
        )  # fmt: skip
        return within

    def _multiply(
        self, out: Tensor, a: Tensor, b: Tensor, *, add: bool = False, scale: Tensor | None = None
    ) -> None:
        """Out = scale a b, or +=, in float32 for a and b in half precision."""
        if self.on_cuda and scale is None and not add:
            _multiply_wide(out, a, b)
            return
        dtype = self.sum_dtype if self.on_cuda else self.dtype
        if self._product is None or self._product.numel() < out.numel():
            self._product = workspace.empty((out.numel(),), dtype, self.device)
        product = self._product[: out.numel()].view(out.shape)
        if self.on_cuda:
            _multiply_wide(product, a, b)
        else:
            torch.mm(a, b, out=product)
        self._kernels.run("xtr_accumulate", out, product, scale, DTYPES[dtype], add, out.numel())


def _multiply_wide(out: Tensor, a: Tensor, b: Tensor) -> None:
    """Out = a b in float32, for a and b in half precision."""
    if a.device.type == "cuda":
        torch.mm(a, b, out_dtype=torch.float32, out=out)
    else:  # torch has that product for CUDA only
        torch.mm(a.float(), b.float(), out=out)
