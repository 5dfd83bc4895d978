"""What search, mining and evaluation ask of an encoder: one method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any, Protocol, get_args

import numpy as np
import numpy.typing as npt

from ems_fast.encoding.precision import Precision, VectorForm
from ems_fast.errors import InputError, check_one_of

# Sentences whose float32 vectors are held before they become smaller.
PIECE = 1 << 15


class Encodes(Protocol):
    """Anything that turns sentences into vectors."""

    def encode(
        self, sentences: Sequence[str], *, normalize: bool = False
    ) -> npt.NDArray[np.float32]:
        """Return one vector a sentence, float32 [n, D]."""
        ...


def check_sentences(name: str, sentences: Sequence[str], *, allow_empty: bool = False) -> None:
    """Raise `InputError`, which calls them `name`, unless `sentences` are a sequence of strings."""
    if isinstance(sentences, str):
        raise InputError(f"{name}: got one string, expected a list of sentences")
    if isinstance(sentences, bytes | Mapping | Set) or not (
        hasattr(sentences, "__len__") and hasattr(sentences, "__getitem__")
    ):
        raise InputError(
            f"{name}: got an object of type {type(sentences).__name__}, expected a list of strings"
        )
    if len(sentences) == 0 and not allow_empty:
        raise InputError(f"{name}: got no sentences, expected at least one")
    for index, sentence in enumerate(sentences):
        if not isinstance(sentence, str):
            raise InputError(
                f"{name}: item {index} is of type {type(sentence).__name__}, expected a string"
            )


def check_translations(
    name: str, sentences: Sequence[str], other_name: str, other: Sequence[str]
) -> None:
    """Raise `InputError` unless both are sentences, and of the same number."""
    check_sentences(name, sentences)
    check_sentences(other_name, other)
    if len(sentences) != len(other):
        raise InputError(
            f"{name} and {other_name}: have {len(sentences)} and {len(other)} sentences, expected "
            f"the same number, translations in order"
        )


def encode_sentences(
    encoder: Encodes,
    name: str,
    sentences: Sequence[str],
    *,
    precision: Precision = "float32",
    dim: int | None = None,
) -> npt.NDArray[Any]:
    """Check `sentences`, encode them, and check that each got a vector.

    Smaller vectors are made as the sentences are encoded, so that all of them in float32 are never
    in memory.

    Returns:
        float32 [n, D], not normalised; of another precision or `dim` what `VectorForm` makes of it.

    Raises:
        InputError: `sentences` is not a sequence of strings or is empty, the encoder returned
            something else than one vector a sentence, or its vectors have no such form.
    """
    check_sentences(name, sentences)
    check_one_of("precision", precision, get_args(Precision))
    if precision == "float32" and dim is None:
        return _encode(encoder, sentences)
    kept = []
    for start in range(0, len(sentences), PIECE):
        vectors = _encode(encoder, sentences[start : start + PIECE])
        form = VectorForm.of(dim, precision, vectors.shape[1])
        kept.append(form.stored(np.ascontiguousarray(vectors[:, : form.dim])))
    return np.concatenate(kept)


def _encode(encoder: Encodes, sentences: Sequence[str]) -> npt.NDArray[np.float32]:
    vectors = encoder.encode(sentences)
    if vectors.ndim != 2 or vectors.shape[0] != len(sentences):
        raise InputError(
            f"encoder: returned an array of shape {tuple(vectors.shape)} for "
            f"{len(sentences)} sentences, expected one row a sentence"
        )
    return vectors


def text_ids(sentences: Sequence[str]) -> npt.NDArray[np.int64]:
    """int64 [n]: the index of the first sentence with the same text."""
    first: dict[str, int] = {}
    ids = (first.setdefault(sentence, i) for i, sentence in enumerate(sentences))
    return np.fromiter(ids, np.int64, len(sentences))
