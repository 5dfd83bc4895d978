"""XTR's loss around chunked matrix products: what `impl="fused"` runs.

With z = h Wᵀ + bias and p = softmax(z), the gradient splits into a dense and a sparse part,

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

With a gradient filter, forward collects the entries of e that can still exceed the threshold, and
both dense products of the gradient become sparse ones. Where too many remain, the exact way is
taken.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ems_fast.errors import InputError
from ems_fast.ops import workspace
from ems_fast.ops.bag_of_words import BagOfWords
from ems_fast.ops.gemm import Operand
from ems_fast.ops.impl import check_fused_device
from ems_fast.ops.native import kernels, runs_on_cuda
from ems_fast.ops.xtr import products as xtr_products
from ems_fast.ops.xtr.products import DTYPES, Products, products_of, sum_dtype
from ems_fast.ops.xtr.targets import targets_of

# Above this share of all entries, sparse products lose to dense ones.
FILTER_DENSITY = 0.04


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


def _filter_capacity(B: int, V: int, gradient_filter: float) -> int:
    return int(B * V * FILTER_DENSITY) if gradient_filter > 0 else 0


def _wordptr(words: Tensor, V: int) -> Tensor:
    """Where each word's entries begin, for entries sorted by word."""
    return torch.searchsorted(words, torch.arange(V + 1, dtype=words.dtype, device=words.device))


