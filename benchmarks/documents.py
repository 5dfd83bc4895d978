"""Documents whose true alignment is known, made of parallel lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zstandard

Range = tuple[int, int, int, int]  # lines of a block: begin and end in the source, in the target

# How often blocks of so many source and target lines are made: about Gale and Church's shares
# (1993, table 5), but with twice as many lines left out.
SHAPES = (((1, 1), 0.84), ((1, 2), 0.045), ((2, 1), 0.045), ((2, 2), 0.011), ((1, 3), 0.0095),
          ((3, 1), 0.0095), ((1, 0), 0.02), ((0, 1), 0.02))  # fmt: skip


@dataclass(frozen=True)
class Document:
    """Lines of both sides and the true blocks that have lines on both."""

    source: list[str]
    target: list[str]
    gold: frozenset[Range]


def read_pairs(path: Path, tags: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs (English, other) of a corpus file that have one of the tags."""
    with path.open("rb") as file:
        text = zstandard.ZstdDecompressor().stream_reader(file).read().decode("utf-8")
    rows = (line.split("\t") for line in text.splitlines())
    return [(row[0], row[1]) for row in rows if row[2] in tags]


def make_document(pairs: Sequence[tuple[str, str]], seed: int = 0) -> Document:
    """Join lines and drop some.

    Where n source lines and m target lines are aligned, max(n, m) pairs stand one after another,
    and the lines of the shorter side are joined into fewer: a block 1-2 is a joined source line
    beside the two target lines as they were; a block 2-2 cuts a joined side at another place, so
    that neither of its lines alone is a translation.
    """
    rng = np.random.default_rng(seed)
    shapes = [shape for shape, _ in SHAPES]
    chances = [chance for _, chance in SHAPES]
    source: list[str] = []
    target: list[str] = []
    gold = []
    position = 0
    while True:
        n, m = shapes[rng.choice(len(shapes), p=chances)]
        needed = 3 if (n, m) == (2, 2) else max(n, m)
        block = pairs[position : position + needed]
        if len(block) < needed:
            break
        position += needed
        own, other = ([pair[side] for pair in block] for side in (0, 1))
        if (n, m) == (2, 2):
            own = [" ".join(own[:2]), own[2]]
            other = [other[0], " ".join(other[1:])]
        else:
            own = own if n == needed else [" ".join(own)][:n]
            other = other if m == needed else [" ".join(other)][:m]
        if n and m:
            gold.append((len(source), len(source) + n, len(target), len(target) + m))
        source += own
        target += other
    return Document(source, target, frozenset(gold))


def strict_f1(found: set[tuple[int, int, int, int]], gold: frozenset[Range]) -> float:
    """F1 of blocks with lines on both sides; a block counts only if both its ranges are right."""
    right = len(found & gold)
    return 2 * right / (len(found) + len(gold))
