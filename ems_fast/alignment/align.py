"""`ems_fast.align`: which lines of two documents are translations of each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ems_fast.alignment import search
from ems_fast.alignment.band import Path as Corners
from ems_fast.alignment.path import FloatArray, Side
from ems_fast.alignment.tmx import write_tmx
from ems_fast.alignment.vectors import block_vectors
from ems_fast.encoding.protocol import Encodes, check_sentences
from ems_fast.errors import InputError, check
from ems_fast.mining.search import write_pairs
from ems_fast.ops.native import kernels


class Block(NamedTuple):
    """Lines that are translations of each other; a line without one is a block of its own.

    Attributes:
        source: numbers of consecutive source lines, from 0; empty if the target line has none.
        target: the same for the target.
        score: 1 if both sides have the same vector, 0 if they are as far apart as lines of the two
            documents are on average, and for a line without a translation.
    """

    source: tuple[int, ...]
    target: tuple[int, ...]
    score: float


@dataclass(frozen=True)
class Alignment:
    """Two documents and what of them belongs together.

    Attributes:
        source_lines: the source document.
        target_lines: the target document.
        blocks: in the order of the documents; every line that is not blank is in one of them.
    """

    source_lines: Sequence[str]
    target_lines: Sequence[str]
    blocks: tuple[Block, ...]

    def pairs(self, min_score: float | None = None) -> Iterator[tuple[str, str, float]]:
        """Yield (source text, target text, score) of blocks with both, lines joined by spaces.

        Args:
            min_score: leave out blocks that score less; None leaves out none.
        """
        for block in self.blocks:
            if not block.source or not block.target:
                continue
            if min_score is not None and block.score < min_score:
                continue
            source = " ".join(self.source_lines[i].strip() for i in block.source)
            target = " ".join(self.target_lines[j].strip() for j in block.target)
            yield source, target, block.score

    def to_tsv(self, path: str | Path, *, min_score: float | None = None) -> None:
        """Write `pairs` as lines of source, target and score, as `mine` does.

        Raises:
            InputError: the file cannot be written.
        """
        write_pairs(path, self.pairs(min_score))

    def to_tmx(
        self,
        path: str | Path,
        source_lang: str,
        target_lang: str,
        *,
        min_score: float | None = None,
    ) -> None:
        """Write `pairs` as a translation memory (TMX 1.4b), each with its score as a property.

        Raises:
            InputError: no language codes, or the file cannot be written.
        """
        write_tmx(path, self.pairs(min_score), source_lang, target_lang)


def align(
    encoder: Encodes,
    source_lines: Sequence[str],
    target_lines: Sequence[str],
    *,
    max_lines: int = 4,
) -> Alignment:
    """Align two documents that translate each other (Vecalign: Thompson and Koehn 2019).

    Lines are sentences, or whatever the documents were split into. Runs of up to `max_lines` lines
    are encoded, and dynamic programming finds the cheapest way to pair runs of one document with
    runs of the other and to leave lines alone, all in order. Beside their vectors, lengths count:
    what two lines say is less like one of them than a vector tells. Time and memory are
    proportional to the lines: 8 · max_lines · D bytes a line of both documents, for their vectors.

    Args:
        encoder: encodes both sides.
        source_lines: n lines; blank ones take no part.
        target_lines: m lines.
        max_lines: lines of a side of a block, at most.

    Raises:
        InputError: not strings, a document without text, `max_lines` out of range.
    """
    most = kernels().align_most_lines
    check(1 <= max_lines <= most, "max_lines", max_lines, f"1 to {most}")
    documents = (("source_lines", source_lines), ("target_lines", target_lines))
    for name, lines in documents:
        check_sentences(name, lines)
    kept = [_with_text(name, lines) for name, lines in documents]
    vectors, lengths = [], []
    for (name, lines), rows in zip(documents, kept, strict=True):
        text = [lines[i].strip() for i in rows]
        vectors.append(block_vectors(encoder, name, text, max_lines))
        lengths.append(search.log_lengths(text, max_lines))
    if vectors[0].shape[2] != vectors[1].shape[2]:
        raise InputError(
            f"encoder: returned vectors of width {vectors[0].shape[2]} and {vectors[1].shape[2]}, "
            "expected one width"
        )
    sides = search.make_sides(vectors, lengths)
    path = search.search(sides)
    scores = _scores(sides, path)
    blocks = (
        Block(tuple(kept[0][a:b]), tuple(kept[1][c:d]), score)
        for a, b, c, d, score in zip(
            path.source[:-1].tolist(), path.source[1:].tolist(),
            path.target[:-1].tolist(), path.target[1:].tolist(), scores.tolist(), strict=True,
        )
    )  # fmt: skip
    return Alignment(source_lines, target_lines, tuple(blocks))


def _with_text(name: str, lines: Sequence[str]) -> list[int]:
    """The numbers of the lines that are not blank."""
    kept = [i for i, line in enumerate(lines) if line.strip()]
    if not kept:
        raise InputError(f"{name}: all {len(lines)} lines are blank, expected a document")
    return kept


def _scores(sides: tuple[Side, Side], path: Corners) -> FloatArray:
    """The score of every block of a path, float32 [b]."""
    n, m = np.diff(path.source), np.diff(path.target)
    scores = np.zeros(len(n), dtype=np.float32)
    for a, b in set(zip(n.tolist(), m.tolist(), strict=True)):
        if a and b:
            at = (n == a) & (m == b)
            i, j = path.source[:-1][at], path.target[:-1][at]
            scores[at] = 1 - search.block_distances(sides, i, j, a, b)
    return scores
