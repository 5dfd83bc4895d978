"""Your own parallel text to a search across languages.

    python examples/train_and_search.py en-de.tsv runs/first "a question in either language"

The TSV holds a sentence and its translation a line; the languages come from the file's name.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import ems_fast


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("run", type=Path, help="the run's folder; an existing one is searched")
    parser.add_argument("query")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--vocab-size", type=int, default=16_000)
    options = parser.parse_args()
    if not (options.run / "config.toml").exists():
        ems_fast.train(
            options.corpus, options.run, max_minutes=options.minutes,
            prepare_options={"vocab_size": options.vocab_size},
        )  # fmt: skip
    encoder = ems_fast.load(options.run)
    lines = options.corpus.read_text(encoding="utf-8").splitlines()
    sentences = list(dict.fromkeys(text for line in lines for text in line.split("\t")))
    vectors = encoder.encode(sentences, normalize=True)  # [n, D]
    query = encoder.encode([options.query], normalize=True)[0]  # [D]
    cosines = vectors @ query  # [n]
    for i in cosines.argsort()[::-1][:5]:
        print(f"{cosines[i]:.3f}\t{sentences[i]}")


if __name__ == "__main__":
    main()
