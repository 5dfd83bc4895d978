"""The released training recipe written plainly: what `ems_fast.train` is measured against.

Random batches padded to their longest sentence; each side encoded by itself, with a mask; dense
[B, V] labels filled in a Python loop; log_softmax and kl_div over them; cosines from vectors
expanded to [B, B, E]; eager modules; Adam with amsgrad, not fused. The weights are those of an
`EMSModel`, so that both can start from the same point and their losses be compared.

The authors' code also tokenises in the loader; here ids come from memory, in the baseline's favour.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from baselines.contrastive import plain, released
from torch import Tensor, nn
from torch.nn import functional as F

from ems_fast.corpus import BinaryCorpus
from ems_fast.model.ems import EMSModel
from ems_fast.model.encoder import SelfAttention


class Side(NamedTuple):
    """One side of B pairs: ids [B, T] padded with 0, lengths [B], its language [B]."""

    ids: Tensor
    lengths: Tensor
    language: Tensor


Pairs = list[tuple[list[int], list[int], int, int]]


def padded(sentences: list[list[int]], languages: list[int]) -> Side:
    lengths = torch.tensor([len(sentence) for sentence in sentences])
    ids = torch.zeros(len(sentences), int(lengths.max()), dtype=torch.long)
    for row, sentence in enumerate(sentences):
        ids[row, : len(sentence)] = torch.tensor(sentence)
    return Side(ids, lengths, torch.tensor(languages))


def dense_label(side: Side, V: int, dtype: torch.dtype) -> Tensor:
    """q [B, V]: n_w / |T|, row by row."""
    label = torch.zeros(len(side.ids), V, dtype=dtype)
    for row, length in enumerate(side.lengths.tolist()):
        for token in side.ids[row, :length].tolist():
            label[row, token] += 1 / length
    return label


def all_pairs(corpus: BinaryCorpus, limit: int, seed: int = 0) -> Pairs:
    """Some random pairs of the corpus as lists of ids."""
    rng = np.random.default_rng(seed)
    index = {language: i for i, language in enumerate(corpus.languages)}
    found: Pairs = []
    for shard in corpus.shards:
        rows = rng.choice(shard.num_pairs, min(shard.num_pairs, limit), replace=False)
        for row in rows.tolist():
            a, b = (
                shard.tokens[shard.offsets[2 * row + k] : shard.offsets[2 * row + k + 1]].tolist()
                for k in range(2)
            )
            found.append((a, b, index[shard.source], index[shard.target]))
    rng.shuffle(found)  # type: ignore[arg-type]
    return found


def random_batches(pairs: Pairs, B: int, seed: int = 0) -> Iterator[tuple[Side, Side]]:
    """An endless stream of padded batches, made when they are asked for."""
    rng = np.random.default_rng(seed)
    while True:
        rows = [pairs[i] for i in rng.choice(len(pairs), B, replace=False)]
        yield (
            padded([r[0] for r in rows], [r[2] for r in rows]),
            padded([r[1] for r in rows], [r[3] for r in rows]),
        )


class PlainRecipe(nn.Module):
    """The loss of a padded batch; `expanded` takes the released form of the cosines."""

    def __init__(self, model: EMSModel, *, expanded: bool):
        super().__init__()
        self.model = model
        self.cosines = released if expanded else plain

    def forward(self, source: Side, target: Side) -> Tensor:
        u, v = self.embed(source), self.embed(target)
        xtr = self.reconstruct(u, target) + self.reconstruct(v, source)
        head = self.model.contrastive_head
        loss: Tensor = xtr + 2 * self.cosines(head(u), head(v))
        return loss

    def embed(self, side: Side) -> Tensor:
        """The mean over every sentence's tokens [B, D]."""
        encoder = self.model.encoder
        B, T = side.ids.shape
        inside = torch.arange(T)[None] < side.lengths[:, None]  # (B, T)
        positions = torch.arange(1, T + 1).expand(B, T) * inside
        x = encoder.dropout(encoder.norm(encoder.tokens(side.ids) + encoder.positions(positions)))
        for layer in encoder.layers:
            x = layer.attention_norm(x + layer.dropout(self.attend(layer.attention, x, inside)))
            x = layer.ffn_norm(x + layer.dropout(layer.ffn_out(F.silu(layer.ffn_in(x)))))
        x = x.masked_fill(~inside[:, :, None], 0.0)
        return x.sum(1) / side.lengths[:, None]

    def attend(self, attention: SelfAttention, x: Tensor, inside: Tensor) -> Tensor:
        B, T, D = x.shape
        q, k, v = attention.qkv(x).view(B, T, 3, attention.heads, -1).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
        weights = scores.masked_fill(~inside[:, None, None, :], -torch.inf).softmax(-1)
        weights = F.dropout(weights, attention.dropout, self.training)
        return attention.out((weights @ v).transpose(1, 2).reshape(B, T, D))

    def reconstruct(self, u: Tensor, other: Side) -> Tensor:
        """KL(q ‖ p) of the other side, from a dense label."""
        hidden = self.model.xtr_head(u, other.language)
        logits = hidden @ self.model.output.T
        label = dense_label(other, logits.shape[1], logits.dtype)
        return F.kl_div(logits.log_softmax(1), label, reduction="batchmean")
