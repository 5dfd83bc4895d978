"""Collect the text that the pretrained model learns from: ``python pretrained/collect.py --help``.

Every step keeps what it has written: packages in ``packages/``, the cleaned pairs of a source in
``pairs/SOURCE/``, and the finished file of a language. A second call does what is missing. The same
packages and corpora give the same files, byte for byte.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b, sha256
from pathlib import Path

import zstandard
from cleaning import Evaluation, is_name, is_sentence
from fetching import Download, fetch, read_pins
from languages import LANGUAGES
from sources import SOURCES, Source

from ems_fast.corpus.hashing import text_key
from ems_fast.files.atomic import replacing, write_text
from ems_fast.files.staging import staged_folder
from ems_fast.files.streams import read_lines

RECIPE = 1  # another number: everything is read and written again
TAGS = frozenset({"tat", "tatp", "tico", "tldr", "emo", "udhr", "bib"})
CAP = 40_000  # pairs of a source in one language
CAP_BESIDE_CORPORA = 10_000  # where there are conversations already, interface text is a tenth
CAP_SHORT = 5_000  # interface text of one or two words, of a source
Row = tuple[str, str, str]  # english, other, source


@dataclass
class Kept:
    """What became of the pairs of one language."""

    pairs: Counter[str] = field(default_factory=Counter)
    evaluation: Counter[str] = field(default_factory=Counter)
    double: int = 0

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        evaluation = dict(sorted(self.evaluation.items()))
        return {
            "pairs": sum(self.pairs.values()),
            "sources": dict(sorted(self.pairs.items())),
            "dropped": {"in evaluation": evaluation, "double": self.double},
        }


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("--corpora", type=Path, required=True, help="train/, train_xy/ and eval/")
    parser.add_argument("--work", type=Path, default=Path("build/pretrained"), help="for downloads")
    parser.add_argument("--output", type=Path, default=Path("build/pretrained/text"))
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)

    downloads: dict[str, list[Download]] = {}
    for source in SOURCES:
        downloads[source.name] = fetch(source, options.work, read_pins())
        extract(source, downloads[source.name], options.work / "pairs" / source.name)
    evaluation = Evaluation(options.corpora / "eval")
    inputs = _digest_of(
        [
            str(RECIPE),
            evaluation.digest,
            *(d.digest for several in downloads.values() for d in several),
        ]
    )
    languages = {
        language: write_language(language, options.corpora, options.work, options.output, inputs,
                                 evaluation)
        for language in LANGUAGES
    }  # fmt: skip
    beside = write_beside_english(options.corpora, options.work, options.output, inputs, evaluation)
    summary = {
        "sources": {
            source.name: {
                "licence": source.licence,
                "registry": source.registry,
                "packages": [
                    {"name": d.package, "version": d.version, "sha256": d.digest}
                    for d in downloads[source.name]
                ],
                "pairs": sum(_count(one, source.name) for one in languages.values()),
            }
            for source in SOURCES
        },
        "evaluation sentences": evaluation.sizes,
        "languages": languages,
        "beside english": beside,
    }
    text = json.dumps(summary, indent=1, ensure_ascii=False) + "\n"
    write_text(options.output / "sources.json", text)


def extract(source: Source, downloads: list[Download], folder: Path) -> None:
    """Write a source's cleaned pairs, ``xx.tsv``, unless this was done with the same packages."""
    recipe = [RECIPE, *(download.digest for download in downloads)]
    done = folder / "packages.json"
    if done.exists():
        if json.loads(done.read_text()) == recipe:
            return
        for path in folder.iterdir():
            path.unlink()
    _say(f"reading {source.name}")
    with staged_folder(folder) as staging:
        files = {}
        try:
            for language, english, other in source.read([d.path for d in downloads]):
                kind = _kind(english, other, language, source)
                if kind is not None:
                    if language not in files:
                        files[language] = (staging / f"{language}.tsv").open("w", encoding="utf-8")
                    files[language].write(f"{english}\t{other}\t{source.name}{kind}\n")
        finally:
            for file in files.values():
                file.close()
        (staging / done.name).write_text(json.dumps(recipe))


def _kind(english: str, other: str, language: str, source: Source) -> str | None:
    """What is added to the source's name: nothing, or that the text is short. None: not kept."""
    if not source.names and is_sentence(english, other, language):
        return ""
    if is_name(english, other, language) and (source.names or len(english.split()) < 3):
        return "" if source.names else ".short"
    return None


