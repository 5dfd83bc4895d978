"""What smaller vectors cost: accuracy of retrieval and bytes a vector, for each precision.

    python benchmarks/small_vectors.py ../shared/corpora/eval/flores200_devtest
    python benchmarks/small_vectors.py ../shared/corpora/eval/tatoeba --languages de ja ru

Of the shipped model, or of --model: how often the translation is nearest, in both directions, mean
of all sets. "re-ranked" is `ems_fast.search` on bits, which encodes the best candidates again and
ranks them by exact cosines; there, a copy of the translation counts as wrong.
"""

from __future__ import annotations

import argparse
import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np

import ems_fast
from ems_fast.encoding.precision import Precision, VectorForm
from ems_fast.encoding.protocol import text_ids
from ems_fast.evaluation.retrieval import retrieval_from_vectors
from ems_fast.evaluation.sets import EvalSet

PRECISIONS: tuple[Precision, ...] = ("float32", "int8", "ubinary")


class Stored:
    """Vectors that are there already, as an encoder of their sentences."""

    def __init__(self, vectors: dict[str, np.ndarray]):
        self.vectors = vectors

    def encode(self, sentences: list[str], *, normalize: bool = False) -> np.ndarray:
        assert not normalize
        return np.stack([self.vectors[sentence] for sentence in sentences])


def measure(encoder: ems_fast.SentenceEncoder, pair: EvalSet, dim: int) -> dict[str, float]:
    """Accuracy in per cent of one set, by precision."""
    texts = list(pair.source), list(pair.target)
    sides = [encoder.encode(side, dim=dim, progress=False) for side in texts]
    ids = dict(zip(("source_ids", "target_ids"), map(text_ids, texts), strict=True))
    found = {}
    for precision in PRECISIONS:
        form = VectorForm.of(dim, precision, dim)
        stored = [form.stored(side) for side in sides]
        found[precision] = retrieval_from_vectors(*stored, margin="absolute", **ids).mean
    known = Stored(dict(zip((*texts[0], *texts[1]), np.concatenate(sides), strict=True)))
    ranked = [
        ems_fast.search(known, texts[1 - i], texts[i], k=1, precision="ubinary") for i in (0, 1)
    ]
    right = [(best.indices[:, 0] == np.arange(len(texts[0]))).mean() for best in ranked]
    found["re-ranked"] = sum(right) / 2
    return {name: 100 * float(share) for name, share in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sets", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--languages", nargs="+")
    parser.add_argument("--dims", nargs="+", type=int, default=[256, 128, 64])
    options = parser.parse_args()
    warnings.simplefilter("ignore", ems_fast.EncodingWarning)
    encoder = ems_fast.load(options.model)
    languages = options.languages or encoder.languages
    sets = ems_fast.read_eval_sets(options.sets, languages=languages)
    print(f"{len(sets)} sets\ndims      float32         int8      ubinary    re-ranked")
    for dim in options.dims:
        scores = defaultdict(list)
        for pair in sets:
            for name, score in measure(encoder, pair, dim).items():
                scores[name].append(score)
        sizes = {p: VectorForm.of(dim, p, dim) for p in PRECISIONS}
        widths = [sizes.get(name, sizes["ubinary"]) for name in scores]
        cells = [
            f"{np.mean(values):5.1f} ({form.columns * form.dtype.itemsize:>4})"
            for values, form in zip(scores.values(), widths, strict=True)
        ]
        print(f"{dim:>4}  {'  '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
