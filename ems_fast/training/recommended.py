"""What a model is trained with where the caller does not say: chosen by measurement."""

from __future__ import annotations

from typing import Any

from ems_fast.model.config import ModelConfig


def recommended_options(model: ModelConfig) -> dict[str, Any]:
    """Training options that fit `model` better than the defaults of `TrainOptions`.

    Those of a token table were chosen on held-out pairs and on long sentences: docs/tuning.md.
    """
    if model.is_table:
        return {
            "batch_pairs": 2048,
            "sort_by_length": False,
            "xtr_weight": 1.0 if model.reconstruction else 0.0,
            "contrastive_weight": 1.0,
            "temperature": 0.05,
            "contrastive_margin": 0.3,
            "optimizer": "rowwise-adagrad",
            "learning_rate": 0.1,
            "weight_decay": 0.0,
            "schedule": "linear",
            "warmup_fraction": 0.02,
            "max_gradient_norm": 0.0,
        }
    return {} if model.reconstruction else {"xtr_weight": 0.0}


def recommended_tokenizer(model: ModelConfig) -> dict[str, Any]:
    """Options of `ems_fast.prepare` that fit `model`."""
    return {
        "vocab_size": model.vocab_size,
        "max_tokens": model.max_tokens,
        "tokenizer_type": "unigram" if model.is_table else "bpe",
    }
