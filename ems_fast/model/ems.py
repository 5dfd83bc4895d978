"""The whole model: one encoder for all languages, and the two heads that train it.

Shapes: B sentences, D width, V vocabulary, G language width, E projection width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ems_fast.model.config import ModelConfig
from ems_fast.model.encoder import LAYER_NORM_EPS, Encoder

INIT_STD = 0.02
# Of a token table; what smaller and larger ones give is in docs/tuning.md.
TABLE_INIT_STD = 0.05


class XTRHead(nn.Module):
    """Hidden state of cross-lingual token-level reconstruction (EMS, section 3.1).

    ``z = LayerNorm(swish(A [LayerNorm(e_t); u] + b))``; the logits are ``z · outputᵀ``.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        joint = config.width + config.language_width
        self.languages = nn.Embedding(max(len(config.languages), 1), config.language_width)
        self.language_norm = nn.LayerNorm(config.language_width, eps=LAYER_NORM_EPS)
        self.dense = nn.Linear(joint, config.head_width)
        self.norm = nn.LayerNorm(config.head_width, eps=LAYER_NORM_EPS)

    def forward(self, u: Tensor, languages: Tensor) -> Tensor:
        """U [B, D] and the languages to reconstruct [B] → hidden state [B, D + G], tied [B, D]."""
        e = self.language_norm(self.languages(languages))
        hidden: Tensor = self.norm(F.silu(self.dense(torch.cat([e, u], dim=1))))
        return hidden


class ContrastiveHead(nn.Module):
    """Projection of an embedding into the contrastive space: ``P2 relu(P1 u)``."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.inner = nn.Linear(config.width, config.width)
        self.outer = nn.Linear(config.width, config.projection_width)

    def forward(self, u: Tensor) -> Tensor:
        """U [B, D] → [B, E]."""
        projected: Tensor = self.outer(F.relu(self.inner(u)))
        return projected


class EMSModel(nn.Module):
    """The encoder and what trains it."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.contrastive_head = (
            ContrastiveHead(config) if config.projection_width else nn.Identity()
        )
        self.teacher_head = (
            nn.Linear(config.width, config.teacher_width) if config.teacher_width else nn.Identity()
        )
        if config.reconstruction:
            self.xtr_head = XTRHead(config)
            if config.tied:
                self.output = self.encoder.tokens.weight
            else:
                self.output = nn.Parameter(torch.empty(config.vocab_size, config.head_width))
        self.apply(_initialise)
        if config.is_table:
            with torch.no_grad():
                self.encoder.tokens.weight.mul_(TABLE_INIT_STD / INIT_STD)
                self.encoder.tokens.weight[config.vocab_size :] = 0.0  # of phrases
        if config.reconstruction and not config.tied:
            nn.init.normal_(self.output, std=INIT_STD)


def _initialise(module: nn.Module) -> None:
    """BERT's initialisation: normal weights, zero biases, padding rows zero."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=INIT_STD)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
    if isinstance(module, nn.Embedding) and module.padding_idx is not None:
        with torch.no_grad():
            module.weight[module.padding_idx].zero_()
