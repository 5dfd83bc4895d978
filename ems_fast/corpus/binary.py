"""The prepared corpus on disk: flat arrays of tokens, opened as memory maps.

A corpus is a folder::

    corpus.json               format, languages, shards, what was read and dropped
    tokenizer.model           the SentencePiece model that made the tokens
    shards/en-de/tokens.bin   uint16 or uint32 [N], every sentence's tokens one after another
    shards/en-de/offsets.bin  int64 [2n + 1]; sentence s is tokens[offsets[s]:offsets[s + 1]];
                              sentence 2i is the source of pair i, sentence 2i + 1 its target
    shards/en-de/hashes.bin   int64 [2n]; equal text has an equal hash, in every shard
    shards/en-de/valid.tsv    the text of the held-out pairs, source<TAB>target

All numbers are little-endian. The pairs of a shard are in the order of the input.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ems_fast.corpus.report import CorpusReport
from ems_fast.errors import InputError
from ems_fast.text.tokenizer import Tokenizer

FORMAT_VERSION = 1
MANIFEST = "corpus.json"
TOKENIZER = "tokenizer.model"
TOKEN_DTYPES = {"uint16": "<u2", "uint32": "<u4"}
# Of a shard's entry in the manifest: its attribute.
_SHARD_KEYS = {
    "source": "source",
    "target": "target",
    "pairs": "num_pairs",
    "valid_pairs": "num_valid",
    "tokens": "num_tokens",
}


def token_dtype(vocab_size: int) -> str:
    """``uint16`` where every id fits, else ``uint32``."""
    return "uint16" if vocab_size <= 2**16 else "uint32"


@dataclass(frozen=True)
class Shard:
    """The training pairs of one language pair, memory-mapped on first use.

    Attributes:
        path: the shard's folder.
        source: language of sentences 0, 2, 4...
        target: language of sentences 1, 3, 5...
        num_pairs: n.
        num_tokens: N, both sides together.
        num_valid: the number of held-out pairs.
        dtype: ``uint16`` or ``uint32``.
    """

    path: Path
    source: str
    target: str
    num_pairs: int
    num_tokens: int
    num_valid: int
    dtype: str

    @property
    def name(self) -> str:
        """``en-de``."""
        return f"{self.source}-{self.target}"

    @cached_property
    def tokens(self) -> np.memmap[Any, np.dtype[Any]]:
        """uint16 or uint32 [N]."""
        return np.memmap(self.path / "tokens.bin", dtype=TOKEN_DTYPES[self.dtype], mode="r")

    @cached_property
    def offsets(self) -> np.memmap[Any, np.dtype[np.int64]]:
        """int64 [2n + 1]; sentence s is ``tokens[offsets[s]:offsets[s + 1]]``."""
        return np.memmap(self.path / "offsets.bin", dtype="<i8", mode="r")

    @cached_property
    def hashes(self) -> np.memmap[Any, np.dtype[np.int64]]:
        """int64 [2n]: `ems_fast.corpus.sentence_hash` of every sentence."""
        return np.memmap(self.path / "hashes.bin", dtype="<i8", mode="r")

    def pair(self, index: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """The tokens of pair `index`, source and target, as views of the map."""
        tokens, lengths, _ = self.block(index, index + 1)
        return tokens[: lengths[0]], tokens[lengths[0] :]

    def block(
        self, first: int, last: int
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Tokens [N] as a view of the map, lengths [2n] and hashes [2n] of n pairs from `first`.

        Raises:
            InputError: the offsets are damaged.
        """
        offsets = self.offsets[2 * first : 2 * last + 1]
        lengths = np.diff(offsets)
        if offsets[0] < 0 or offsets[-1] > len(self.tokens) or (lengths < 0).any():
            raise InputError(
                f"{self.path / 'offsets.bin'}: does not ascend within the tokens; the file is "
                "damaged, prepare the corpus again"
            )
        hashes = np.asarray(self.hashes[2 * first : 2 * last])
        return self.tokens[offsets[0] : offsets[-1]], lengths, hashes

    def valid_pairs(self) -> list[tuple[str, str]]:
        """The text of the held-out pairs, (source, target) each."""
        try:
            lines = (self.path / "valid.tsv").read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"{self.path / 'valid.tsv'}: cannot be read ({error}); prepare the corpus again"
            ) from error
        pairs = [
            (source, target) for source, _, target in (ln.partition("\t") for ln in lines[:-1])
        ]
        if len(pairs) != self.num_valid:
            raise InputError(
                f"{self.path / 'valid.tsv'}: has {len(pairs)} lines, expected {self.num_valid}; "
                f"prepare the corpus again"
            )
        return pairs

    def check(self) -> None:
        """Compare the sizes of the files with what corpus.json says.

        Raises:
            InputError: a file is missing, cut short or too long.
        """
        expected = {
            "tokens.bin": self.num_tokens * np.dtype(TOKEN_DTYPES[self.dtype]).itemsize,
            "offsets.bin": (2 * self.num_pairs + 1) * 8,
            "hashes.bin": 2 * self.num_pairs * 8,
        }
        for name, size in expected.items():
            try:
                actual = (self.path / name).stat().st_size
            except OSError as error:
                raise InputError(
                    f"{self.path / name}: cannot be opened ({error.strerror}); "
                    f"prepare the corpus again"
                ) from error
            if actual != size:
                raise InputError(
                    f"{self.path / name}: has {actual:,} bytes, expected {size:,}; "
                    f"the file is damaged, prepare the corpus again"
                )