def write_language(
    language: str, corpora: Path, work: Path, output: Path, inputs: str, evaluation: Evaluation
) -> dict[str, object]:
    """Write ``en-xx.tsv.zst`` of one language, unless it is there, and say what is in it."""
    given = corpora / "train" / f"{language}.tsv.zst"
    inputs = _digest_of([inputs, _file_digest(given) if given.exists() else ""])
    path = output / f"en-{language}.tsv.zst"

    def rows() -> Iterator[Row]:
        if given.exists():
            yield from _tagged(given, language)
        for source in SOURCES:
            read = work / "pairs" / source.name / f"{language}.tsv"
            if read.exists():
                yield from _capped(_rows(read), given.exists())

    return _written(path, work, inputs, rows(), evaluation)


def write_beside_english(
    corpora: Path, work: Path, output: Path, inputs: str, evaluation: Evaluation
) -> dict[str, object]:
    """Write the pairs without English; the third column is their languages, ``de-fr``."""
    given = sorted((corpora / "train_xy").glob("*.tsv.zst"))
    inputs = _digest_of([inputs, *map(_file_digest, given)])
    rows = (row for path in given for row in _rows(path))
    return _written(output / "xx-yy.tsv.zst", work, inputs, rows, evaluation)


def _written(
    path: Path, work: Path, inputs: str, rows: Iterable[Row], evaluation: Evaluation
) -> dict[str, object]:
    note = work / "done" / f"{path.name}.json"
    if path.exists() and note.exists():
        known: dict[str, object] = json.loads(note.read_text())
        if known.pop("inputs") == inputs and known.pop("sha256") == _file_digest(path):
            return known
    kept = Kept()
    lines = [f"{a}\t{b}\t{source}\n" for a, b, source in _clean(rows, evaluation, kept)]
    if not lines:
        return kept.as_dict()
    _say(f"writing {path.name}")
    lines.sort(key=_hash)  # a mixture that does not depend on chance
    with replacing(path) as temporary:
        data = "".join(lines).encode("utf-8")
        temporary.write_bytes(zstandard.ZstdCompressor(level=10).compress(data))
    result = kept.as_dict()
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps({**result, "inputs": inputs, "sha256": _file_digest(path)}))
    return result


def _clean(rows: Iterable[Row], evaluation: Evaluation, kept: Kept) -> Iterator[Row]:
    """Rows without evaluation text, each pair once."""
    seen: set[bytes] = set()
    for english, other, source in rows:
        sets = evaluation.sets_with(english, other)
        if sets:
            kept.evaluation.update(sets)
            kept.evaluation["any"] += 1
            continue
        pair = _hash(f"{text_key(english)}\t{text_key(other)}")
        if pair in seen:
            kept.double += 1
            continue
        seen.add(pair)
        kept.pairs[source] += 1
        yield english, other, source


def _tagged(path: Path, language: str) -> Iterator[Row]:
    """Rows of a corpus with one of `TAGS`; the licence of the Turkish Bible is in doubt."""
    tags = TAGS - {"bib"} if language == "tr" else TAGS
    return (row for row in _rows(path) if row[2] in tags)


def _capped(rows: Iterator[Row], beside_corpora: bool) -> Iterator[Row]:
    """The first translation of each English text of one source, up to its cap.

    Which ones stay depends on their hashes alone: a cap takes of everything, not of the beginning.
    """
    seen: set[str] = set()
    kinds: dict[bool, list[Row]] = {False: [], True: []}
    for row in rows:
        key = text_key(row[0])
        if key not in seen:
            seen.add(key)
            kinds[row[2].endswith(".short")].append(row)
    caps = {False: CAP, True: CAP_SHORT}
    if beside_corpora:
        caps = {False: CAP_BESIDE_CORPORA, True: 0}
    for short, several in kinds.items():
        yield from sorted(several, key=lambda row: _hash(row[0]))[: caps[short]]


def _rows(path: Path) -> Iterator[Row]:
    for number, line in read_lines(path):
        columns = line.split("\t")
        if len(columns) != 3:
            raise ValueError(f"{path}, line {number}: has {len(columns)} columns, 3 were wanted")
        yield columns[0], columns[1], columns[2]


def _count(language: dict[str, object], source: str) -> int:
    counts = language["sources"]
    assert isinstance(counts, dict)
    return sum(int(counts.get(name, 0)) for name in (source, f"{source}.short"))


def _hash(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _digest_of(parts: Iterable[str]) -> str:
    return sha256("\n".join(parts).encode()).hexdigest()


def _file_digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
