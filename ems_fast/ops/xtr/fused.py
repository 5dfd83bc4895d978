"""XTR's loss around chunked matrix products: what `impl="fused"` runs.

With z = h Wᵀ and p = softmax(z), the gradient splits into a dense and a sparse part,

    dh = g (s p W − q W),   dW = pᵀ (g s h) − qᵀ (g h),

where s = Σ_w q_w and g is the row's upstream gradient.

The vocabulary is worked through in chunks. Forward makes a chunk of logits with one product, turns
it in place into e = exp(z − m), where m is the row's largest logit so far, and while the chunk is
hot adds eᵀ W to dh; when m grows, what was added before is scaled down, as in an online softmax.
Backward needs one product more, dW = eᵀ h', because all that was not known in forward is a factor
per row and is folded into h' = g s exp(m − logsumexp) h. So logits are exponentiated once and
written once, W is read in forward only, and the three products are the only ones, 6·B·D·V
operations. Chunks that do not fit the workspace budget are made again in backward, which costs a
fourth product for them. The sparse part never passes through a matrix product: q W is gathered and
qᵀ h is scattered in float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ems_fast.errors import InputError
from ems_fast.ops import workspace
from ems_fast.ops.bag_of_words import BagOfWords
from ems_fast.ops.impl import check_fused_device
from ems_fast.ops.native import runs_on_cuda
from ems_fast.ops.operators import register
from ems_fast.ops.xtr import chunks
from ems_fast.ops.xtr.kernels import XtrKernels


def product_dtype(hidden: Tensor, weight: Tensor) -> torch.dtype:
    """The dtype that the large products are computed in: autocast's, else that of the inputs."""
    device = hidden.device.type
    dtype = hidden.dtype
    autocast = torch.is_autocast_enabled(device)
    if autocast and dtype != torch.float64 and weight.dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    if hidden.dtype != weight.dtype:
        raise InputError(
            f"weight: dtype {str(weight.dtype)[6:]}, expected hidden's {str(dtype)[6:]}"
        )
    return dtype


