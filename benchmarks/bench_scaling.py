"""What size costs: time, memory and disk of `prepare` and of the start of training.

    python benchmarks/bench_scaling.py --pairs 1_000_000 10_000_000

Writes that many made-up pairs of several languages and scripts to a folder that is deleted
afterwards, prepares them in a process of its own, and starts training on the result in another.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

# A script each: letters that made-up words consist of, and a language's share of the pairs.
LANGUAGES = {
    "de": ("bdfgklmnprstvzaeiouäöü", 0.3),
    "fr": ("bcdfglmnprstvaeiouéèà", 0.25),
    "ru": ("бвгдзклмнпрстаеиоуыя", 0.2),
    "el": ("βγδζκλμνπρσταεηιουω", 0.1),
    "hi": ("कखगघचजटडतदनपबमयरलवसह", 0.1),
    "ka": ("აბგდევზთიკლმნოპრსტუ", 0.05),
}
ENGLISH = "bcdfghklmnprstvwaeiouy"
WORDS = 40_000
MEAN_WORDS = 12
DUPLICATES = 0.02
BLOCK = 20_000

PREPARE = """
import ems_fast, sys
from pathlib import Path
text, output = sys.argv[1:]
ems_fast.prepare(sorted(Path(text).iterdir()), output, vocab_size=16000, tokenizer_type="bpe",
                 progress=False)
"""

START = """
import ems_fast, sys
corpus, run = sys.argv[1:]
ems_fast.train(corpus, run, max_steps=20, log_steps=20, evaluations=1, evaluation_pairs=50,
               device="cpu", progress=False)
"""

# The peak as the kernel counts it; pages of mapped files apart, as they are given back when others
# need them. Processor time, unlike seconds, is about the same on a busy machine.
USAGE = """
import resource
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
used = resource.getrusage(resource.RUSAGE_SELF)
memory = (int(status[name].split()[0]) / 1024 for name in ("VmHWM", "RssFile"))
print("USAGE", used.ru_utime + used.ru_stime, *memory)
"""


def words(letters: str, rng: np.random.Generator) -> np.ndarray:
    """A made-up vocabulary; frequent words are short."""
    made = set()
    while len(made) < WORDS:
        length = 2 + int(min(8, rng.geometric(0.3))) + len(made) // 10_000
        made.add("".join(rng.choice(list(letters), length)))
    return np.array(sorted(made, key=len), dtype=object)


def sentences(vocabulary: np.ndarray, lengths: np.ndarray, rng: np.random.Generator) -> list[str]:
    """Words by Zipf's law, in sentences of the given lengths."""
    ranks = np.minimum((WORDS + 1) ** rng.random(int(lengths.sum())) - 1, WORDS - 1)
    flat = vocabulary[ranks.astype(np.int64)].tolist()
    ends = np.cumsum(lengths).tolist()
    return [" ".join(flat[a:b]) for a, b in zip([0, *ends], ends, strict=False)]


def write_text(folder: Path, pairs: int, seed: int = 0) -> None:
    """`pairs` made-up pairs, a TSV file a language."""
    rng = np.random.default_rng(seed)
    english = words(ENGLISH, rng)
    for language, (letters, share) in LANGUAGES.items():
        other = words(letters, rng)
        left = round(pairs * share)
        with (folder / f"en-{language}.tsv").open("w", encoding="utf-8") as file:
            while left:
                n = min(BLOCK, left)
                lengths = 1 + rng.poisson(rng.gamma(2.0, MEAN_WORDS / 2.0, n))
                sides = sentences(english, lengths, rng), sentences(other, lengths, rng)
                lines = [f"{a}\t{b}\n" for a, b in zip(*sides, strict=True)]
                for at in np.flatnonzero(rng.random(n) < DUPLICATES).tolist():
                    lines[at] = lines[at // 2]
                file.writelines(lines)
                left -= n


class Usage(NamedTuple):
    """Seconds by the clock and of processors, peak MB, MB of mapped files at the end."""

    seconds: float
    cpu_seconds: float
    peak: float
    mapped: float


def measured(code: str, *arguments: Path) -> Usage:
    """What a process needs that runs `code`."""
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code + USAGE, *map(str, arguments)],
        check=True, stdout=subprocess.PIPE, text=True, cwd=arguments[0],
    )  # fmt: skip
    seconds = time.perf_counter() - begun
    line = next(line for line in done.stdout.splitlines() if line.startswith("USAGE"))
    return Usage(seconds, *map(float, line.split()[1:]))


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--folder", type=Path, help="where to write; default: the system's own")
    arguments = parser.parse_args()
    for pairs in arguments.pairs:
        folder = Path(tempfile.mkdtemp(prefix="ems-scaling-", dir=arguments.folder))
        try:
            (folder / "text").mkdir()
            begun = time.perf_counter()
            write_text(folder / "text", pairs)
            written = time.perf_counter() - begun
            raw = size(folder / "text")
            used = measured(PREPARE, folder / "text", folder / "corpus")
            manifest = json.loads((folder / "corpus" / "corpus.json").read_text())
            kept = sum(shard["pairs"] for shard in manifest["shards"])
            tokens = sum(shard["tokens"] for shard in manifest["shards"])
            print(
                f"{pairs:,} pairs ({raw / 1e9:.2f} GB of text, written in {written:.0f} s)\n"
                f"  prepare: {used.seconds:.1f} s ({used.cpu_seconds:.1f} of processors), "
                f"{pairs / used.seconds:,.0f} pairs/s, peak {used.peak:,.0f} MB; "
                f"corpus {size(folder / 'corpus') / 1e9:.2f} GB, "
                f"{size(folder / 'corpus') / kept:.0f} bytes a pair, "
                f"{tokens / kept:.1f} tokens a pair",
                flush=True,
            )
            shutil.rmtree(folder / "text")
            used = measured(START, folder / "corpus", folder / "run")
            first = (folder / "run" / "metrics.jsonl").read_text().splitlines()[0]
            stepping = json.loads(first)["minutes"] * 60
            print(
                f"  training: {used.seconds:.1f} s for start, 20 steps ({stepping:.1f} s) and "
                f"scoring; peak {used.peak:,.0f} MB, {used.mapped:,.0f} MB mapped files at the end",
                flush=True,
            )
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
