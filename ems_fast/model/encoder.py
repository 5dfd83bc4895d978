"""The encoder: token ids to sentence embeddings, the same for every language.

Shapes: B sentences, T tokens of a sentence, N packed tokens, D width, V vocabulary, K phrases, G
language width, E projection width.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from ems_fast.model.config import ModelConfig
from ems_fast.model.packing import Packed
from ems_fast.model.phrases import with_phrases
from ems_fast.ops.table import table_mean
from ems_fast.text.tokenizer import PAD_ID

LAYER_NORM_EPS = 1e-12
# Sentences of at most this many tokens attend by plain products on a CPU.
SHORT = 48
# For padded batches cuDNN would plan anew for every shape, which costs more than the attention.
BACKENDS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


@functools.cache
def has_flash_attention(device: torch.device) -> bool:
    """Whether torch's flash attention was built, for GPUs as new as this one."""
    newer = torch.cuda.get_device_capability(device) >= (8, 0)
    return newer and torch.backends.cuda.is_flash_attention_available()


class SelfAttention(nn.Module):
    """Multi-head self-attention of every sentence over its own tokens."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.heads = config.heads
        self.dropout = config.dropout
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor, packed: Packed) -> Tensor:
        """X [N, D] → [N, D]."""
        qkv = self.qkv(x)
        if not x.is_cuda:
            attend = self._attend_groups
        else:
            attend = self._attend_in_place if self._reads_in_place(qkv) else self._attend_padded
        output: Tensor = self.out(attend(qkv, packed))
        return output

    def _attend(self, qkv: Tensor, mask: Tensor | None = None) -> Tensor:
        """QKV [n, T, 3D] of n sentences of T tokens → [n·T, D]."""
        n, T, _ = qkv.shape
        q, k, v = qkv.view(n, T, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # 3 × (n, H, T, D/H)
        dropout = self.dropout if self.training else 0.0
        if qkv.is_cuda or T > SHORT:
            attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        else:
            # PyTorch's fused attention for CPUs works on blocks far larger than a short sentence.
            scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)  # (n, H, T, T)
            weights = scores.softmax(dim=-1, dtype=torch.float32).to(v.dtype)
            attended = F.dropout(weights, dropout, dropout > 0) @ v
        return attended.transpose(1, 2).reshape(n * T, -1)

    def _attend_groups(self, qkv: Tensor, packed: Packed) -> Tensor:
        """One call per sentence length: no padding, no mask."""
        return torch.cat([self._attend(part) for part in packed.views(qkv)])

    def _reads_in_place(self, qkv: Tensor) -> bool:
        """Whether torch has attention for sentences that lie one after another of this kind."""
        width = qkv.shape[1] // (3 * self.heads)
        # Both kernels read 16 bytes of a head at once, and hold all of it.
        return qkv.dtype != torch.float64 and width % 8 == 0 and width <= 128

    def _attend_in_place(self, qkv: Tensor, packed: Packed) -> Tensor:
        """One call for all sentences, where they lie: no padding, no mask, no copies."""
        q, k, v = qkv.view(len(qkv), 3, self.heads, -1).unbind(1)  # 3 × (N, H, D/H)
        ends, T = packed.offsets, packed.longest
        dropout = self.dropout if self.training else 0.0
        # torch's own operators: what it offers to users takes no dropout.
        if qkv.dtype != torch.float32 and has_flash_attention(qkv.device):
            attended = torch.ops.aten._flash_attention_forward(
                q, k, v, ends, ends, T, T, dropout, False, False
            )[0]
        else:
            attended = torch.ops.aten._efficient_attention_forward(
                q[None], k[None], v[None], None, ends, ends, T, T, dropout, 0, True
            )[0]
        joined: Tensor = attended.reshape(len(qkv), -1)
        return joined

    def _attend_padded(self, qkv: Tensor, packed: Packed) -> Tensor:
        """One call for all sentences, padded to the longest: what other kinds have on a GPU."""
        T = packed.longest
        B = packed.num_sentences
        # A token at position p of packed sentence b sits in slot b·T + p − 1 of the padded batch.
        first = packed.positions == 1
        slots = (first.cumsum(0) - 1) * T + packed.positions - 1  # (N,)
        mask = torch.zeros(B * T, dtype=torch.bool, device=qkv.device)
        mask = mask.index_fill(0, slots, True).view(B, 1, 1, T)
        padded = qkv.new_zeros(B * T, qkv.shape[1]).index_copy(0, slots, qkv)
        with sdpa_kernel(BACKENDS):
            attended = self._attend(padded.view(B, T, -1), mask)
        return attended.index_select(0, slots)


class Layer(nn.Module):
    """A post-LayerNorm Transformer layer with a swish feed-forward part."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.attention = SelfAttention(config)
        self.attention_norm = nn.LayerNorm(config.width, eps=LAYER_NORM_EPS)
        self.ffn_in = nn.Linear(config.width, config.ffn_width)
        self.ffn_out = nn.Linear(config.ffn_width, config.width)
        self.ffn_norm = nn.LayerNorm(config.width, eps=LAYER_NORM_EPS)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, packed: Packed) -> Tensor:
        """X [N, D] → [N, D]."""
        x = self.attention_norm(x + self.dropout(self.attention(x, packed)))
        hidden = self.ffn_out(F.silu(self.ffn_in(x)))
        output: Tensor = self.ffn_norm(x + self.dropout(hidden))
        return output


class Encoder(nn.Module):
    """Token ids to sentence embeddings; the same for every language, no language tag needed."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.vocab_size = config.vocab_size
        # The rows after the vocabulary's are those of phrases.
        rows = config.vocab_size + config.phrases
        self.tokens = nn.Embedding(rows, config.width, padding_idx=PAD_ID)
        # Their keys, int64 [K], ascending; which they are is known when a run begins.
        self.phrases: Tensor | None
        self.register_buffer("phrases", torch.arange(config.phrases) if config.phrases else None)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.is_table = config.is_table
        # Of a table: give its gradient as the rows that the batch touches, a sparse tensor, which
        # optimisers have to understand.
        self.sparse_gradient = False
        if self.is_table:
            return
        self.positions = nn.Embedding(config.max_tokens + 1, config.width, padding_idx=0)
        self.norm = nn.LayerNorm(config.width, eps=LAYER_NORM_EPS)
        self.dropout = nn.Dropout(config.dropout)

    @classmethod
    def of_state(cls, config: ModelConfig, state: Mapping[str, Tensor]) -> Encoder:
        """The encoder of these weights, in float32; it shares them.

        Raises:
            RuntimeError: they are not those of `config`.
        """
        with torch.device("meta"):  # nothing is drawn at random only to be replaced
            encoder = cls(config)
        own = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
        encoder.load_state_dict(own, assign=True)
        return encoder

    def forward(self, packed: Packed) -> Tensor:
        """Embeddings u [B, D], at least float32, in the caller's order of sentences."""
        if self.is_table:
            ids, lengths = packed.ids, packed.lengths()
            if self.phrases is not None:
                ids, lengths = with_phrases(ids, lengths, self.phrases, self.vocab_size)
            means: Tensor = table_mean(
                self.tokens.weight, ids, lengths, sparse=self.sparse_gradient
            )
            return means.index_select(0, packed.order)
        x = self.dropout(self.norm(self.tokens(packed.ids) + self.positions(packed.positions)))
        for layer in self.layers:
            x = layer(x, packed)
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        means = torch.cat([part.mean(dim=1) for part in packed.views(x)])  # in packed order
        return means.index_select(0, packed.order)
