"""What the contrastive loss is compared with; every baseline runs forward and backward."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from ems_fast import contrastive_loss
from ems_fast.ops.gemm import Operand, multiply_transposed

TEMPERATURE = 0.1
Step = Callable[[Tensor, Tensor], Tensor]


def released(a: Tensor, b: Tensor) -> Tensor:
    """The formulation of the authors' released code: cosines of operands expanded to [B, B, E]."""
    B, E = a.shape
    cosines = functional.cosine_similarity(
        a[:, None].expand(B, B, E), b[None].expand(B, B, E), dim=-1
    )
    return _cross_entropies(cosines / TEMPERATURE)


def plain(a: Tensor, b: Tensor) -> Tensor:
    """Plain PyTorch: normalise, one matrix product, two cross-entropies."""
    u, v = functional.normalize(a, dim=1), functional.normalize(b, dim=1)
    return _cross_entropies(u @ v.T / TEMPERATURE)


def _cross_entropies(scores: Tensor) -> Tensor:
    target = torch.arange(len(scores), device=scores.device)
    return (
        functional.cross_entropy(scores, target) + functional.cross_entropy(scores.T, target)
    ) / 2


def compiled(a: Tensor, b: Tensor) -> Tensor:
    """torch.compile of the reference."""
    return contrastive_loss(a, b, temperature=TEMPERATURE, impl="compiled")


def fused(a: Tensor, b: Tensor) -> Tensor:
    """The subject."""
    return contrastive_loss(a, b, temperature=TEMPERATURE)


def fused_masked(a: Tensor, b: Tensor) -> Tensor:
    """The subject with both masks; one pair in a hundred shares its source and its target."""
    ids = torch.arange(len(b), device=b.device)
    ids[::100] = 0
    return contrastive_loss(a, b, temperature=TEMPERATURE, source_ids=ids, target_ids=ids)


def fused_small_temperature(a: Tensor, b: Tensor) -> Tensor:
    """The subject at a temperature that needs running maxima and two exponentials."""
    return contrastive_loss(a, b, temperature=0.01)


def fused_bfloat16(a: Tensor, b: Tensor) -> Tensor:
    """The subject with the operands of its products rounded to bfloat16."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return contrastive_loss(a, b, temperature=TEMPERATURE)


STEPS: dict[str, Step] = {
    "released": released,
    "plain": plain,
    "compiled": compiled,
    "fused": fused,
    "fused, masks": fused_masked,
    "fused, temperature 0.01": fused_small_temperature,
    "fused, bfloat16": fused_bfloat16,
}


def make_inputs(B: int, E: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """A batch as training has it: translations resemble each other, with noise."""
    generator = torch.Generator().manual_seed(B)
    a = torch.randn(B, E, generator=generator)
    b = a + torch.randn(B, E, generator=generator)
    return a.to(dtype).requires_grad_(), b.to(dtype).requires_grad_()


def run(step: Step, a: Tensor, b: Tensor) -> None:
    """One forward and backward pass; the gradients end up in a.grad and b.grad."""
    a.grad = b.grad = None
    step(a, b).backward()


def make_floor(B: int, E: int, *, rounded: bool = False) -> Callable[[], None]:
    """Three bare products into buffers that exist already: what the loss cannot do without.

    They are the project's own where there are such, which are faster than torch's on an AMD EPYC
    in float32 and as fast in bfloat16.
    """
    u, v = torch.randn(B, E), torch.randn(B, E)
    scores, grad = torch.randn(B, B), torch.empty(B, E)

    def floor() -> None:
        Operand(v.t(), rounded=rounded).multiply(scores, u, add=False)
        Operand(v, rounded=rounded).multiply(grad, scores, add=False)
        multiply_transposed(grad, scores, u, add=False, rounded=rounded)

    return floor
