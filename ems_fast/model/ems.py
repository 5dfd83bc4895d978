"""The whole model: one encoder for all languages, and the two heads that train it."""

from __future__ import annotations

import torch
from torch import nn

from ems_fast.model.config import ModelConfig
from ems_fast.model.encoder import Encoder
from ems_fast.model.heads import ContrastiveHead, XTRHead

INIT_STD = 0.02
# Of a token table; what smaller and larger ones give is in docs/tuning.md.
TABLE_INIT_STD = 0.05


class EMSModel(nn.Module):
    """The encoder and what trains it."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.contrastive_head = (
            ContrastiveHead(config) if config.projection_width else nn.Identity()
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
