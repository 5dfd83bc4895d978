"""One more language for a model: what it learns, against a model of all, and what is lost.

For each language in turn a model of the others is trained, then extended by that one with several
values of `keep`; beside it stands a model trained on all from the start.

    python -m benchmarks.bench_extend ../shared/corpora --work /tmp/extend --minutes 3
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import ems_fast
from benchmarks.results import write_results
from benchmarks.study.config import NINETEEN
from ems_fast.files.streams import read_lines

TAGS = ("tat", "tatp")


def main() -> None:
    """Print a line for every extension, and write them all to ``--json``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("corpora", type=Path, help="folder with train/xx.tsv.zst")
    parser.add_argument("--work", type=Path, required=True, help="where runs are kept")
    parser.add_argument("--languages", nargs="+", default=list(NINETEEN))
    parser.add_argument("--new", nargs="+", default=["el", "ja", "fi"])
    parser.add_argument("--keep", nargs="+", type=float, default=[0.25, 0.5, 0.75])
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--steps", type=int, help="steps of a run instead of minutes")
    parser.add_argument("--lines", type=int, help="only the first so many lines of a language")
    parser.add_argument("--vocab-size", type=int, default=64_000)
    parser.add_argument("--replay", action="store_true", help="replay the old languages' text")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    limits = {"max_steps": given.steps} if given.steps else {"max_minutes": given.minutes}

    def text(*languages: str) -> list[ems_fast.Tsv]:
        return [
            ems_fast.Tsv(_file(given, code), "en", code, columns=(0, 1), tag_column=2, tags=TAGS)
            for code in languages
        ]

    def trained(name: str, *languages: str) -> Path:
        folder: Path = given.work / name
        ems_fast.train(
            text(*languages), folder, resume="auto", progress=False,
            prepare_options={"vocab_size": given.vocab_size}, **limits,
        )  # fmt: skip
        return folder

    whole = trained("all", *given.languages)
    found: list[dict[str, Any]] = []
    for new in given.new:
        others = [code for code in given.languages if code != new]
        first = trained(f"without-{new}", *others)
        for keep in given.keep:
            result = ems_fast.extend(
                first, text(new), given.work / f"with-{new}-{keep}", keep=keep, progress=False,
                replay=text(*others) if given.replay else None, **limits,
            )  # fmt: skip
            certificate = result.certificate
            (fresh,) = (row for row in certificate.rows if not row.old)
            sentences = next(
                zip(*shard.valid_pairs()[: fresh.sentences], strict=True)
                for shard in result.corpus.shards
                if shard.name == fresh.languages
            )
            of_all = ems_fast.evaluate_retrieval(ems_fast.load(whole), *map(list, sentences))
            row = {
                "language": new,
                "keep": keep,
                "all from the start": (of_all.forward + of_all.backward) / 2,
                "extended": fresh.after,
                "before": fresh.before,
                "old before": certificate.mean("before"),
                "old after": certificate.mean("after"),
                "old neighbours kept": certificate.mean("neighbours"),
            }
            found.append(row)
            print(json.dumps(row), flush=True)
    if given.json:
        write_results(given.json, found)


def _file(given: argparse.Namespace, code: str) -> Path:
    (file,) = (given.corpora / "train").glob(f"{code}.tsv*")
    if given.lines is None:
        return Path(file)
    short: Path = given.work / f"{code}.tsv"
    if not short.exists():
        lines = (line for _, line in read_lines(file))
        kept = [line for _, line in zip(range(given.lines), lines, strict=False)]
        short.write_text("\n".join(kept) + "\n", encoding="utf-8")
    return short


if __name__ == "__main__":
    main()
