"""Targets: readers of parallel text, and folders of evaluation sets."""

from __future__ import annotations

import contextlib
import gzip
import io
import itertools
import json
import lzma
import random
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import zstandard

from ems_fast.corpus.cleaning import reason_to_drop, tidy
from ems_fast.corpus.hashing import key_digest, text_key
from ems_fast.corpus.readers import open_corpora
from ems_fast.evaluation.classification import _read as read_examples
from ems_fast.evaluation.sets import read_eval_sets
from ems_fast.evaluation.sts import evaluate_sts
from fuzzing.mutation import mutate, mutate_tree
from fuzzing.target import Attempt, Files, Make, Target

_MOST_PAIRS = 2000
_TSV = "Good morning!\tGuten Morgen!\nThank you.\tDanke.\n\nHow are you?\tWie geht's?\n"
_TAGGED = "de-en\ttag\tHallo Welt.\tHello world.\nde-fr\ttag\tGut so.\tC'est bien.\n"
_CSV = 'en,de\n"Good, morning","Guten ""Morgen"""\nyes,ja\n"two\nlines","zwei\nZeilen"\n'
_JSONL = (
    '{"translation": {"en": "Hello", "de": "Hallo"}, "id": 7}\n'
    '{"translation": {"en": "\\u00e9 \\ud83d\\ude00", "de": null}}\n'
)
_PO = (
    'msgid ""\nmsgstr ""\n"Language: de\\n"\n"Content-Type: text/plain; charset=UTF-8\\n"\n\n'
    '#, fuzzy\nmsgid "Fuzzy"\nmsgstr "Unscharf"\n\n#: a.c:1\nmsgctxt "menu"\nmsgid "&File\\x41"\n'
    'msgstr "&Datei"\n\nmsgid "%d day"\nmsgid_plural "%d days"\nmsgstr[0] "%d Tag"\n'
    'msgstr[1] "%d Tage"\n'
)
_TMX = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<tmx version="1.4"><header srclang="en"/><body>\n'
    '<tu><tuv xml:lang="en-US"><seg>Hello <bpt i="1">x</bpt>you</seg></tuv><tuv xml:lang="de">'
    "<seg>Hallo &amp; du</seg></tuv></tu>\n</body></tmx>\n"
)
_XLIFF = (
    '<?xml version="1.0"?><xliff version="1.2"><file source-language="en" target-language="de">'
    '<body><trans-unit id="1"><source>Open <ph>x</ph></source><target>Auf</target><alt-trans>'
    "<source>a</source><target>b</target></alt-trans></trans-unit></body></file></xliff>"
)
_XLIFF2 = (
    '<xliff version="2.0" srcLang="en" trgLang="de" xmlns="urn:oasis:names:tc:xliff:document:2.0">'
    '<file id="f"><unit id="u"><segment state="final"><source>One</source><target>Eins</target>'
    "</segment></unit></file></xliff>"
)
_LINES = {"x.en": b"one\ntwo\nthree\n", "x.de": b"eins\nzwei\ndrei\n"}


def _mo() -> bytes:
    """A compiled catalogue, as msgfmt lays one out."""
    entries = [
        (b"", b"Language: de\nContent-Type: text/plain; charset=UTF-8\n"),
        (b"day\0days", b"Tag\0Tage"),
        (b"menu\x04Open", b"\xc3\x96ffnen"),
    ]
    head = 28 + 16 * len(entries)
    tables: list[bytes] = []
    text = b""
    for side in (0, 1):
        for entry in entries:
            tables.append(
                len(entry[side]).to_bytes(4, "little") + (head + len(text)).to_bytes(4, "little")
            )
            text += entry[side] + b"\0"
    numbers = (0x950412DE, 0, len(entries), 28, 28 + 8 * len(entries), 0, head)
    return b"".join(n.to_bytes(4, "little") for n in numbers) + b"".join(tables) + text


