"""The text of the rows: prepared once for each `Text`, the same for every system."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ems_fast.corpus import BinaryCorpus, RawPair, Shard, Tsv, prepare, sentence_hash
from ems_fast.corpus.cleaning import tidy
from ems_fast.files.atomic import replacing
from study.config import Places, Text

NEWS_PAIRS = 500


def corpus_of(text: Text, places: Places) -> BinaryCorpus:
    """The prepared corpus of `text`, made where it is missing."""
    folder = places.work / "corpora" / text.key
    if not folder.exists():
        print(f"preparing {text.key}", flush=True)
        prepare(
            _readers(text, places), folder, vocab_size=text.vocab_size,
            tokenizer_type=text.tokenizer_type, progress=False,
        )  # fmt: skip
    return BinaryCorpus.open(folder)


def training_text(text: Text, places: Places, shard: Shard) -> list[tuple[str, str]]:
    """The sentences of a shard's training pairs as they were before tokenisation, in its order.

    The shard holds hashes, and keeps the order of the file: its pairs are found by reading that
    again.
    """
    language = shard.target if shard.source == "en" else shard.source
    wanted = zip(*(iter(shard.hashes.tolist()),) * 2, strict=True)
    found: list[tuple[str, str]] = []
    expected = next(wanted, None)
    for raw in _raw_pairs(text, places, language):
        sides = {raw.source_lang: tidy(raw.source), raw.target_lang: tidy(raw.target)}
        pair = sides[shard.source], sides[shard.target]
        if expected == (sentence_hash(pair[0]), sentence_hash(pair[1])):
            found.append(pair)
            expected = next(wanted, None)
    if expected is not None:
        raise RuntimeError(
            f"{shard.path}: pair {len(found)} of {shard.num_pairs} is not in the text it was "
            f"prepared from; delete {places.work / 'corpora' / text.key}"
        )
    return found


def news_sets(text: Text, places: Places) -> Path | None:
    """A folder of pairs from news, long sentences that are in no text of `text`, to tune by.

    None where `text` itself has news, or no file has any.
    """
    if text.tags is None or "news" in text.tags:
        return None
    folder = places.work / "news"
    for language in text.languages:
        file = folder / f"news.{language}-en.tsv"
        none = file.with_suffix(".none")
        if file.exists() or none.exists():
            continue
        pairs = itertools.islice(_reader(places, language, ("news",)), NEWS_PAIRS)
        _write(file, ((tidy(pair.target), tidy(pair.source)) for pair in pairs))
        if not file.stat().st_size:
            file.rename(none)
    found = [(folder / f"news.{language}-en.tsv").exists() for language in text.languages]
    return folder if any(found) else None


def _readers(text: Text, places: Places) -> list[Tsv]:
    if text.pairs is None:
        return [_reader(places, language, text.tags) for language in text.languages]
    readers = []
    for language in text.languages:
        file = places.work / "texts" / text.key / f"{language}.tsv"
        _write(file, ((p.source, p.target) for p in _raw_pairs(text, places, language)))
        readers.append(Tsv(file, "en", language))
    return readers


def _reader(places: Places, language: str, tags: tuple[str, ...] | None) -> Tsv:
    found = sorted(places.train.glob(f"{language}.tsv*"))
    if not found:
        raise FileNotFoundError(f"{places.train}: holds no {language}.tsv or {language}.tsv.zst")
    tagged: dict[str, Any] = {} if tags is None else {"tags": tags, "tag_column": 2}
    return Tsv(found[0], "en", language, columns=(0, 1), **tagged)


def _raw_pairs(text: Text, places: Places, language: str) -> Iterator[RawPair]:
    return itertools.islice(_reader(places, language, text.tags), text.limit(language))


def _write(file: Path, pairs: Iterator[tuple[str, str]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as path, path.open("w", encoding="utf-8", newline="\n") as output:
        output.writelines(f"{first}\t{second}\n" for first, second in pairs)
