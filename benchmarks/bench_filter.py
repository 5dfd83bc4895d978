"""Reading speed a format, and how well and fast `ems_fast.filter_pairs` finds planted noise.

    python benchmarks/bench_filter.py readers
    python benchmarks/bench_filter.py choose    # thresholds, on languages that are not tested
    python benchmarks/bench_filter.py quality   # precision and recall at those thresholds
    python benchmarks/bench_filter.py speed     # beside OpusFilter's way of scoring
    python benchmarks/bench_filter.py train     # on clean text, half noise, and that filtered

The text is that of ../shared/corpora/train, of tags that the shipped model was not trained on.
Noise is of four kinds in equal parts: targets of other pairs, a translation into another language
(of the same English sentence where there is one), a target cut to 20 to 60 %, the source copied.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import resource
import tempfile
import time
import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

import ems_fast
from ems_fast.corpus.readers import RawPair
from ems_fast.encoding.protocol import Encodes
from ems_fast.files.streams import read_lines
from ems_fast.filtering.judging import Criteria, PairJudge
from ems_fast.filtering.scoring import length_deviations, score_pool

TRAIN = Path(__file__).resolve().parents[2] / "shared/corpora/train"
NINETEEN = [
    "ar",
    "cs",
    "de",
    "el",
    "es",
    "fi",
    "fr",
    "he",
    "hu",
    "it",
    "ja",
    "nl",
    "pl",
    "pt",
    "ru",
    "sv",
    "tr",
    "uk",
    "zh",
]
OTHERS = ["hi", "id", "ko", "ro", "vi"]
UNSEEN = frozenset(["news", "nar", "sts", "edu", "wiki"])
POOL = 4096
Pairs = list[tuple[str, str]]


def text(language: str, count: int, tags: frozenset[str] = UNSEEN) -> Pairs:
    rows = (line.split("\t") for _, line in read_lines(TRAIN / f"{language}.tsv.zst"))
    return list(islice(((a, b) for a, b, tag in rows if tag in tags), count))


def corrupt(pairs: Pairs, other: Pairs, share: float, seed: int = 0) -> tuple[Pairs, list[str]]:
    """The pairs, a share of them spoilt, and what each is."""
    rng = random.Random(seed)
    translated = dict(other)
    bad = rng.sample(range(len(pairs)), int(share * len(pairs)))
    out, kinds = list(pairs), ["clean"] * len(pairs)
    for turn, row in enumerate(bad):
        source, target = pairs[row]
        kinds[row] = ("shuffled", "language", "truncated", "copied")[turn % 4]
        if kinds[row] == "shuffled":
            target = pairs[bad[(turn + 4) % len(bad)]][1]
        elif kinds[row] == "language":
            target = translated.get(source, other[row % len(other)][1])
        elif kinds[row] == "truncated":
            target = target[: max(1, int(len(target) * rng.uniform(0.2, 0.6)))]
        else:
            target = source
        out[row] = source, target
    return out, kinds


def other_of(language: str, count: int) -> Pairs:
    return text("de" if language == "fr" else "fr", 3 * count)


def raw(pairs: Pairs, language: str) -> list[RawPair]:
    return [RawPair(a, b, "en", language, i + 1) for i, (a, b) in enumerate(pairs)]


def figures(kept: np.ndarray, clean: np.ndarray) -> tuple[float, float, float]:
    """Precision, recall and F1 of keeping what is clean."""
    right = float((kept & clean).sum())
    precision, recall = right / max(1, kept.sum()), right / clean.sum()
    return precision, recall, 2 * right / (kept.sum() + clean.sum())


def choose(encoder: Encodes, count: int) -> None:
    """F1 at 30 % on the five languages that are not tested, by threshold."""
    found = []
    for language in OTHERS:
        pairs, kinds = corrupt(text(language, count), other_of(language, count), 0.3, seed=1)
        none = Criteria(None, None, None, identify=True, near_duplicates=False)
        verdicts = PairJudge(encoder, none).judge(raw(pairs, language))
        sides = [list(side) for side in zip(*pairs, strict=True)]
        long = length_deviations(*sides, [("en", language)] * len(pairs))
        score, margin = score_pool(encoder, *sides)
        found.append((np.array([v.reason is None for v in verdicts]), score, margin, long,
                      np.array(kinds) == "clean"))  # fmt: skip
    for name, at in (("min_score", 1), ("min_margin", 2)):
        for limit in (1.5, 1.75, 2.0):
            cells = []
            for low in np.arange(0, 0.31, 0.05) * (1 if at == 1 else 2.5):
                f1 = [figures(x[0] & (x[at] >= low) & (x[3] <= limit), x[4])[2] for x in found]
                cells.append(f"{low:.2f}: {np.mean(f1):.4f}")
            print(f"{name}, max_length {limit}:  " + "  ".join(cells))


def quality(encoder: Encodes, count: int) -> None:
    """Precision, recall and F1 with the defaults, and the share of each kind that is kept."""
    defaults = ems_fast.filter_pairs.__kwdefaults__
    names = ("min_score", "min_margin", "max_length")
    criteria = Criteria(*(defaults[name] for name in names), identify=True, near_duplicates=False)
    judge = PairJudge(encoder, criteria)
    for share in (0.1, 0.3, 0.5):
        rows, left = [], {}
        for language in NINETEEN:
            clean_text, other = text(language, count), other_of(language, count)
            pairs, kinds = corrupt(clean_text, other, share)
            kept = np.array([v.reason is None for v in judge.judge(raw(pairs, language))])
            rows.append(figures(kept, np.array(kinds) == "clean"))
            for kind in dict.fromkeys(kinds):
                left.setdefault(kind, []).append(kept[np.array(kinds) == kind].mean())
        table = np.array(rows)
        worst = int(table[:, 2].argmin())
        print(
            f"{share:.0%}: precision {table[:, 0].mean():.3f}, recall {table[:, 1].mean():.3f}, "
            f"F1 {table[:, 2].mean():.3f}; lowest {table[worst, 2]:.3f} ({NINETEEN[worst]}); kept "
            + ", ".join(f"{k} {np.mean(v):.3f}" for k, v in left.items())
        )
        if share == 0.3:
            print(
                "  " + " ".join(f"{n} {f:.3f}" for n, f in zip(NINETEEN, table[:, 2], strict=True))
            )


def opusfilter_way(encoder: Encodes, pairs: Pairs, chunk: int = 200, k: int = 4) -> list[float]:
    """The scores of OpusFilter's SentenceEmbeddingFilter with a neighbour model, ours in place.

    OpusFilter's own code with its own defaults: embeddings of chunks of 200, made anew for each
    query, neighbours by scikit-learn's brute force, one cosine a pair by scipy.
    """
    from opusfilter.embeddings import ParallelNearestNeighbors, SentenceEmbeddingFilter
    from sklearn.neighbors import NearestNeighbors

    class Model:
        def embed_sentences(self, segments, lang=None):
            return encoder.encode(list(segments))

    neighbours = object.__new__(ParallelNearestNeighbors)
    neighbours.embedding_model, neighbours.n_neighbors = Model(), k
    neighbours.nn_model = {
        side: NearestNeighbors(n_neighbors=k, algorithm="brute", metric="cosine").fit(
            Model().embed_sentences([pair[side] for pair in pairs])
        )
        for side in (0, 1)
    }
    scorer = object.__new__(SentenceEmbeddingFilter)
    scorer.embedding_model, scorer.nn_model = Model(), neighbours
    scorer.languages, scorer.chunksize = [0, 1], chunk
    return [score[0] for score in scorer.score(iter(pairs))]


def speed(encoder: Encodes, count: int) -> None:
    """Pairs a second of both, in turn in one process, over pools of the same size."""
    pairs = text("de", POOL)
    sides = [list(side) for side in zip(*pairs, strict=True)]
    ours, theirs = [], []
    for _ in range(3):
        start = time.process_time()
        score_pool(encoder, *sides)
        ours.append(time.process_time() - start)
        start = time.process_time()
        opusfilter_way(encoder, pairs)
        theirs.append(time.process_time() - start)
    print(
        f"{len(pairs):,} pairs: ours {len(pairs) / min(ours):,.0f} pairs/s, OpusFilter's way "
        f"{len(pairs) / min(theirs):,.0f}, ratio {min(theirs) / min(ours):.1f} "
        f"(each round: {', '.join(f'{b / a:.1f}' for a, b in zip(ours, theirs, strict=True))})"
    )
    for identify in (False, True):
        judge = PairJudge(encoder, Criteria(0.1, None, 1.75, identify, near_duplicates=False))
        start = time.process_time()
        judge.judge(raw(pairs, "de"))
        rate = len(pairs) / (time.process_time() - start)
        print(f"all tests{' and languages' if identify else ''}: {rate:,.0f} pairs/s")


def readers(count: int) -> None:
    """Pairs a second of processor time, and the peak of memory, at two sizes."""
    import pyarrow
    from pyarrow import parquet

    rows = text("de", count, frozenset(["tat"]))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for times in (1, 10):
            stem = folder / f"x{times}"
            many = rows * times

            def lines(form: str, many: Pairs = many) -> Iterator[str]:
                if form == "jsonl":
                    return (json.dumps({"en": a, "de": b}, ensure_ascii=False) + "\n"
                            for a, b in many)  # fmt: skip
                return (f"{a}\t{b}\n" for a, b in many)

            stem.with_suffix(".tsv").write_text("en\tde\n" + "".join(lines("tsv")))
            stem.with_suffix(".jsonl").write_text("".join(lines("jsonl")))
            with stem.with_suffix(".csv").open("w", newline="") as file:
                csv.writer(file).writerows([("en", "de"), *many])
            with zipfile.ZipFile(stem.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
                for side, code in enumerate(("en", "de")):
                    archive.writestr(f"x.{code}", "\n".join(pair[side] for pair in many))
            sides = dict(zip(("en", "de"), map(list, zip(*many, strict=True)), strict=True))
            parquet.write_table(pyarrow.table(sides), stem.with_suffix(".parquet"))
        del many, sides
        for kind in (ems_fast.Tsv, ems_fast.JsonLines, ems_fast.Csv, ems_fast.Parquet,
                     ems_fast.ZippedMoses):  # fmt: skip
            suffix = {"Tsv": "tsv", "JsonLines": "jsonl", "Csv": "csv", "Parquet": "parquet",
                      "ZippedMoses": "zip"}[kind.__name__]  # fmt: skip
            best, peaks = 0.0, []
            for times in (1, 10):
                start = time.process_time()
                n = sum(1 for _ in kind(folder / f"x{times}.{suffix}", "en", "de"))
                best = max(best, n / (time.process_time() - start))
                peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
            print(
                f"{kind.__name__:12} {best:12,.0f} pairs/s; peak grew by {peaks[1] - peaks[0]} KB "
                f"from {len(rows):,} to {10 * len(rows):,} pairs"
            )


def train(encoder: Encodes, steps: int) -> None:
    """Accuracy on Tatoeba after as many steps on clean text, with half noise, and on that filtered.

    The clean part is the half that was not spoilt. All three are of the same pairs and steps.
    """
    languages = ("de", "fi", "ru", "zh")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts = {part: folder / part for part in ("clean", "noisy", "filtered")}
        for part in parts.values():
            part.mkdir()
        for language in languages:
            tags = frozenset(["tat", "tatp"])
            pairs, kinds = corrupt(text(language, 12000, tags), other_of(language, 4000), 0.5)
            rows = {
                "noisy": pairs,
                "clean": [p for p, k in zip(pairs, kinds, strict=True) if k == "clean"],
            }
            for part, some in rows.items():
                lines = "".join(f"{a}\t{b}\n" for a, b in some)
                (parts[part] / f"en-{language}.tsv").write_text(lines)
            ems_fast.filter_pairs(
                parts["noisy"] / f"en-{language}.tsv", parts["filtered"] / f"en-{language}.tsv",
                encoder=encoder, identify=True, progress=False,
            )  # fmt: skip
        sets = TRAIN.parent / "eval/tatoeba"
        for part, inputs in parts.items():
            files = sorted(inputs.glob("*.tsv"))
            run = folder / f"run-{part}"
            ems_fast.train(files, run, max_steps=steps, device="cpu", progress=False)
            found = ems_fast.evaluate_folders(
                ems_fast.load(run, device="cpu"), [sets], languages=["en", *languages],
                tasks=["retrieval"], progress=False,
            )  # fmt: skip
            print(f"{part}:\n{found.to_table()}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["readers", "choose", "quality", "speed", "train"])
    parser.add_argument("--pairs", type=int, default=2000, help="of each language (default: 2000)")
    parser.add_argument("--steps", type=int, default=300, help="of training (default: 300)")
    given = parser.parse_args()
    if given.part == "readers":
        readers(50 * given.pairs)
    else:
        model = ems_fast.load(device="cpu")
        if given.part == "train":
            train(model, given.steps)
        else:
            globals()[given.part](model, given.pairs)
