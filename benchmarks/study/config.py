"""What a row of the study is, and where the study reads and writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

NINETEEN = (
    "ar", "cs", "de", "el", "es", "fi", "fr", "he", "hu", "it", "ja", "nl", "pl", "pt", "ru", "sv",
    "tr", "uk", "zh",
)  # fmt: skip
System = Literal["ems-fast", "sentence-transformers", "recipe"]


@dataclass(frozen=True)
class Text:
    """The parallel text of a row and the tokenizer that is trained on it.

    Attributes:
        tags: sources of text that are kept; None for all.
        vocab_size: V.
        tokenizer_type: ``unigram`` or ``bpe``.
        languages: with English each.
        pairs: only the first so many lines of a language's file, which are in random order.
        limited: the languages that `pairs` limits; empty for all of them.
    """

    tags: tuple[str, ...] | None = ("tat", "tatp")
    vocab_size: int = 64_000
    tokenizer_type: str = "unigram"
    languages: tuple[str, ...] = NINETEEN
    pairs: int | None = None
    limited: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """A name for folders; other text, other name."""
        parts = ["-".join(self.tags or ("all",)), f"{self.tokenizer_type}-{self.vocab_size}"]
        if self.languages != NINETEEN:
            parts.insert(0, "-".join(self.languages))
        if self.pairs is not None:
            parts.append(f"{self.pairs}-{'-'.join(self.limited) or 'each'}")
        return ".".join(parts)

    def limit(self, language: str) -> int | None:
        """Lines of a language's file that are read; None for all."""
        return self.pairs if language in (self.limited or self.languages) else None


@dataclass(frozen=True)
class Row:
    """One training run.

    Attributes:
        name: of its JSON, and what the command line calls it.
        system: what trains.
        table: the table of ``docs/quality.md`` that shows it.
        label: what the table calls it; rows of one label differ in their seed and are averaged.
        text: what it is trained on.
        minutes: wall-clock minutes of training, or
        pairs: pairs seen; the first limit that is reached ends the run.
        seed: of initialisation and sampling.
        options: of the system, whose module in `study.systems` says which there are.
        also: further tables that show it.
        narrow: widths at which the first coordinates of its embeddings are scored too.
    """

    name: str
    system: System
    table: str
    label: str
    text: Text
    minutes: float | None = None
    pairs: int | None = None
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    also: tuple[str, ...] = ()
    narrow: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.minutes is None and self.pairs is None:
            raise ValueError(f"{self.name}: minutes and pairs are both None, expected a limit")

    @property
    def tables(self) -> tuple[str, ...]:
        """All tables that show it."""
        return (self.table, *self.also)

    def to_json(self) -> dict[str, Any]:
        """What the row's JSON says of it."""
        return asdict(self)


@dataclass(frozen=True)
class Places:
    """Where things are.

    Attributes:
        shared: holds ``corpora/train`` and ``corpora/eval``.
        work: prepared corpora and runs; may be deleted at any time.
        results: a JSON for each row.
        document: whose tables are written.
        keep_runs: leave a row's run folder in `work` when its JSON is written.
    """

    shared: Path
    work: Path
    results: Path
    document: Path
    keep_runs: bool = False

    @property
    def train(self) -> Path:
        """The folder of ``de.tsv.zst`` and its like: English, the language, a tag."""
        return self.shared / "corpora" / "train"

    @property
    def eval(self) -> Path:
        """The folder of the evaluation sets."""
        return self.shared / "corpora" / "eval"

    def result(self, row: Row) -> Path:
        """The row's JSON."""
        return self.results / f"{row.name}.json"