def _zip(method: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in {**_LINES, "README": b"a corpus"}.items():
            archive.writestr(name, data * 5)
    return buffer.getvalue()


def _parquet() -> bytes:
    import pyarrow
    from pyarrow import parquet

    buffer = io.BytesIO()
    table = pyarrow.table({"en": ["one", None, "three"], "de": ["eins", "zwei", "drei"]})
    parquet.write_table(table, buffer)
    return buffer.getvalue()


def read(path: Path) -> None:
    """Every pair of a file, through what `prepare` does to each."""
    for reader in open_corpora(path):
        for pair in itertools.islice(reader, _MOST_PAIRS):
            sides = tidy(pair.source), tidy(pair.target)
            keys = text_key(sides[0]), text_key(sides[1])
            if reason_to_drop(*sides, *keys) is None:
                key_digest(keys[0])
                "\n".join(sides).encode()
            (pair.source_lang + pair.target_lang).encode()


def _of_files(content: dict[str, bytes], opened: str | None = None, folder: bool = False) -> Make:
    """A target's `make`: damages any of the files, and reads `opened`, or the one damaged."""

    def make(where: Path) -> Attempt:
        files = Files(where, content)

        def attempt(rng: random.Random) -> None:
            name = rng.choice(list(content))
            files.damage(rng, name)
            try:
                read(where if folder else where / (opened or name))
            finally:
                files.restore()

        return attempt

    return make


def _jsonl(where: Path) -> Attempt:
    """Objects that are none of those expected, and lines that are no objects."""
    files = Files(where, {"en-de.jsonl": _JSONL.encode()})
    records = [json.loads(line) for line in _JSONL.splitlines()]

    def attempt(rng: random.Random) -> None:
        lines = [*records, mutate_tree(rng, rng.choice(records))]
        rng.shuffle(lines)
        files.put("en-de.jsonl", "\n".join(map(json.dumps, lines)).encode())
        try:
            read(where / "en-de.jsonl")
        finally:
            files.restore()

    return attempt


def _compressed(where: Path) -> Attempt:
    """Damage below the compression, and damage of the compressed bytes."""
    plain = _TSV.encode() * 20
    pack = {
        "en-de.tsv.gz": lambda data: gzip.compress(data, 1, mtime=0),
        "en-de.tsv.xz": lambda data: lzma.compress(data, preset=0),
        "en-de.tsv.zst": zstandard.ZstdCompressor(level=1).compress,
    }
    files = Files(where, {name: packed(plain) for name, packed in pack.items()})

    def attempt(rng: random.Random) -> None:
        name = rng.choice(list(pack))
        if rng.random() < 0.7:
            files.damage(rng, name)
        else:
            files.put(name, pack[name](mutate(rng, plain)))
        try:
            read(where / name)
        finally:
            files.restore()

    return attempt


class _Encoder:
    """What the evaluations ask of an encoder: a vector a sentence, equal for equal ones."""

    def encode(self, sentences: Sequence[str]) -> npt.NDArray[np.float32]:
        lengths = np.array([[len(s), s.count("e"), 1] for s in sentences], np.float32)
        return lengths.reshape(-1, 3)


def _eval_sets(where: Path) -> Attempt:
    content = {
        "t/tatoeba.deu-eng.deu": b"Hallo\nDanke\n",
        "t/tatoeba.deu-eng.eng": b"Hello\nThanks\n",
        "f/deu_Latn.devtest": b"eins\nzwei\n",
        "f/eng_Latn.devtest": b"one\ntwo\n",
        "v/x.de-en.tsv": b"Hallo\tHello\nJa\tYes\n",
        "s/stsb-de-test.csv": b'Ein Mann,"Eine, Frau",1.5\neins,zwei,4.0\ndrei,drei,5\n',
        "c/eng_Latn/train.tsv": b"id\tcategory\ttext\n1\ta\tone\n2\tb\ttwo\n",
        "c/deu_Latn/test.tsv": b"id\tcategory\ttext\n1\ta\teins\n2\tb\tzwei\n",
    }
    files = Files(where, content)
    encoder = _Encoder()

    def attempt(rng: random.Random) -> None:
        name = rng.choice(list(content))
        files.damage(rng, name)
        try:
            if name[0] == "s":
                evaluate_sts(encoder, where / "s")
            elif name[0] == "c":
                read_examples(where / name)
            else:
                read_eval_sets(where / name[0])
        finally:
            files.restore()

    return attempt


def targets() -> Sequence[Target]:
    """All of them."""
    found = [
        Target("tsv", _of_files({"en-de.tsv": _TSV.encode(), "tagged.tsv": _TAGGED.encode()}), 14),
        Target("csv", _of_files({"en-de.csv": _CSV.encode()}), 12),
        Target("jsonl", _of_files({"en-de.jsonl": _JSONL.encode()}), 10),
        Target("jsonl objects", _jsonl, 6),
        Target("po", _of_files({"de.po": _PO.encode()}), 10),
        Target("mo", _of_files({"de.mo": _mo()}), 8),
        Target("tmx", _of_files({"x.tmx": _TMX.encode()}), 10),
        Target("xliff", _of_files({"x.xlf": _XLIFF.encode(), "y.xliff": _XLIFF2.encode()}), 10),
        Target("moses", _of_files(_LINES, opened="x"), 8),
        Target(
            "zip",
            _of_files({f"{m}.zip": _zip(m) for m in (0, 8, 12, 14)}),
            8,
        ),
        Target("compressed", _compressed, 8),
        Target("evaluation sets", _eval_sets, 4),
    ]
    with contextlib.suppress(ImportError):
        found.append(Target("parquet", _of_files({"x.parquet": _parquet()}), 4))
    return found
