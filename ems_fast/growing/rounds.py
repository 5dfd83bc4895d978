"""One round: pairs mined by the best model so far, with a threshold that held-out pairs tell."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ems_fast.encoding.partial_array import read_json, write_json
from ems_fast.encoding.protocol import Encodes
from ems_fast.errors import InputError
from ems_fast.growing.texts import NEIGHBORS, Pairs
from ems_fast.mining import fit_threshold, mine
from ems_fast.mining.exact import Index
from ems_fast.mining.search import Mining


@dataclass(frozen=True)
class Mined:
    """What was mined for one language pair.

    Attributes:
        pairs: how many.
        threshold: the margin that they have at least.
        precision: share of right ones among the hidden sentences' pairs; a lower bound, since a
            sentence may have another translation in the text.
        recall: share of the hidden pairs that were found.
    """

    pairs: int
    threshold: float
    precision: float
    recall: float


@dataclass(frozen=True)
class Round:
    """What a round came to.

    Attributes:
        number: 0 for the model that was begun with.
        accepted: the model became the best so far.
        decide: accuracy on the held-out pairs that decide, by language pair.
        test: accuracy on those that decide nothing.
        mined: what it was trained on beside the seed, by language pair.
        minutes: of training.
    """

    number: int
    accepted: bool
    decide: dict[str, float]
    test: dict[str, float]
    mined: dict[str, Mined]
    minutes: float

    @property
    def score(self) -> float:
        """What rounds are compared by: the mean of `decide`."""
        return sum(self.decide.values()) / len(self.decide)

    def write(self, path: Path) -> None:
        """Write the round's record, the mark that it is complete."""
        write_json(path, dataclasses.asdict(self))

    @classmethod
    def read(cls, path: Path) -> Round | None:
        """The record of a complete round; None if there is none."""
        record: dict[str, Any] = read_json(path)
        if not record:
            return None
        record["mined"] = {name: Mined(**found) for name, found in record["mined"].items()}
        return cls(**record)


def mine_pairs(
    encoder: Encodes,
    lines: tuple[Sequence[str], Sequence[str]],
    hidden: Pairs,
    path: Path,
    *,
    threshold: float | None,
    index: Index,
    device: torch.device | str = "cpu",
) -> Mined:
    """Mine one language pair and write its pairs, best first, with their margins; or read that.

    `hidden` pairs, whose text is not among the lines, are put there to fit the threshold with the
    highest F1: of a third both sides, of another third the sources and of the last the targets, so
    that there are sentences with and without a translation. No pair with one of them is written.

    Raises:
        InputError: none of the hidden pairs is found.
    """
    record = path.with_suffix(".json")
    if record.exists() and path.exists():
        return Mined(**read_json(record))
    n, m = len(lines[0]), len(lines[1])
    sources = [i for i in range(len(hidden)) if i % 3 != 2]
    targets = [i for i in range(len(hidden)) if i % 3 != 1]
    found = mine(
        encoder,
        [*lines[0], *(hidden[i][0] for i in sources)],
        [*lines[1], *(hidden[i][1] for i in targets)],
        k=NEIGHBORS,
        index=index,
        device=device,
    )
    # A candidate is judged if one of its sides was hidden; it is right if both are, of one pair.
    source = np.concatenate([np.full(n, -1), sources])[found.source_indices]
    target = np.concatenate([np.full(m, -1), targets])[found.target_indices]
    judged = (source >= 0) | (target >= 0)
    right, scores = (source == target)[judged], found.scores[judged]
    there = len(set(sources) & set(targets))
    if not right.any():
        raise InputError(
            f"texts: the model finds none of the {there} held-out pairs "
            f"that were hidden for {path.name}; begin with a better one, or with more seed pairs"
        )
    least = threshold
    if least is None:
        least = fit_threshold(scores, right, total_positives=there).threshold
    accepted = scores >= np.float32(least)
    kept = (
        (found.source_indices < n)
        & (found.target_indices < m)
        & (found.scores >= np.float32(least))
    )
    mined = Mining(
        found.source_indices[kept], found.target_indices[kept], found.scores[kept], *lines
    )
    mined.to_tsv(path)
    result = Mined(
        pairs=len(mined),
        threshold=least,
        precision=float(right[accepted].mean()) if accepted.any() else 0.0,
        recall=float(right[accepted].sum()) / there,
    )
    write_json(record, dataclasses.asdict(result))
    return result
