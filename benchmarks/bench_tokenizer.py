"""Our tokenizer against SentencePiece: the same ids for all text there is, and the time of both.

    python benchmarks/bench_tokenizer.py ids [MODEL …]     # minutes; the shipped model by default
    python benchmarks/bench_tokenizer.py speed [MODEL …]   # of processor time, interleaved

Text is every line of `../shared/corpora`, a column a sentence. Times are of one thread, the least
of some rounds, and of SentencePiece those of its own call for a batch, `encode(sentences,
num_threads=1)`.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import sentencepiece
import zstandard

import ems_fast
from ems_fast.text.tokenizer import Tokenizer

CORPORA = Path(__file__).resolve().parents[2] / "shared" / "corpora"
CHUNK = 20_000
ROUNDS = 9
# Languages by their script.
SCRIPTS = {
    "Latin": ("de", "fr", "vi"), "CJK": ("zh", "ja"), "Arabic": ("ar",), "Cyrillic": ("ru", "uk"),
    "Devanagari": ("hi",), "Hangul": ("ko",),
}  # fmt: skip


def lines(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        raw = zstandard.ZstdDecompressor().stream_reader(file) if path.suffix == ".zst" else file
        yield from io.TextIOWrapper(raw, encoding="utf-8", newline="\n")


def sentences_of(path: Path) -> Iterator[str]:
    for line in lines(path):
        yield from line.rstrip("\n").split("\t")


def compare_ids(tokenizer: Tokenizer) -> None:
    library = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model)
    total = differ = tokens = 0
    for path in sorted(path for path in CORPORA.rglob("*") if path.is_file()):
        count = total
        sentences = sentences_of(path)
        while texts := list(islice(sentences, CHUNK)):
            ids, offsets = tokenizer.encode_packed(texts)
            expected = library.encode(texts)
            total += len(texts)
            tokens += len(ids)
            flat = [token for row in expected for token in row]
            if np.array_equal(ids, flat) and np.diff(offsets).tolist() == list(map(len, expected)):
                continue
            for i, row in enumerate(expected):
                found = ids[offsets[i] : offsets[i + 1]].tolist()
                if found != row:
                    differ += 1
                    print(f"{path}: {texts[i]!r}: {found}, SentencePiece {row}")
        print(f"{total - count:9,} {path.relative_to(CORPORA)}", flush=True)
    print(f"V {tokenizer.vocab_size:,}: {total:,} sentences, {tokens:,} tokens, {differ} differ")


def compare_speed(tokenizer: Tokenizer) -> None:
    library = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model)
    calls = {
        "SentencePiece": lambda texts: library.encode(texts, num_threads=1),
        "ems-fast": lambda texts: tokenizer.encode_packed(texts, num_threads=1),
    }
    for script, languages in SCRIPTS.items():
        texts = [
            line.split("\t")[1]
            for language in languages
            for line in islice(lines(CORPORA / "train" / f"{language}.tsv.zst"), 4000)
        ]
        times: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(ROUNDS):
            for name, call in calls.items():
                start = time.process_time()
                call(texts)
                times[name].append(time.process_time() - start)
        least = {name: min(taken) for name, taken in times.items()}
        ratio = least["SentencePiece"] / least["ems-fast"]
        rate = len(texts) / least["ems-fast"]
        print(
            f"{script:12} {rate:9,.0f} sentences/s, SentencePiece takes {ratio:.2f} times as long"
        )


def main() -> None:
    what, *models = sys.argv[1:]
    run = {"ids": compare_ids, "speed": compare_speed}[what]
    for tokenizer in map(Tokenizer.from_file, models) if models else [ems_fast.load().tokenizer]:
        print(f"V {tokenizer.vocab_size:,}, {tokenizer.implementation}")
        run(tokenizer)


if __name__ == "__main__":
    main()
