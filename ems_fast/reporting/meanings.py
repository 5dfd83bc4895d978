"""Sentences by meaning: those that translate each other, also by way of a third."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ems_fast.encoding.protocol import Encodes, encode_sentences
from ems_fast.evaluation import EvalSet

Node = tuple[str, str]  # language and text
LONGEST = 300  # characters of a sentence that are shown


@dataclass(frozen=True)
class Pool:
    """The sentences of one language: n, each once.

    Attributes:
        language: its code.
        texts: n sentences.
        meanings: int64 [n]; sentences of any language with the same number are translations.
        vectors: float32 [n, D], of length 1.
    """

    language: str
    texts: tuple[str, ...]
    meanings: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float32]


def pools(encoder: Encodes, sets: Sequence[EvalSet], most: int) -> list[Pool]:
    """The sentences of `sets` by language, encoded; the language with the most comes first.

    A sentence that two sets share makes its translations those of each other. Of a set, at most
    `most` pairs are taken, first those that further sets share a side with.
    """
    given = Counter(node for one in sets for side in _sides(one) for node in set(side))
    parents: dict[Node, Node] = {}

    def root(node: Node) -> Node:
        parents.setdefault(node, node)
        while parents[node] != node:
            parents[node] = parents[parents[node]]
            node = parents[node]
        return node

    for one in sets:
        pairs = list(zip(*_sides(one), strict=True))
        pairs.sort(key=lambda pair: -max(given[node] for node in pair))  # stable
        for left, right in pairs[:most]:
            parents[root(right)] = root(left)
    numbers: dict[Node, int] = {}
    found: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for node in parents:
        meaning = numbers.setdefault(root(node), len(numbers))
        found[node[0]].append((node[1], meaning))
    ordered = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    return [_pool(encoder, language, sentences) for language, sentences in ordered]


def shown(text: str) -> str:
    """The text, or its beginning if it is long."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _sides(one: EvalSet) -> tuple[list[Node], list[Node]]:
    """The sentences of both sides, with their languages."""
    return (
        [(one.source_lang, text) for text in one.source],
        [(one.target_lang, text) for text in one.target],
    )


def _pool(encoder: Encodes, language: str, sentences: Sequence[tuple[str, int]]) -> Pool:
    texts = tuple(text for text, _ in sentences)
    vectors = encode_sentences(encoder, "sentences", texts).astype(np.float32)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return Pool(language, texts, np.array([m for _, m in sentences], np.int64), vectors)
