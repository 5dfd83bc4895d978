"""What a model grows on: monolingual lines, seed pairs, and the held-out pairs it is judged by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from ems_fast.corpus.cleaning import MAX_CHARACTERS, reason_to_drop, tidy
from ems_fast.corpus.hashing import mix, sentence_hash, text_key
from ems_fast.corpus.readers import Reader, Tsv
from ems_fast.errors import InputError
from ems_fast.files.atomic import replacing
from ems_fast.files.staging import staged_folder
from ems_fast.files.streams import check_file, read_lines
from ems_fast.text.languages import canonical_order, check_pair, parse_pair

Languages: TypeAlias = tuple[str, str]
Pairs: TypeAlias = list[tuple[str, str]]
Texts: TypeAlias = Mapping[str, tuple[str | Path, str | Path]]
"""Two files of lines for each language pair: ``{"en-de": ("english.txt", "german.txt")}``."""

# Neighbours that a margin is taken over: fewer different lines cannot be mined.
NEIGHBORS = 4
# Held-out pairs of a language pair, at least: fewer would decide by chance.
FEWEST = 20
# Of the seed pairs of a language pair, at most this share is held out.
_MAX_SHARE = 0.2
_PARTS = ("decide", "test", "seed")


def open_texts(texts: Texts) -> dict[Languages, tuple[Path, Path]]:
    """The files by languages, English first, each checked to be a file with different lines.

    Raises:
        InputError: no files, a file that is missing, empty, no text or nearly blank, one side
            missing, the same file on both sides, a key that is no language pair or is there twice.
    """
    if not isinstance(texts, Mapping) or not texts:
        raise InputError(
            f"texts: got {texts!r}, expected two files for each language pair, such as "
            "{'en-de': ('english.txt', 'german.txt')}"
        )
    found: dict[Languages, tuple[Path, Path]] = {}
    for key, files in texts.items():
        pair = parse_pair(key) if isinstance(key, str) else None
        if pair is None:
            raise InputError(f"texts: got {key!r}, expected a language pair such as 'en-de'")
        source, target = check_pair(*pair, f"texts: {key}")
        if isinstance(files, str | Path) or len(files) != 2:
            raise InputError(
                f"texts: {key} has {files!r}, expected two files of lines, one a language"
            )
        paths = Path(files[0]), Path(files[1])
        if paths[0].resolve() == paths[1].resolve():
            raise InputError(f"texts: {key} has {paths[0]} on both sides, expected a file a side")
        for path in paths:
            check_file(path)
            _check_lines(path)
        languages = canonical_order(source, target)
        if languages in found:
            raise InputError(f"texts: {'-'.join(languages)} is there twice; join its files")
        found[languages] = paths if languages[0] == source else (paths[1], paths[0])
    return found


def _check_lines(path: Path) -> None:
    different = set()
    for _, line in read_lines(path):
        different.add(line.strip())
        if len(different - {""}) >= NEIGHBORS:
            return
    raise InputError(
        f"{path}: has {len(different - {''})} different lines, expected at least {NEIGHBORS}"
    )


def lines_of(path: Path, without: frozenset[str]) -> list[str]:
    """The different lines of a file, tidied, but for those whose `text_key` is in `without`."""
    found: dict[str, None] = {}
    for _, line in read_lines(path):
        text = tidy(line)
        if text and len(text) <= MAX_CHARACTERS and text_key(text) not in without:
            found[text] = None
    if len(found) < NEIGHBORS:
        raise InputError(
            f"{path}: has {len(found)} different lines beside held-out text, expected at least "
            f"{NEIGHBORS}"
        )
    return list(found)


@dataclass(frozen=True)
class Held:
    """The parallel text of a language pair: pairs to decide by, to report on, and to train on."""

    decide: Pairs
    test: Pairs
    seed: Pairs

    def held_out(self) -> Iterator[tuple[str, str]]:
        """The pairs that are trained on in no round."""
        yield from self.decide
        yield from self.test


class ParallelText:
    """The folder of held-out and seed pairs, made once and read by every round."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.pairs: dict[Languages, Held] = {}
        for path in sorted(folder.glob("*.seed.tsv")):
            name = path.name.split(".")[0]
            pair = parse_pair(name)
            assert pair is not None  # the names are ours
            self.pairs[pair] = Held(*(_read(folder / f"{name}.{part}.tsv") for part in _PARTS))
        self.keys = frozenset(
            text_key(side)
            for held in self.pairs.values()
            for pair in held.held_out()
            for side in pair
        )

    def seed_readers(self) -> list[Reader]:
        """Readers of the seed pairs."""
        return [
            Tsv(self.folder / f"{'-'.join(languages)}.seed.tsv", *languages, columns=(0, 1))
            for languages, held in self.pairs.items()
            if held.seed
        ]


