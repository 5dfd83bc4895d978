"""Find translations between two text files, one sentence a line.

python examples/mine_files.py runs/first english.txt german.txt mined.tsv [--threshold 1.05]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import ems_fast


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path, help="the folder of a run")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--threshold", type=float, help="drop pairs whose margin is lower")
    options = parser.parse_args()
    encoder = ems_fast.load(options.model)
    source, target = (
        path.read_text(encoding="utf-8").splitlines() for path in (options.source, options.target)
    )
    mined = ems_fast.mine(encoder, source, target, threshold=options.threshold)
    mined.to_tsv(options.output)
    for source_sentence, target_sentence, score in list(mined.pairs())[:5]:
        print(f"{score:.3f}\t{source_sentence}\t{target_sentence}")
    print(f"{len(mined)} pairs in {options.output}")


if __name__ == "__main__":
    main()