def _forward(
    hidden: Tensor,
    weight: Tensor,
    indptr: Tensor,
    indices: Tensor,
    q: Tensor,
    by_word: Tensor | None,
    dtype: torch.dtype,
    need_hidden: bool,
    need_weight: bool,
    workspace_bytes: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The rows' losses and what backward needs, sums in float32 (float64 for float64).

    Returns:
        loss [B]; logsumexp [B]; mass [B] = Σ q; the gradient of hidden [B, D] for an upstream
        gradient of 1; kept [R, P] = exp(z − shift) of the first R words; shifts [chunks, P].
        P is B, or more on a GPU (`chunks.padded_rows`).
    """
    # On a GPU reading them would wait for it, and the kernels stay in bounds by themselves.
    if not runs_on_cuda(hidden.device):
        BagOfWords(indptr, indices, q).check(weight.shape[0])
    native = XtrKernels(hidden, weight, dtype)
    B, D, V, P = native.B, native.D, native.V, native.P
    R, n_chunks = _saved_sizes(hidden, V, dtype, need_hidden, need_weight, workspace_bytes)
    kept = workspace.empty((R, P), native.dtype, native.device)
    scratch = native.scratch(native.dtype, P if R < V else 0)
    shifts = torch.empty((n_chunks, P), dtype=native.sum_dtype, device=native.device)

    gathered, mass, entropy = native.gather(indptr, indices, q)
    shift = torch.full((P,), -torch.inf, dtype=native.sum_dtype, device=native.device)
    total = torch.zeros(P, dtype=torch.float64, device=native.device)
    rescale = torch.empty_like(shift)
    dense = shift.new_zeros((P, D) if need_hidden else (0, D))  # eᵀ W
    with torch.autocast(native.device.type, enabled=False):
        for i, (begin, end) in enumerate(native.chunks() if B else []):
            weight_chunk = native.weight_chunk(begin, end)
            e = kept[begin:end] if end <= R else scratch[: end - begin]
            rose = native.softmax(e, weight_chunk, shift, total, rescale, is_first=i == 0)
            if n_chunks:
                shifts[i] = shift
            if need_hidden:
                if rose and i > 0:
                    dense *= rescale[:, None]
                native.add_to_hidden(dense, e, weight_chunk)

    shift, total, dense = shift[:B], total[:B], dense[:B]
    logsumexp = (shift.double() + total.log()).to(native.sum_dtype)  # (B,)
    if need_hidden:
        dense.mul_((mass / total)[:, None].to(native.sum_dtype)).sub_(gathered)
    dot = gathered.mul_(native.hidden_sum[:B]).sum(1).double()
    loss = entropy + mass * (shift.double() + total.log()) - dot
    return loss.to(native.sum_dtype), logsumexp, mass.to(native.sum_dtype), dense, kept, shifts


def _saved_sizes(
    hidden: Tensor,
    V: int,
    dtype: torch.dtype,
    need_hidden: bool,
    need_weight: bool,
    workspace_bytes: int,
) -> tuple[int, int]:
    """Words kept, and chunks whose shifts are kept."""
    if not (need_hidden or need_weight):
        return 0, 0
    dtype = chunks.computed_dtype(dtype, hidden.device)
    P = chunks.padded_rows(hidden.shape[0], dtype, hidden.device)
    chunk = chunks.chunk_words(P, V, dtype, hidden.device)
    kept = chunks.kept_words(P, V, dtype, chunk, workspace_bytes) if need_weight else 0
    return kept, -(-V // chunk)


def _fake_forward(hidden: Tensor, weight: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    (B, D), V = hidden.shape, weight.shape[0]
    dtype, need_hidden = rest[4:6]
    R, n_chunks = _saved_sizes(hidden, V, *rest[4:])
    computed = chunks.computed_dtype(dtype, hidden.device)
    P = chunks.padded_rows(B, computed, hidden.device)
    rows = hidden.new_empty(B, dtype=chunks.sum_dtype(dtype))
    return (
        rows, torch.empty_like(rows), torch.empty_like(rows),
        rows.new_empty(B if need_hidden else 0, D),
        rows.new_empty((R, P), dtype=computed), rows.new_empty(n_chunks, P),
    )  # fmt: skip


def _weight_gradient(
    upstream: Tensor,
    hidden: Tensor,
    weight: Tensor,
    indptr: Tensor,
    indices: Tensor,
    q: Tensor,
    by_word: Tensor | None,
    logsumexp: Tensor,
    mass: Tensor,
    kept: Tensor,
    shifts: Tensor,
    dtype: torch.dtype,
) -> Tensor:
    """The gradient of weight [V, D]."""
    out = workspace.empty(tuple(weight.shape), weight.dtype, weight.device)
    native = XtrKernels(hidden, weight, dtype)
    entries = native.by_word(indptr, indices, q, by_word)
    B, D, V, R = native.B, native.D, native.V, kept.shape[0]
    upstream = upstream.to(native.sum_dtype)
    negative = (-upstream).contiguous()
    coefficient, logsumexp = native.padded(upstream * mass), native.padded(logsumexp)

    scratch = native.scratch(native.dtype, native.P if R < V else 0)
    # A gradient in bfloat16 is summed in float32 and rounded once.
    wide_rows = native.scratch(native.sum_dtype, D) if out.dtype != native.sum_dtype else None
    # On the CPU while a block is in cache; on a GPU once, as every call looks at all entries.
    scatter_at_once = native.on_cuda and wide_rows is None
    write = native.times_hidden(coefficient)
    previous: Tensor | None = None
    with torch.autocast(native.device.type, enabled=False):
        for i, (begin, end) in enumerate(native.chunks()):
            block = out[begin:end] if wide_rows is None else wide_rows[: end - begin]
            if B == 0:
                block.zero_()
            else:
                if end <= R:
                    e, shift = kept[begin:end].contiguous(), shifts[i]
                else:
                    e, shift = scratch[: end - begin], logsumexp
                    native.probabilities(e, native.weight_chunk(begin, end), shift)
                if not native.is_same(shift, previous):
                    factor = coefficient * (shift - logsumexp).exp() if end <= R else coefficient
                    write = native.times_hidden(factor)
                    previous = shift
                write(block, e)
            if not scatter_at_once:
                native.scatter(block, begin, entries, negative)
            if wide_rows is not None:
                out[begin:end].copy_(block)
    if scatter_at_once:
        native.scatter(out, 0, entries, negative)
    return out


def _fake_weight_gradient(_: Tensor, __: Tensor, weight: Tensor, *___: Any) -> Tensor:
    return torch.empty_like(weight, memory_format=torch.contiguous_format)


xtr_weight_gradient = register("xtr_weight_gradient", _weight_gradient, _fake_weight_gradient)


def _hidden_gradient(upstream: Tensor, unit: Tensor, dtype: torch.dtype) -> Tensor:
    """The gradient of hidden [B, D], from what `xtr_forward` left."""
    return (upstream[:, None] * unit).to(dtype)


# An operator, so that a second derivative is refused and not taken for zero.
xtr_hidden_gradient = register("xtr_hidden_gradient", _hidden_gradient, _hidden_gradient)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    hidden, weight, indptr, indices, q, by_word, dtype = inputs[:7]
    _, *for_backward = output
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*output[1:3], *output[4:])
    ctx.dtype = dtype
    ctx.save_for_backward(hidden, weight, indptr, indices, q, by_word, *for_backward)


def _backward(ctx: Any, upstream: Tensor | None, *_: Tensor | None) -> tuple[Any, ...]:
    of_hidden = of_weight = None
    if upstream is not None:
        hidden, weight, *targets, logsumexp, mass, unit, kept, shifts = ctx.saved_tensors
        if ctx.needs_input_grad[0]:
            of_hidden = xtr_hidden_gradient(upstream, unit, hidden.dtype)
        if ctx.needs_input_grad[1]:
            of_weight = xtr_weight_gradient(
                upstream, hidden, weight, *targets, logsumexp, mass, kept, shifts, ctx.dtype
            )
    return (of_hidden, of_weight, *(None,) * 8)


xtr_forward = register("xtr_forward", _forward, _fake_forward, _backward, _setup_context)


def xtr_rows(
    hidden: Tensor, weight: Tensor, targets: BagOfWords, *, workspace_bytes: int
) -> Tensor:
    """The losses [B] of `ems_fast.xtr_loss`, whose arguments have been checked."""
    check_fused_device(hidden.device)
    on_cuda = runs_on_cuda(hidden.device)
    dtype = product_dtype(hidden, weight)
    if dtype == torch.float16 and not on_cuda:
        # No processor here multiplies float16 natively: float32 is both faster and exact.
        hidden, weight = hidden.half().float(), weight.half().float()
        dtype = torch.float32
    if weight.dtype == torch.float16 and not on_cuda:
        raise InputError(
            f"weight: dtype float16 under autocast to {str(dtype)[6:]} on a CPU, expected float32, "
            "bfloat16, or autocast to float16"
        )
    need = torch.is_grad_enabled()
    loss: Tensor = xtr_forward(
        hidden, weight, targets.indptr, targets.indices, targets.weights, targets.by_word, dtype,
        need and hidden.requires_grad, need and weight.requires_grad, workspace_bytes,
    )[0]  # fmt: skip
    return loss