def prepare_text(
    folder: Path,
    languages: Iterable[Languages],
    seed: Sequence[Reader],
    held_out: Sequence[Reader] | None,
    held_out_pairs: int,
) -> ParallelText:
    """Choose the held-out pairs of `languages`, and write them and the seed pairs into `folder`.

    They come from `held_out`, or without it from the seed, at most a fifth of it. The choice
    depends on the text alone. No two of a language pair share a sentence, and no seed pair has a
    sentence that is held out of any language pair.

    Raises:
        InputError: a language pair has fewer than `FEWEST` to hold out; nothing is written then.
    """
    given = _by_languages(seed)
    judges = given if held_out is None else _by_languages(held_out)
    chosen: dict[Languages, Pairs] = {}
    for pair in languages:
        there = judges.get(pair, [])
        most = held_out_pairs if held_out is not None else int(_MAX_SHARE * len(there))
        chosen[pair] = _choose(there, min(held_out_pairs, most))
        if len(chosen[pair]) < FEWEST:
            whence = "held_out" if held_out is not None else "pairs (of which a fifth is held out)"
            raise InputError(
                f"{whence}: there are {len(chosen[pair])} of {'-'.join(pair)} to judge the "
                f"rounds by, expected at least {FEWEST}; give more pairs"
            )
    keys = {text_key(side) for pairs in chosen.values() for pair in pairs for side in pair}
    with staged_folder(folder) as staged:
        for pair in {**chosen, **given}:
            left = [p for p in given.get(pair, []) if keys.isdisjoint(map(text_key, p))]
            kept = chosen.get(pair, [])
            for part, pairs in zip(_PARTS, (kept[::2], kept[1::2], left), strict=True):
                path = staged / f"{'-'.join(pair)}.{part}.tsv"
                with replacing(path) as temporary:
                    lines = "".join(f"{source}\t{target}\n" for source, target in pairs)
                    temporary.write_text(lines, encoding="utf-8", newline="\n")
    return ParallelText(folder)


def _by_languages(readers: Sequence[Reader]) -> dict[Languages, Pairs]:
    """What is of use of the readers' pairs, each once, in canonical order."""
    found: dict[Languages, dict[tuple[str, str], tuple[str, str]]] = {}
    for reader in readers:
        for raw in reader:
            texts = tidy(raw.source), tidy(raw.target)
            keys = text_key(texts[0]), text_key(texts[1])
            if reason_to_drop(*texts, *keys) is not None:
                continue
            languages = canonical_order(raw.source_lang, raw.target_lang)
            if languages[0] != raw.source_lang:
                texts, keys = texts[::-1], keys[::-1]
            found.setdefault(languages, {}).setdefault(keys, texts)
    return {languages: list(pairs.values()) for languages, pairs in found.items()}


def _choose(pairs: Pairs, wanted: int) -> Pairs:
    """Up to `wanted` pairs without a common sentence, by the hashes of their sources.

    So language pairs with the same English text hold out the same of it.
    """
    hashes = np.array([sentence_hash(source) for source, _ in pairs], dtype=np.int64)
    chosen: Pairs = []
    taken: set[str] = set()
    for row in np.argsort(mix(hashes), kind="stable").tolist():
        if len(chosen) == wanted:
            break
        keys = set(map(text_key, pairs[row]))
        if taken.isdisjoint(keys):
            taken |= keys
            chosen.append(pairs[row])
    return chosen


def _read(path: Path) -> Pairs:
    rows = (line.split("\t") for _, line in read_lines(path))
    return [(source, target) for source, target in rows]
