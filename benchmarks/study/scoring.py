"""What a trained encoder scores: on the evaluation sets, and on the text that is tuned by."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ems_fast import EncodingWarning, evaluate, evaluate_folders
from ems_fast.corpus import BinaryCorpus
from ems_fast.encoding.protocol import Encodes
from ems_fast.evaluation.held_out import held_out_sets
from study.config import Text

HELD_OUT_PAIRS = 200
Scores = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class FirstCoordinates:
    """An encoder whose vectors are cut after `width` coordinates."""

    encoder: Encodes
    width: int

    def encode(
        self, sentences: Sequence[str], *, normalize: bool = False
    ) -> npt.NDArray[np.float32]:
        """Float32 [n, width]."""
        vectors = self.encoder.encode(sentences)[:, : self.width]
        if not normalize:
            return vectors
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)


def score(
    encoder: Encodes, text: Text, corpus: BinaryCorpus, sets: Path, news: Path | None
) -> Scores:
    """Per collection its ``mean`` and ``languages``: per cent, or Spearman's correlation × 100.

    Retrieval is the mean of both directions; classification is learnt on English, whose own figure
    does not count for the mean. To be tuned by: ``held-out``, ``news``.
    """
    languages = [*text.languages, "en"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EncodingWarning)  # over-long sentences are cut
        parts: list[Any] = [evaluate(encoder, held_out_sets(corpus, HELD_OUT_PAIRS))]
        if news is not None:
            parts.append(evaluate_folders(encoder, [news], languages=languages, bitext=False))
        parts.append(evaluate_folders(encoder, [sets], languages=languages, bitext=False))
    found: Scores = {}
    for part in parts:
        document = json.loads(part.to_json())
        for result in [document] if "rows" in document else document.values():
            _add(found, result)
    return found


def _add(found: Scores, result: dict[str, Any]) -> None:
    for average in result["averages"]:
        found[average["name"]] = {"mean": _figure(average), "languages": {}}
    for row in result["rows"]:
        found[row["name"]]["languages"][_language(row)] = _figure(row)


def _figure(row: dict[str, Any]) -> float:
    """The one figure of a row of retrieval, classification or similarity."""
    if "accuracies" in row:
        value = sum(row["accuracies"]) / len(row["accuracies"])
    else:
        value = row["mean"] if "mean" in row else row["spearman"]
    return round(100 * value, 2)


def _language(row: dict[str, Any]) -> str:
    if "language" in row:
        return str(row["language"])
    return str(row["target_lang"] if row["source_lang"] == "en" else row["source_lang"])