@dataclass(frozen=True)
class BinaryCorpus:
    """A prepared corpus. Open one with `BinaryCorpus.open`; nothing is read until it is used.

    Attributes:
        path: the corpus's folder.
        languages: every language, the most frequent first.
        shards: one a language pair, the largest first.
        vocab_size: V of the tokenizer.
        tokenizer_sha256: hash of the tokenizer that made the tokens.
        max_tokens: no sentence is longer.
        report: what was read, kept and dropped.
    """

    path: Path
    languages: list[str]
    shards: list[Shard]
    vocab_size: int
    tokenizer_sha256: str
    max_tokens: int
    report: CorpusReport

    @classmethod
    def open(cls, path: str | Path) -> BinaryCorpus:
        """Open the folder that `prepare` wrote, in milliseconds whatever its size.

        Raises:
            InputError: the folder is no corpus, is of another format version, a file of it is
                damaged, or its tokenizer is not the one that made the tokens.
        """
        path = Path(path)
        manifest = path / MANIFEST
        try:
            data = json.loads(manifest.read_bytes())
        except OSError as error:
            raise InputError(
                f"{path}: is not a prepared corpus ({MANIFEST}: {error.strerror}); "
                f"make one with `ems-fast prepare`"
            ) from error
        except (ValueError, RecursionError) as error:
            raise InputError(f"{manifest}: is damaged ({error}); prepare it again") from error
        version = data.get("format_version") if isinstance(data, dict) else None
        if version != FORMAT_VERSION:
            raise InputError(
                f"{manifest}: has format version {version}, this version of ems-fast reads "
                f"{FORMAT_VERSION}; prepare the corpus again"
            )
        try:
            if data["token_dtype"] not in TOKEN_DTYPES:
                raise ValueError(f"token_dtype {data['token_dtype']!r}")
            corpus = cls(
                path=path,
                languages=data["languages"],
                shards=[
                    Shard(
                        path=path / "shards" / f"{entry['source']}-{entry['target']}",
                        dtype=data["token_dtype"],
                        **{field: entry[key] for key, field in _SHARD_KEYS.items()},
                    )
                    for entry in data["shards"]
                ],
                vocab_size=data["vocab_size"],
                tokenizer_sha256=data["tokenizer_sha256"],
                max_tokens=data["max_tokens"],
                report=CorpusReport.from_json(data),
            )
            corpus._check_types()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{manifest}: is damaged ({error!r}); prepare it again") from error
        for shard in corpus.shards:
            shard.check()
        if corpus.tokenizer.sha256 != corpus.tokenizer_sha256:
            raise InputError(
                f"{path / TOKENIZER}: is not the tokenizer that made this corpus "
                f"(sha256 {corpus.tokenizer.sha256[:12]}…, expected "
                f"{corpus.tokenizer_sha256[:12]}…); restore it or prepare the corpus again"
            )
        return corpus

    def _check_types(self) -> None:
        """Raise ValueError unless everything is what it is documented to be."""
        names = [name for shard in self.shards for name in (shard.source, shard.target)]
        texts = (*self.languages, *names, self.tokenizer_sha256)
        if not all(isinstance(text, str) for text in texts) or not isinstance(self.languages, list):
            raise ValueError("languages")
        if not set(names) <= set(self.languages) or any("/" in name for name in names):
            raise ValueError("shards of languages that it has not")
        numbers = [n for s in self.shards for n in (s.num_pairs, s.num_tokens, s.num_valid)]
        if not all(type(n) is int and 0 <= n < 2**60 for n in numbers):
            raise ValueError("numbers of pairs")
        if not all(type(n) is int and 1 <= n < 2**31 for n in (self.vocab_size, self.max_tokens)):
            raise ValueError("vocab_size, max_tokens")

    def to_json(self) -> dict[str, Any]:
        """The content of corpus.json."""
        return {
            "format_version": FORMAT_VERSION,
            "languages": self.languages,
            "token_dtype": token_dtype(self.vocab_size),
            "vocab_size": self.vocab_size,
            "tokenizer_sha256": self.tokenizer_sha256,
            "max_tokens": self.max_tokens,
            "shards": [
                {key: getattr(shard, field) for key, field in _SHARD_KEYS.items()}
                for shard in self.shards
            ],
            **self.report.to_json(),
        }

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that made the tokens."""
        return Tokenizer.from_file(self.path / TOKENIZER)

    @property
    def num_pairs(self) -> int:
        """Training pairs of all shards; the held-out ones are not among them."""
        return sum(shard.num_pairs for shard in self.shards)

    @property
    def num_tokens(self) -> int:
        """Tokens of all shards, both sides."""
        return sum(shard.num_tokens for shard in self.shards)


class ShardWriter(ExitStack):
    """Appends blocks of pairs to a shard, whose folder it creates; use it as a context manager."""

    def __init__(self, path: Path, source: str, target: str, vocab_size: int):
        super().__init__()
        path.mkdir(parents=True)
        self._tokens, self._offsets, self._hashes, self._valid = (
            self.enter_context((path / name).open("wb"))
            for name in ("tokens.bin", "offsets.bin", "hashes.bin", "valid.tsv")
        )
        self._offsets.write(np.zeros(1, dtype="<i8").tobytes())
        self._shard = Shard(path, source, target, 0, 0, 0, token_dtype(vocab_size))

    def add_pairs(
        self,
        tokens: npt.NDArray[Any],
        lengths: npt.NDArray[np.int64],
        hashes: npt.NDArray[np.int64],
    ) -> None:
        """Append n pairs: tokens [N] of both sides, source first, lengths and hashes [2n]."""
        shard = self._shard
        ends = shard.num_tokens + np.cumsum(lengths)
        self._tokens.write(tokens.astype(TOKEN_DTYPES[shard.dtype]).tobytes())
        self._offsets.write(ends.astype("<i8").tobytes())
        self._hashes.write(hashes.astype("<i8").tobytes())
        self._shard = replace(
            shard,
            num_pairs=shard.num_pairs + len(lengths) // 2,
            num_tokens=shard.num_tokens + len(tokens),
        )

    def add_valid(self, source: str, target: str) -> None:
        """Append a held-out pair; a tab or a line end within it becomes a space."""
        cells = (" ".join(side.replace("\t", " ").splitlines()) for side in (source, target))
        self._valid.write(("\t".join(cells) + "\n").encode())
        self._shard = replace(self._shard, num_valid=self._shard.num_valid + 1)

    def shard(self) -> Shard:
        """What has been written so far."""
        return self._shard
