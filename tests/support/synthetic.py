"""Parallel text made of nothing: every language spells the same meanings in its own way."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ems_fast.corpus import BinaryCorpus, prepare
from ems_fast.training.options import TrainOptions, split_options
from ems_fast.training.trainer import Trainer

MEANINGS = 60


def word(language: str, meaning: int) -> str:
    rng = random.Random(f"{language} {meaning}")
    return "".join(
        rng.choice("bdfgklmnprstv") + rng.choice("aeiou") for _ in range(rng.choice((2, 3)))
    )


def pairs(language: str, n: int, *, longest: int = 9) -> list[tuple[str, str]]:
    """English and `language`; the same seed gives every language other sentences."""
    rng = random.Random(f"pairs {language}")
    found = []
    for _ in range(n):
        meanings = rng.choices(range(MEANINGS), k=rng.randint(2, longest))
        found.append(tuple(" ".join(word(x, m) for m in meanings) for x in ("en", language)))
    return found  # type: ignore[return-value]


def write_text(folder: Path, languages: tuple[str, ...] = ("de", "fr"), n: int = 600) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for language in languages:
        lines = "".join(f"{a}\t{b}\n" for a, b in pairs(language, n))
        (folder / f"en-{language}.tsv").write_text(lines, encoding="utf-8")
    return folder


def make_corpus(folder: Path) -> BinaryCorpus:
    text = write_text(folder / "text")
    return prepare(
        text, folder / "corpus", vocab_size=600, tokenizer_type="bpe", valid_pairs=20,
        progress=False,
    )  # fmt: skip


TINY = {
    "layers": 1, "width": 32, "heads": 2, "ffn_width": 64, "language_width": 8,
    "projection_width": 16, "max_tokens": 120,
}  # fmt: skip


def tiny_options(**options: object) -> TrainOptions:
    return split_options({"batch_pairs": 16, "precision": "fp32", "log_steps": 1, **options})


@contextmanager
def ending_after(steps: int) -> Iterator[None]:
    """Runs end after so many steps, on the schedule of their own limits."""
    done = Trainer._done

    def ended(trainer: Trainer, seconds: float) -> float:
        return 1.0 if trainer.progress.step == steps else done(trainer, seconds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_done", ended)
        yield