@torch.library.custom_op("ems_fast::xtr_forward", mutates_args=())
def xtr_forward(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    indptr: Tensor,
    indices: Tensor,
    q: Tensor,
    dtype: torch.dtype,
    need_hidden: bool,
    need_weight: bool,
    gradient_filter: float,
    workspace_bytes: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The rows' losses and what backward needs, sums in float32 (float64 for float64).

    Returns:
        loss [B]; logsumexp [B]; mass [B] = Σ q; the gradient of hidden [B, D] for an upstream
        gradient of 1; kept [R, B] = exp(z − shift) of the first R words; shifts [chunks, B]; of the
        filter's n entries, sorted by word: words, rows and probabilities [capacity]; n [1], −1
        where the exact gradient is needed.
    """
    # On a GPU reading them would wait for it, and the kernels stay in bounds by themselves.
    if not runs_on_cuda(hidden.device):
        BagOfWords(indptr, indices, q).check(weight.shape[0])
    p = products_of(hidden, weight, dtype)
    targets = targets_of(indptr, indices, q, p)
    B, D, V = p.B, p.D, p.V
    bias = None if bias is None else bias.to(p.sum_dtype).contiguous()
    R, n_chunks, capacity = _saved_sizes(
        hidden, V, dtype, need_hidden, need_weight, gradient_filter, workspace_bytes
    )
    kept = workspace.empty((R, B), p.dtype, p.device)
    scratch = p.scratch(p.dtype, B if R < V else 0)
    shifts = torch.empty((n_chunks, B), dtype=p.sum_dtype, device=p.device)
    words = workspace.empty((capacity,), torch.int32, p.device)
    rows = workspace.empty((capacity,), torch.int32, p.device)
    values = workspace.empty((capacity,), p.sum_dtype, p.device)

    gathered, mass, entropy = targets.gather()
    shift = torch.full((B,), -torch.inf, dtype=p.sum_dtype, device=p.device)
    total = torch.zeros(B, dtype=torch.float64, device=p.device)
    rescale = torch.empty_like(shift)
    dense = shift.new_zeros((B, D) if need_hidden else (0, D))  # eᵀ W
    chunks = p.chunks() if B else []
    n, collected = (0, len(chunks)) if capacity else (-1, 0)  # Chunks that were only collected.
    with torch.autocast(p.device.type, enabled=False):
        for i, (begin, end) in enumerate(chunks):
            weight_chunk = p.weight_chunk(begin, end)
            e = kept[begin:end] if end <= R else scratch[: end - begin]
            chunk_bias = None if bias is None else bias[begin:end]
            rose = p.softmax(e, weight_chunk, chunk_bias, shift, total, rescale)
            if n_chunks:
                shifts[i] = shift
            if n >= 0:
                # The sum only grows: whoever fails this test would fail the final one.
                threshold = (total * gradient_filter).to(p.sum_dtype)
                n = kernels().xtr_collect(
                    words.data_ptr(), rows.data_ptr(), values.data_ptr(), e.data_ptr(),
                    threshold.data_ptr(), DTYPES[p.dtype], n, capacity, begin, end - begin, B,
                    p.threads,
                )  # fmt: skip
                if n > capacity:
                    n, collected = -1, i
            if need_hidden and n < 0:
                if rose and i > collected:
                    dense *= rescale[:, None]
                p.add_to_hidden(dense, e, weight_chunk)
        if n >= 0 and not bool(total.isfinite().all()):
            n = -1  # NaN passes no threshold, yet it belongs into the gradient.
        if need_hidden and n < 0:
            for i, (begin, end) in enumerate(chunks[:collected]):
                weight_chunk = p.weight_chunk(begin, end)
                e = kept[begin:end] if end <= R else scratch[: end - begin]
                if end > R:
                    chunk_bias = None if bias is None else bias[begin:end]
                    p.probabilities(e, weight_chunk, chunk_bias, shift)
                part = torch.zeros_like(dense)
                p.add_to_hidden(part, e, weight_chunk)
                dense += part if end > R else part * (shifts[i] - shift).exp()[:, None]

    logsumexp = (shift.double() + total.log()).to(p.sum_dtype)  # (B,)
    if n >= 0:
        n = _finish_filter(p, words, rows, values, n, shifts, logsumexp, gradient_filter)
        if need_hidden:
            wordptr = _wordptr(words[:n], V)
            kernels().xtr_gather_by_word(
                dense.data_ptr(), wordptr.data_ptr(), rows.data_ptr(), values.data_ptr(),
                p.weight.data_ptr(), DTYPES[weight.dtype], V, D, p.threads,
            )  # fmt: skip
        scale = mass
    else:
        scale = mass / total
    for entries in (words, rows, values):
        entries[max(n, 0) :].zero_()  # An operator's outputs are the same at every call.
    if need_hidden:
        dense.mul_(scale[:, None].to(p.sum_dtype)).sub_(gathered)
    dot = gathered.mul_(p.hidden_sum).sum(1).double()
    if bias is not None:
        dot += targets.gather_bias(bias)
    loss = entropy + mass * (shift.double() + total.log()) - dot
    return (
        loss.to(p.sum_dtype), logsumexp, mass.to(p.sum_dtype), dense, kept, shifts, words, rows,
        values, torch.full((1,), n, device=p.device),
    )  # fmt: skip


def _saved_sizes(
    hidden: Tensor,
    V: int,
    dtype: torch.dtype,
    need_hidden: bool,
    need_weight: bool,
    gradient_filter: float,
    workspace_bytes: int,
) -> tuple[int, int, int]:
    """Words kept, chunks whose shifts are kept, and the room for the filter's entries."""
    if not (need_hidden or need_weight):
        return 0, 0, 0
    B = hidden.shape[0]
    dtype, chunk = xtr_products.layout(B, V, dtype, hidden.device)
    kept = xtr_products.kept_words(B, V, dtype, chunk, workspace_bytes) if need_weight else 0
    return kept, -(-V // chunk), _filter_capacity(B, V, gradient_filter)


def _finish_filter(
    p: Products,
    words: Tensor,
    rows: Tensor,
    values: Tensor,
    n: int,
    shifts: Tensor,
    logsumexp: Tensor,
    gradient_filter: float,
) -> int:
    """Turn candidates into probabilities and drop, in place, those below the threshold."""
    factor = (shifts - logsumexp).exp()  # (chunks, B)
    probability = values[:n] * factor[words[:n].long() // p.chunk, rows[:n].long()]
    stays = probability > gradient_filter
    for out, candidates in ((words, words[:n]), (rows, rows[:n]), (values, probability)):
        left = candidates[stays]
        out[: left.numel()] = left
    return int(stays.sum())


@xtr_forward.register_fake
def _(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    indptr: Tensor,
    indices: Tensor,
    q: Tensor,
    dtype: torch.dtype,
    need_hidden: bool,
    need_weight: bool,
    gradient_filter: float,
    workspace_bytes: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    (B, D), V, total = hidden.shape, weight.shape[0], sum_dtype(dtype)
    R, n_chunks, capacity = _saved_sizes(
        hidden, V, dtype, need_hidden, need_weight, gradient_filter, workspace_bytes
    )
    product, _ = xtr_products.layout(B, V, dtype, hidden.device)

    def of(*shape: int, dtype: torch.dtype = total) -> Tensor:
        return hidden.new_empty(shape, dtype=dtype)

    return (
        of(B), of(B), of(B), of(B if need_hidden else 0, D), of(R, B, dtype=product),
        of(n_chunks, B), of(capacity, dtype=torch.int32), of(capacity, dtype=torch.int32),
        of(capacity), of(1, dtype=torch.int64),
    )  # fmt: skip


def _add_weight_gradient(
    out: Tensor,
    out_bias: Tensor | None,
    keep: bool,
    upstream: Tensor,
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    indptr: Tensor,
    indices: Tensor,
    q: Tensor,
    saved: tuple[Tensor, ...],
    dtype: torch.dtype,
) -> None:
    """Write the gradient of weight to out [V, D], or add it if `keep`; out_bias [V] likewise."""
    logsumexp, mass, kept, shifts, words, rows, values, count = saved
    p = products_of(hidden, weight, dtype)
    targets = targets_of(indptr, indices, q, p)
    B, D, V, R = p.B, p.D, p.V, kept.shape[0]
    n = int(count) if words.numel() else -1  # there is room for entries with a filter only
    bias = None if bias is None else bias.to(p.sum_dtype).contiguous()
    upstream = upstream.to(p.sum_dtype)
    negative, coefficient = (-upstream).contiguous(), (upstream * mass).contiguous()
    entry_ptr = _wordptr(words[:n], V) if n >= 0 else None

    scratch = p.scratch(p.dtype, B if n < 0 and R < V else 0)
    # A gradient in bfloat16 is summed in float32 and rounded once.
    wide_rows = p.scratch(p.sum_dtype, D) if out.dtype != p.sum_dtype else None
    scaled: Tensor | Operand = p.hidden
    previous: Tensor | None = None
    with torch.autocast(p.device.type, enabled=False):
        for i, (begin, end) in enumerate(p.chunks()):
            block = out[begin:end] if wide_rows is None else wide_rows[: end - begin]
            if wide_rows is not None and keep:
                block.copy_(out[begin:end])
            if n >= 0 or B == 0:
                if not keep:
                    block.zero_()
                if entry_ptr is not None:
                    kernels().xtr_scatter(
                        block.data_ptr(), entry_ptr[begin:].data_ptr(), rows.data_ptr(),
                        values.data_ptr(), coefficient.data_ptr(), p.hidden_sum.data_ptr(),
                        p.sum_dtype == torch.float64, end - begin, D, p.threads,
                    )  # fmt: skip
            else:
                if end <= R:
                    e, shift = kept[begin:end], shifts[i]
                else:
                    e, shift = scratch[: end - begin], logsumexp
                    chunk_bias = None if bias is None else bias[begin:end]
                    p.probabilities(e, p.weight_chunk(begin, end), chunk_bias, shift)
                if not p.is_same(shift, previous):
                    factor = coefficient * (shift - logsumexp).exp() if end <= R else coefficient
                    scaled = p.scale_hidden(factor)
                    previous = shift
                p.add_to_weight(block, e, scaled, keep=keep)
                if out_bias is not None:
                    out_bias[begin:end] += torch.mv(e.to(p.sum_dtype), factor)
            targets.scatter(block, begin, negative)
            if wide_rows is not None:
                out[begin:end].copy_(block)
    if out_bias is not None:
        if n >= 0:
            part = values[:n] * coefficient[rows[:n].long()]
            out_bias.index_add_(0, words[:n].long(), part)
        targets.scatter_bias(out_bias, negative)


@torch.library.custom_op("ems_fast::xtr_weight_gradient", mutates_args=())
def xtr_weight_gradient(
    upstream: Tensor,
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    indptr: Tensor,
    indices: Tensor,
    q: Tensor,
    logsumexp: Tensor,
    mass: Tensor,
    kept: Tensor,
    shifts: Tensor,
    words: Tensor,
    rows: Tensor,
    values: Tensor,
    count: Tensor,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """The gradients of weight [V, D] and bias ([V], or [0] without bias)."""
    out = workspace.empty(tuple(weight.shape), weight.dtype, weight.device)
    out_bias = None if bias is None else bias.new_zeros(bias.shape, dtype=sum_dtype(dtype))
    saved = (logsumexp, mass, kept, shifts, words, rows, values, count)
    _add_weight_gradient(
        out, out_bias, False, upstream, hidden, weight, bias, indptr, indices, q, saved, dtype
    )
    if bias is None or out_bias is None:
        return out, out.new_empty(0)
    return out, out_bias.to(bias.dtype)


@xtr_weight_gradient.register_fake
def _(
    upstream: Tensor,
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    indptr: Tensor,
    indices: Tensor,
    q: Tensor,
    logsumexp: Tensor,
    mass: Tensor,
    kept: Tensor,
    shifts: Tensor,
    words: Tensor,
    rows: Tensor,
    values: Tensor,
    count: Tensor,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    contiguous = torch.empty_like(weight, memory_format=torch.contiguous_format)
    return contiguous, torch.empty_like(bias) if bias is not None else weight.new_empty(0)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    hidden, weight, bias, indptr, indices, q, dtype = inputs[:7]
    _, *for_backward = output
    ctx.set_materialize_grads(False)
    ctx.dtype = dtype
    ctx.save_for_backward(hidden, weight, bias, indptr, indices, q, *for_backward)


def _backward(ctx: Any, upstream: Tensor | None, *_: Tensor | None) -> tuple[Tensor | None, ...]:
    nothing = (None,) * 8
    if upstream is None:
        return (None, None, None, *nothing)
    hidden, weight, bias, indptr, indices, q, logsumexp, mass, unit, *rest = ctx.saved_tensors
    of_hidden = of_weight = of_bias = None
    if ctx.needs_input_grad[0]:
        of_hidden = (upstream[:, None] * unit).to(hidden.dtype)
    if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
        of_weight, of_bias = xtr_weight_gradient(
            upstream, hidden, weight, bias, indptr, indices, q, logsumexp, mass, *rest, ctx.dtype
        )
        of_weight = of_weight if ctx.needs_input_grad[1] else None
        of_bias = of_bias if ctx.needs_input_grad[2] else None
    return (of_hidden, of_weight, of_bias, *nothing)


xtr_forward.register_autograd(_backward, setup_context=_setup_context)


class _AccumulatingXtr(torch.autograd.Function):
    """As the operator, but the gradient of weight is added to `weight.grad` in backward."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        output = xtr_forward(*inputs)
        _setup_context(ctx, inputs, output)
        loss: Tensor = output[0]
        return loss

    @staticmethod
    def backward(ctx: Any, upstream: Tensor | None) -> tuple[Tensor | None, ...]:
        nothing = (None,) * 8
        if upstream is None:
            return (None, None, None, *nothing)
        hidden, weight, bias, indptr, indices, q, logsumexp, mass, unit, *rest = ctx.saved_tensors
        if weight.grad is None or not _accumulates(weight):
            return _backward(ctx, upstream)
        out_bias = None if bias is None else bias.new_zeros(bias.shape, dtype=sum_dtype(ctx.dtype))
        _add_weight_gradient(
            weight.grad, out_bias, True, upstream, hidden, weight, bias, indptr, indices, q,
            (logsumexp, mass, *rest), ctx.dtype,
        )  # fmt: skip
        of_hidden = (upstream[:, None] * unit).to(hidden.dtype) if ctx.needs_input_grad[0] else None
        of_bias = None
        if bias is not None and out_bias is not None and ctx.needs_input_grad[2]:
            of_bias = out_bias.to(bias.dtype)
        return (of_hidden, None, of_bias, *nothing)


def _accumulates(weight: Tensor) -> bool:
    """Whether adding to `weight.grad` behind autograd's back changes nothing that anyone sees."""
    hooks = weight._backward_hooks or getattr(weight, "_post_accumulate_grad_hooks", None)
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    if hooks or distributed or not weight.is_leaf or torch.is_grad_enabled():
        return False
    grad = weight.grad
    return grad is None or (grad.is_contiguous() and grad.dtype == weight.dtype)


def xtr_rows(
    hidden: Tensor,
    weight: Tensor,
    targets: BagOfWords,
    *,
    bias: Tensor | None,
    gradient_filter: float,
    accumulate_grad: bool,
    workspace_bytes: int,
) -> Tensor:
    """The losses [B] of `ems_fast.xtr_loss`, whose arguments have been checked."""
    check_fused_device(hidden.device)
    on_cuda = runs_on_cuda(hidden.device)
    if not on_cuda:
        kernels()
    if on_cuda and gradient_filter > 0:
        raise InputError(
            f"gradient_filter: got {gradient_filter}, but on a GPU the gradient is always exact, "
            "since a filter would have to wait for the device; pass 0"
        )
    dtype = product_dtype(hidden, weight)
    if dtype == torch.float16 and not on_cuda:
        # No processor here multiplies float16 natively: float32 is both faster and exact.
        hidden, weight = hidden.half().float(), weight.half().float()
        dtype = torch.float32
    need = torch.is_grad_enabled()
    need_weight = need and (weight.requires_grad or (bias is not None and bias.requires_grad))
    arguments = (
        hidden, weight, bias, targets.indptr, targets.indices, targets.weights, dtype,
        need and hidden.requires_grad, need_weight, gradient_filter, workspace_bytes,
    )  # fmt: skip
    if accumulate_grad and weight.requires_grad and not torch.compiler.is_compiling():
        loss: Tensor = _AccumulatingXtr.apply(*arguments)  # type: ignore[no-untyped-call]
    else:
        loss = xtr_forward(*arguments)[0]
    return loss
