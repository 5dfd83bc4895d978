"""What a model is: its sizes, its languages, and the named presets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

from ems_fast.errors import InputError, check, check_one_of


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of an EMS model; the defaults are the preset ``mini``.

    Without layers the model is a table of token vectors, and a sentence's embedding their mean:
    `heads`, `ffn_width` and `dropout` mean nothing then, and positions do not count.

    Attributes:
        vocab_size: V.
        languages: codes, in the order of the rows of the language embedding.
        layers: L, Transformer layers; 0 for a token table.
        width: D, the width of the encoder and of a sentence embedding.
        heads: attention heads; divides `width`.
        ffn_width: width of the feed-forward layers.
        language_width: G, width of a language embedding.
        projection_width: E, width of the contrastive projection; 0 for none: then the contrastive
            loss compares the embeddings themselves, as they are compared in use.
        reconstruction: the model has the head and output embedding that XTR trains.
        max_tokens: longest sentence; longer ones are truncated.
        dropout: in embeddings, attention and hidden layers; the heads have none.
        teacher_width: width of the projection that meets the vectors of a teacher in training; 0
            for none: the embeddings meet them themselves.
        tied: the output embedding is the input embedding, and the XTR head maps to `width`.
        phrases: K, of a token table: frequent pairs of neighbouring tokens with vectors of their
            own; at most so many as the corpus has.
    """

    vocab_size: int = 16_000
    languages: tuple[str, ...] = ()
    layers: int = 2
    width: int = 256
    heads: int = 4
    ffn_width: int = 1024
    language_width: int = 64
    projection_width: int = 0
    reconstruction: bool = True
    max_tokens: int = 120
    dropout: float = 0.0
    tied: bool = False
    teacher_width: int = 0
    phrases: int = 0

    def __post_init__(self) -> None:
        for name in (
            "vocab_size", "width", "heads", "ffn_width", "language_width", "max_tokens",
        ):  # fmt: skip
            _check_size(name, getattr(self, name), 1)
        for name in ("layers", "projection_width", "teacher_width", "phrases"):
            _check_size(name, getattr(self, name), 0)
        for name in ("reconstruction", "tied"):
            value = getattr(self, name)
            check(isinstance(value, bool), name, value, "True or False")
        fine = all(isinstance(language, str) for language in self.languages)
        check(fine, "languages", self.languages, "codes of languages")
        check(isinstance(self.dropout, (int, float)), "dropout", self.dropout, "a number")
        if self.layers and self.width % self.heads:
            raise InputError(
                f"heads: {self.heads} does not divide width {self.width}; choose a divisor"
            )
        check(0.0 <= self.dropout < 1.0, "dropout", self.dropout, "0 ≤ dropout < 1")
        if self.phrases and (self.layers or self.tied):
            raise InputError(
                f"phrases: got {self.phrases}, but only a token table has them, one that is not "
                "tied; pass phrases=0, or layers=0 and tied=False"
            )

    @property
    def is_table(self) -> bool:
        """True of a token table, a model without layers."""
        return self.layers == 0

    @property
    def head_width(self) -> int:
        """Width of the XTR head's output, which meets the output embedding."""
        return self.width if self.tied else self.width + self.language_width


def _check_size(name: str, value: object, least: int) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    fits = whole and least <= cast(int, value) < 2**31
    check(fits, name, value, f"a whole number of at least {least}, below 2³¹")


PRESETS: dict[str, ModelConfig] = {
    "static": ModelConfig(
        vocab_size=64_000, layers=0, width=256, reconstruction=False
    ),
    "phrases": ModelConfig(
        vocab_size=64_000, layers=0, width=256, reconstruction=False, phrases=131_072
    ),
    "mini": ModelConfig(),
    "small": ModelConfig(
        vocab_size=32_000, layers=6, width=384, heads=6, ffn_width=1536, dropout=0.1
    ),
    # The paper's full configuration (arXiv 2205.15744, section 4.1).
    "ems": ModelConfig(
        vocab_size=60_000, layers=6, width=1024, heads=16, ffn_width=4096, language_width=128,
        projection_width=128, dropout=0.1,
    ),
}  # fmt: skip


DEFAULT_MODEL = "phrases"
"""The preset that is trained where none is named: the best for minutes on a CPU."""


def preset(name: str, **changes: Any) -> ModelConfig:
    """The preset `name` with some fields changed.

    Raises:
        InputError: no such preset.
    """
    check_one_of("model", name, tuple(PRESETS))
    return replace(PRESETS[name], **changes)


def preset_name(config: ModelConfig) -> str:
    """The preset whose sizes these are, else ``custom``.

    Whatever the vocabulary, languages and teacher, and however many phrases the corpus had.
    """
    for name, sizes in PRESETS.items():
        like = replace(
            config, vocab_size=sizes.vocab_size, languages=sizes.languages,
            phrases=sizes.phrases if config.phrases and sizes.phrases else config.phrases,
            teacher_width=sizes.teacher_width,
        )  # fmt: skip
        if like == sizes:
            return name
    return "custom"
