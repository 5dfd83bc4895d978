"""What is known of the text that a run was trained on: what was dropped and why, and lengths."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ems_fast.corpus import BinaryCorpus
from ems_fast.corpus.binary import Shard

_MOST_INPUTS = 60  # of many hundred files, a page shows the largest
_BLOCKS, _BLOCK = 4, 500  # pairs of a shard whose lengths are looked at
_EDGES = (0, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 2**31)


@dataclass(frozen=True)
class TextFacts:
    """A corpus in numbers.

    Attributes:
        total: pairs read, kept, held out, and dropped by reason, of all inputs.
        inputs: the same of each input file, the largest first, at most sixty.
        other_inputs: how many more there are.
        notes: what was unusual.
        lengths: of each language, the number of tokens that half and 95 % of its sentences stay
            within, in a sample.
        histogram: from, to (None: no bound), share of sentences of that many tokens.
    """

    total: dict[str, Any]
    inputs: list[dict[str, Any]]
    other_inputs: int
    notes: list[str]
    lengths: dict[str, tuple[int, int]]
    histogram: list[tuple[int, int | None, float]]

    @classmethod
    def of(cls, corpus: BinaryCorpus) -> TextFacts:
        """Those of a prepared corpus; a sample of its lengths is read, not all."""
        inputs = sorted(corpus.report.inputs, key=lambda entry: -entry.read)
        sides: dict[str, list[npt.NDArray[np.int64]]] = defaultdict(list)
        for shard in corpus.shards:
            source, target = _lengths(shard)
            sides[shard.source].append(source)
            sides[shard.target].append(target)
        joined = {code: np.concatenate(sides[code]) for code in corpus.languages if code in sides}
        everything = np.concatenate(list(joined.values())) if joined else np.zeros(0, np.int64)
        counts, _ = np.histogram(everything, bins=_EDGES)
        return cls(
            total=_plain(corpus.report.total),
            inputs=[_plain(entry) for entry in inputs[:_MOST_INPUTS]],
            other_inputs=max(0, len(inputs) - _MOST_INPUTS),
            notes=corpus.report.notes[:_MOST_INPUTS],
            lengths={
                code: (int(np.median(found)), int(np.quantile(found, 0.95)))
                for code, found in joined.items()
                if len(found)
            },
            histogram=[
                (low, None if high == _EDGES[-1] else high - 1, count / max(1, len(everything)))
                for low, high, count in zip(_EDGES, _EDGES[1:], counts.tolist(), strict=False)
            ],
        )


def _plain(entry: Any) -> dict[str, Any]:
    return {**vars(entry), "dropped": {k: n for k, n in entry.dropped.items() if n}}


def _lengths(shard: Shard) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Tokens of sampled sources and targets, from blocks spread over the shard."""
    block = min(_BLOCK, shard.num_pairs)
    starts = np.linspace(0, shard.num_pairs - block, _BLOCKS).astype(int)
    found = [np.diff(shard.offsets[2 * at : 2 * (at + block) + 1]) for at in starts.tolist()]
    lengths = np.concatenate(found).astype(np.int64).reshape(-1, 2)
    return lengths[:, 0], lengths[:, 1]
