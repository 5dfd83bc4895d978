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
from ems_fast.ops.gemm import Operand
from ems_fast.ops.impl import check_fused_device
from ems_fast.ops.native import kernels, runs_on_cuda
from ems_fast.ops.xtr import products as xtr_products
from ems_fast.ops.xtr.products import products_of, sum_dtype
from ems_fast.ops.xtr.targets import targets_of


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


@torch.library.custom_op("ems_fast::xtr_forward", mutates_args=())
def xtr_forward(
    hidden: Tensor,
    weight: Tensor,
    indptr: Tensor,
    indices: Tensor,
    q: Tensor,
    dtype: torch.dtype,
    need_hidden: bool,
    need_weight: bool,
    workspace_bytes: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The rows' losses and what backward needs, sums in float32 (float64 for float64).

    Returns:
        loss [B]; logsumexp [B]; mass [B] = Σ q; the gradient of hidden [B, D] for an upstream
        gradient of 1; kept [R, B] = exp(z − shift) of the first R words; shifts [chunks, B].
    """
    # On a GPU reading them would wait for it, and the kernels stay in bounds by themselves.
    if not runs_on_cuda(hidden.device):
        BagOfWords(indptr, indices, q).check(weight.shape[0])
    p = products_of(hidden, weight, dtype)
    targets = targets_of(indptr, indices, q, p)
    B, D, V = p.B, p.D, p.V
    R, n_chunks = _saved_sizes(hidden, V, dtype, need_hidden, need_weight, workspace_bytes)
    kept = workspace.empty((R, B), p.dtype, p.device)
    scratch = p.scratch(p.dtype, B if R < V else 0)
    shifts = torch.empty((n_chunks, B), dtype=p.sum_dtype, device=p.device)

    gathered, mass, entropy = targets.gather()
    shift = torch.full((B,), -torch.inf, dtype=p.sum_dtype, device=p.device)
    total = torch.zeros(B, dtype=torch.float64, device=p.device)
    rescale = torch.empty_like(shift)
    dense = shift.new_zeros((B, D) if need_hidden else (0, D))  # eᵀ W
    with torch.autocast(p.device.type, enabled=False):
        for i, (begin, end) in enumerate(p.chunks() if B else []):
            weight_chunk = p.weight_chunk(begin, end)
            e = kept[begin:end] if end <= R else scratch[: end - begin]
            rose = p.softmax(e, weight_chunk, shift, total, rescale)
            if n_chunks:
                shifts[i] = shift
            if need_hidden:
                if rose and i > 0:
                    dense *= rescale[:, None]
                p.add_to_hidden(dense, e, weight_chunk)

    logsumexp = (shift.double() + total.log()).to(p.sum_dtype)  # (B,)
    if need_hidden:
        dense.mul_((mass / total)[:, None].to(p.sum_dtype)).sub_(gathered)
    dot = gathered.mul_(p.hidden_sum).sum(1).double()
    loss = entropy + mass * (shift.double() + total.log()) - dot
    return loss.to(p.sum_dtype), logsumexp, mass.to(p.sum_dtype), dense, kept, shifts


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
    B = hidden.shape[0]
    dtype, chunk = xtr_products.layout(B, V, dtype, hidden.device)
    kept = xtr_products.kept_words(B, V, dtype, chunk, workspace_bytes) if need_weight else 0
    return kept, -(-V // chunk)


@xtr_forward.register_fake
def _(
    hidden: Tensor,
    weight: Tensor,
    indptr: Tensor,
    indices: Tensor,
    q: Tensor,
    dtype: torch.dtype,
    need_hidden: bool,
    need_weight: bool,
    workspace_bytes: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    (B, D), V, total = hidden.shape, weight.shape[0], sum_dtype(dtype)
    R, n_chunks = _saved_sizes(hidden, V, dtype, need_hidden, need_weight, workspace_bytes)
    product, _ = xtr_products.layout(B, V, dtype, hidden.device)

    def of(*shape: int, dtype: torch.dtype = total) -> Tensor:
        return hidden.new_empty(shape, dtype=dtype)

    return (
        of(B), of(B), of(B), of(B if need_hidden else 0, D), of(R, B, dtype=product),
        of(n_chunks, B),
    )  # fmt: skip


@torch.library.custom_op("ems_fast::xtr_weight_gradient", mutates_args=())
def xtr_weight_gradient(
    upstream: Tensor,
    hidden: Tensor,
    weight: Tensor,
    indptr: Tensor,
    indices: Tensor,
    q: Tensor,
    logsumexp: Tensor,
    mass: Tensor,
    kept: Tensor,
    shifts: Tensor,
    dtype: torch.dtype,
) -> Tensor:
    """The gradient of weight [V, D]."""
    out = workspace.empty(tuple(weight.shape), weight.dtype, weight.device)
    p = products_of(hidden, weight, dtype)
    targets = targets_of(indptr, indices, q, p)
    B, D, V, R = p.B, p.D, p.V, kept.shape[0]
    upstream = upstream.to(p.sum_dtype)
    negative, coefficient = (-upstream).contiguous(), (upstream * mass).contiguous()

    scratch = p.scratch(p.dtype, B if R < V else 0)
    # A gradient in bfloat16 is summed in float32 and rounded once.
    wide_rows = p.scratch(p.sum_dtype, D) if out.dtype != p.sum_dtype else None
    scaled: Tensor | Operand = p.hidden
    previous: Tensor | None = None
    with torch.autocast(p.device.type, enabled=False):
        for i, (begin, end) in enumerate(p.chunks()):
            block = out[begin:end] if wide_rows is None else wide_rows[: end - begin]
            if B == 0:
                block.zero_()
            else:
                if end <= R:
                    e, shift = kept[begin:end], shifts[i]
                else:
                    e, shift = scratch[: end - begin], logsumexp
                    p.probabilities(e, p.weight_chunk(begin, end), shift)
                if not p.is_same(shift, previous):
                    factor = coefficient * (shift - logsumexp).exp() if end <= R else coefficient
                    scaled = p.scale_hidden(factor)
                    previous = shift
                p.write_to_weight(block, e, scaled)
            targets.scatter(block, begin, negative)
            if wide_rows is not None:
                out[begin:end].copy_(block)
    return out


@xtr_weight_gradient.register_fake
def _(
    upstream: Tensor,
    hidden: Tensor,
    weight: Tensor,
    indptr: Tensor,
    indices: Tensor,
    q: Tensor,
    logsumexp: Tensor,
    mass: Tensor,
    kept: Tensor,
    shifts: Tensor,
    dtype: torch.dtype,
) -> Tensor:
    return torch.empty_like(weight, memory_format=torch.contiguous_format)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    hidden, weight, indptr, indices, q, dtype = inputs[:6]
    _, *for_backward = output
    ctx.set_materialize_grads(False)
    ctx.dtype = dtype
    ctx.save_for_backward(hidden, weight, indptr, indices, q, *for_backward)


def _backward(ctx: Any, upstream: Tensor | None, *_: Tensor | None) -> tuple[Tensor | None, ...]:
    of_hidden = of_weight = None
    if upstream is not None:
        hidden, weight, indptr, indices, q, logsumexp, mass, unit, *rest = ctx.saved_tensors
        if ctx.needs_input_grad[0]:
            of_hidden = (upstream[:, None] * unit).to(hidden.dtype)
        if ctx.needs_input_grad[1]:
            of_weight = xtr_weight_gradient(
                upstream, hidden, weight, indptr, indices, q, logsumexp, mass, *rest, ctx.dtype
            )
    return (of_hidden, of_weight, *(None,) * 7)


xtr_forward.register_autograd(_backward, setup_context=_setup_context)


def xtr_rows(
    hidden: Tensor, weight: Tensor, targets: BagOfWords, *, workspace_bytes: int
) -> Tensor:
    """The losses [B] of `ems_fast.xtr_loss`, whose arguments have been checked."""
    check_fused_device(hidden.device)
    on_cuda = runs_on_cuda(hidden.device)
    if not on_cuda:
        kernels()
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
        hidden, weight, targets.indptr, targets.indices, targets.weights, dtype,
        need and hidden.requires_grad, need and weight.requires_grad, workspace_bytes,
    )[0]  # fmt: skip
    return loss
