"""How well and how fast documents are aligned, beside Gale and Church's lengths alone.

    python benchmarks/align_documents.py ../shared/corpora/train de fr ru zh
    python benchmarks/align_documents.py ../shared/corpora/train de --lines 100000

Documents are made of a corpus's pairs (benchmarks/documents.py): lines are joined, cut and left
out. The first reports strict F1 by kind of text, the second the time and memory of one large pair.
"""

from __future__ import annotations

import argparse
import resource
import time
import warnings
from pathlib import Path

import numpy as np
from baselines.gale_church import gale_church
from documents import Document, make_document, read_pairs, strict_f1

import ems_fast
from ems_fast.alignment import search
from ems_fast.alignment.vectors import block_vectors

KINDS = (("tat", "tatp"), ("news",), ("nar",), ("bib",))


def quality(folder: Path, languages: list[str], most: int) -> None:
    encoder = ems_fast.load()
    print("lang  text       lines          ems-fast  Gale-Church")
    for language in languages:
        for tags in KINDS:
            pairs = read_pairs(folder / f"{language}.tsv.zst", tags)[:most]
            if len(pairs) < 200:
                continue
            document = make_document(pairs)
            aligned = ems_fast.align(encoder, document.source, document.target)
            ours = {
                (b.source[0], b.source[-1] + 1, b.target[0], b.target[-1] + 1)
                for b in aligned.blocks
                if b.source and b.target
            }
            theirs = gale_church(document.source, document.target)
            sizes = f"{len(document.source)} {len(document.target)}"
            print(
                f"{language:<5} {tags[0]:<10} {sizes:<14} {strict_f1(ours, document.gold):8.3f}  "
                f"{strict_f1(theirs, document.gold):11.3f}",
                flush=True,
            )


def speed(path: Path, lines: int) -> None:
    pairs = read_pairs(path, ("tat", "tatp", "news", "nar", "sts", "bib", "ui", "doc", "edu"))
    encoder = ems_fast.load()
    for n in (lines // 4, lines):
        document: Document = make_document((pairs * (n // len(pairs) + 2))[: int(n * 1.08)])
        texts = (document.source[:n], document.target[:n])
        start = time.perf_counter()
        vectors = [block_vectors(encoder, "lines", text, 4) for text in texts]
        encoded = time.perf_counter()
        lengths = [search.log_lengths(text, 4) for text in texts]
        path_found = search.search(search.make_sides(vectors, lengths))
        end = time.perf_counter()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        found = {
            (a, b, c, d)
            for a, b, c, d in np.stack(
                [path_found.source[:-1], path_found.source[1:], path_found.target[:-1],
                 path_found.target[1:]], axis=1
            ).tolist()
            if a < b and c < d
        }  # fmt: skip
        gold = frozenset(g for g in document.gold if g[1] <= n and g[3] <= n)
        print(
            f"{len(texts[0]):,} and {len(texts[1]):,} lines: encoding {encoded - start:.1f} s, "
            f"aligning {end - encoded:.1f} s, peak memory {peak:,.0f} MB, "
            f"vectors {sum(v.nbytes for v in vectors) / 2**20:,.0f} MB, "
            f"F1 {strict_f1(found, gold):.3f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("languages", nargs="+")
    parser.add_argument("--pairs", type=int, default=4000, help="pairs of a made document")
    parser.add_argument("--lines", type=int, help="time one pair of documents of so many lines")
    options = parser.parse_args()
    warnings.simplefilter("ignore", ems_fast.EncodingWarning)
    if options.lines:
        speed(options.folder / f"{options.languages[0]}.tsv.zst", options.lines)
    else:
        quality(options.folder, options.languages, options.pairs)


if __name__ == "__main__":
    main()
