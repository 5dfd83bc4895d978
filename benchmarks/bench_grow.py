"""Growing a model from few pairs and much text that is not parallel: accuracy after each round.

    python benchmarks/bench_grow.py                        # 20,000 pairs, 200,000 lines a side
    python benchmarks/bench_grow.py --lines 40000 --index exact --steps 120 --rounds 1
       --preset static

The text is that of ../shared/corpora: of each language, 1,000 pairs are held out, as many as asked
for are the seed, and of others the sides are shuffled apart into two files. `--share` of the lines
of a side have their partner in the other file; those without are of pairs whose other side is left
out and, where these do not suffice, of other language pairs (English of other files, the language
itself of train_xy). The result is printed as JSON, with the lines and partners that there were.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ems_fast
from ems_fast.files.streams import read_lines

CORPORA = Path(__file__).resolve().parents[2] / "shared/corpora"
HELD_OUT = 1000


def rows(path: Path) -> Iterator[list[str]]:
    return (line.split("\t") for _, line in read_lines(path))


def english_elsewhere(languages: list[str]) -> Iterator[str]:
    for path in sorted((CORPORA / "train").glob("*.tsv.zst")):
        if path.name.split(".")[0] not in languages:
            yield from (row[0] for row in rows(path))


def text_elsewhere(language: str) -> Iterator[str]:
    for a, b, codes in rows(CORPORA / "train_xy/tatoeba_xx-yy.tsv.zst"):
        for side, code in zip((a, b), codes.split("-"), strict=True):
            if code == language:
                yield side


def fill(lines: list[str], wanted: int, more: Iterator[str]) -> list[str]:
    """The different lines, and further ones until there are as many as wanted."""
    found = dict.fromkeys(lines)
    for line in more:
        if len(found) >= wanted:
            break
        found[line] = None
    return list(found)[:wanted]


def split(
    language: str, languages: list[str], given: argparse.Namespace, folder: Path
) -> tuple[tuple[Path, Path], dict[str, Any]]:
    """Write held-out, seed and monolingual files of a language."""
    pairs = [(row[0], row[1]) for row in rows(CORPORA / f"train/{language}.tsv.zst")]
    ends = HELD_OUT, HELD_OUT + given.seed_pairs
    for part, some in (("held_out", pairs[: ends[0]]), ("seed", pairs[ends[0] : ends[1]])):
        (folder / part).mkdir(exist_ok=True)
        lines = "".join(f"{a}\t{b}\n" for a, b in some)
        (folder / part / f"en-{language}.tsv").write_text(lines)
    rest = pairs[ends[1] :]
    partners = min(int(given.share * given.lines), int(0.8 * len(rest)))
    alone = rest[partners:]
    sides = (
        [a for a, _ in rest[:partners]] + [a for a, _ in alone[::2]],
        [b for _, b in rest[:partners]] + [b for _, b in alone[1::2]],
    )
    more = english_elsewhere(languages), text_elsewhere(language)
    paths = folder / f"{language}.en.txt", folder / f"{language}.{language}.txt"
    counts = []
    for side, path, further in zip(sides, paths, more, strict=True):
        lines = fill(side, given.lines, further)
        random.Random(len(counts)).shuffle(lines)
        path.write_text("\n".join(lines) + "\n")
        counts.append(len(lines))
    return paths, {"lines": counts, "with_partner": [round(partners / n, 3) for n in counts]}


def main(given: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=given.work) as name:
        folder = Path(name)
        texts, about = {}, {}
        for language in given.languages:
            paths, about[language] = split(language, given.languages, given, folder)
            texts[f"en-{language}"] = paths
        start = time.process_time()
        result = ems_fast.grow(
            None, texts, folder / "grown", pairs=folder / "seed", held_out=folder / "held_out",
            rounds=given.rounds, from_scratch=given.from_scratch, index=given.index,
            preset=given.preset, max_steps=given.steps, device="cpu", progress=False,
        )  # fmt: skip
        seconds = time.process_time() - start
    rounds = [
        {
            "accepted": one.accepted,
            "decide": {k: round(100 * v, 2) for k, v in one.decide.items()},
            "test": {k: round(100 * v, 2) for k, v in one.test.items()},
            "mined": {k: vars(v) for k, v in one.mined.items()},
        }
        for one in result.rounds
    ]
    return {"options": vars(given), "text": about, "processor_seconds": round(seconds),
            "rounds": rounds}  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--languages", nargs="+", default=["de", "ru", "tr"])
    parser.add_argument("--seed-pairs", type=int, default=20_000)
    parser.add_argument("--lines", type=int, default=200_000, help="of each side (default: 200000)")
    parser.add_argument("--share", type=float, default=0.6, help="with a partner (default: 0.6)")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=400, help="of each training (default: 400)")
    parser.add_argument("--index", default="faiss")
    parser.add_argument("--preset", default="phrases")
    parser.add_argument("--from-scratch", action="store_true")
    parser.add_argument("--work", help="folder for temporary files")
    print(json.dumps(main(parser.parse_args()), indent=1))
