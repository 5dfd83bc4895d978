"""EMS written as its formulas read, one sentence at a time: slow, and hard to get wrong."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

from ems_fast.model.ems import EMSModel


def layer_norm(x: Tensor, norm: torch.nn.LayerNorm) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return (
        centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-12).sqrt() * norm.weight + norm.bias
    )


def swish(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


def affine(x: Tensor, linear: torch.nn.Linear) -> Tensor:
    return x @ linear.weight.T + linear.bias


def plain_embedding(model: EMSModel, ids: list[int]) -> Tensor:
    """u: [D]."""
    encoder, heads = model.encoder, model.config.heads
    x = encoder.tokens.weight[ids] + encoder.positions.weight[1 : len(ids) + 1]
    x = layer_norm(x, encoder.norm)
    for layer in encoder.layers:
        q, k, v = affine(x, layer.attention.qkv).chunk(3, dim=-1)
        attended = []
        for one_q, one_k, one_v in zip(*(t.chunk(heads, dim=-1) for t in (q, k, v)), strict=True):
            weights = torch.softmax(one_q @ one_k.T / one_q.shape[-1] ** 0.5, dim=-1)
            attended.append(weights @ one_v)
        x = layer_norm(
            x + affine(torch.cat(attended, dim=-1), layer.attention.out), layer.attention_norm
        )
        x = layer_norm(x + affine(swish(affine(x, layer.ffn_in)), layer.ffn_out), layer.ffn_norm)
    return x.mean(0)


def bag(ids: list[int], weighting: str) -> dict[int, float]:
    counts = Counter(ids)
    if weighting == "count":
        return {token: n / len(ids) for token, n in counts.items()}
    if weighting == "distinct":
        return {token: 1 / len(counts) for token in counts}
    return {token: 1 / len(ids) for token in counts}


def plain_xtr(
    model: EMSModel, u: Tensor, language: int, target: list[int], weighting: str
) -> Tensor:
    head = model.xtr_head
    e = layer_norm(head.languages.weight[language], head.language_norm)
    z = layer_norm(swish(affine(torch.cat([e, u]), head.dense)), head.norm)
    log_p = torch.log_softmax(model.output @ z, dim=0)
    loss = z.new_zeros(())
    for token, weight in bag(target, weighting).items():
        loss = loss + weight * (torch.log(torch.tensor(weight, dtype=z.dtype)) - log_p[token])
    return loss


def plain_losses(
    model: EMSModel,
    sources: list[list[int]],
    targets: list[list[int]],
    languages: list[int],
    weighting: str,
    temperature: float = 0.1,
) -> tuple[Tensor, Tensor]:
    """XTR and contrastive loss of a batch of pairs."""
    B = len(sources)
    sentences = [*sources, *targets]
    others = [*targets, *sources]
    u = [plain_embedding(model, ids) for ids in sentences]
    xtr = sum(
        plain_xtr(model, vector, language, other, weighting)
        for vector, language, other in zip(u, languages, others, strict=True)
    )
    head = model.contrastive_head
    v = [affine(torch.relu(affine(vector, head.inner)), head.outer) for vector in u]
    v = [vector / vector.norm() for vector in v]
    s = torch.stack([torch.stack([v[i] @ v[B + j] for j in range(B)]) for i in range(B)])
    s = s / temperature
    rows = torch.log_softmax(s, dim=1).diagonal()
    columns = torch.log_softmax(s, dim=0).diagonal()
    return xtr / B, -(rows.mean() + columns.mean()) / 2
