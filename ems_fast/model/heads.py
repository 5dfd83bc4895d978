"""The two heads that train the encoder.

Shapes: B sentences, D width, V vocabulary, G language width, E projection width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ems_fast.model.config import ModelConfig
from ems_fast.model.encoder import LAYER_NORM_EPS


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
