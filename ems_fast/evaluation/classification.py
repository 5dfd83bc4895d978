"""Zero-shot classification: learn a task on one language's vectors, test on the others'."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

import torch
from torch import Tensor
from tqdm import tqdm

from ems_fast.encoding.protocol import Encodes, encode_sentences
from ems_fast.errors import InputError, check, check_one_of
from ems_fast.evaluation import folders
from ems_fast.evaluation.folders import SPLITS, Split
from ems_fast.evaluation.probe import HIDDEN, Probes
from ems_fast.evaluation.results import Results, Row, percent
from ems_fast.text.languages import normalize_language

EXPECTED = "deu_Latn/train.tsv, dev.tsv and test.tsv with columns 'category' and 'text'"
_LANGUAGE_FOLDER = re.compile(r"[a-z]{2,3}(_[A-Z][a-z]{3})?\Z")


@dataclass(frozen=True)
class ClassificationRow(Row):
    """The result on one language, or the average over a collection's.

    Attributes:
        name: of the collection, such as ``sib200``.
        language: of the test sentences; empty in an average.
        n: number of test sentences.
        accuracies: from 0 to 1, one for each repetition of the training.
    """

    language: str
    n: int
    accuracies: tuple[float, ...]

    @property
    def accuracy(self) -> float:
        """The mean over the repetitions."""
        return fmean(self.accuracies)

    @property
    def spread(self) -> float:
        """The sample standard deviation over the repetitions; 0 if there is only one."""
        return stdev(self.accuracies) if len(self.accuracies) > 1 else 0.0


@dataclass(frozen=True)
class ClassificationEvaluation(Results[ClassificationRow]):
    """Results of `evaluate_classification`; averages leave out the language trained on.

    Attributes:
        rows: one for each language, the one trained on included.
        source_language: what the classifier was trained on.
        seed: of the first repetition.
        epochs: passes over the training sentences.
        split: what was tested on.
    """

    source_language: str
    seed: int
    epochs: int
    split: Split

    @property
    def mean(self) -> float:
        """The mean accuracy over the languages that were not trained on."""
        return fmean(row.accuracy for row in self._averaged() or self.rows)

    def _averaged(self) -> list[ClassificationRow]:
        return [row for row in self.rows if row.language != self.source_language]

    def _header(self) -> tuple[str, ...]:
        return ("set", "trained-tested", "sentences", "accuracy %", "spread %")

    def _cells(self, row: ClassificationRow) -> tuple[str, ...]:
        tested = f"{self.source_language}-{row.language}" if row.language else "zero-shot average"
        return (row.name, tested, str(row.n), percent(row.accuracy), percent(row.spread))


def evaluate_classification(
    encoder: Encodes,
    folder: str | Path,
    *,
    source_language: str = "en",
    languages: Iterable[str] | None = None,
    split: Split = "test",
    seed: int = 0,
    repeats: int = 5,
    epochs: int = 100,
    progress: bool = False,
) -> ClassificationEvaluation:
    """Train a small classifier on frozen vectors of one language, and test it on all.

    LASER's recipe (Artetxe & Schwenk, 2019): hidden layers of 10 and 8 units, tanh, dropout 0.2
    before each layer, Adam with learning rate 0.001, batches of 12; the epoch that is best on the
    source language's ``dev.tsv`` counts. Vectors are taken as they are, not normalised. The same
    seed gives the same result.

    Args:
        encoder: encodes every sentence.
        folder: holds, itself or further down, collections with a folder for each language, as
            SIB-200 has them: ``<xxx>_<Script>/{train,dev,test}.tsv``, UTF-8, with a header that
            names the columns ``category`` and ``text``.
        source_language: the classifier is trained on it, in any form that `normalize_language`
            takes.
        languages: test only on these, and on `source_language`; None tests on all.
        split: what to test on; ``dev`` while choosing between models.
        seed: for the initial weights, the order and the dropout of the first repetition; the
            others count up from it.
        repeats: trainings with different seeds.
        epochs: passes over the training sentences.
        progress: show bars on the standard error stream.

    Raises:
        InputError: no collection is found, a language or a file is missing, a file is not of that
            form, or a category does not occur in the training sentences; an option out of range.
    """
    check_one_of("split", split, SPLITS)
    for name, value, least in (("repeats", repeats, 1), ("epochs", epochs, 1), ("seed", seed, 0)):
        check(value >= least, name, value, f"at least {least}")
    collections = find_collections(Path(folder))
    if not collections:
        raise InputError(f"{folder}: holds no classification set, expected {EXPECTED}")
    source, asked = normalize_language(source_language), folders.chosen_languages(languages)
    rows = []
    for collection in collections:
        chosen = _choose(collection, source, asked)
        train = _read(chosen[source] / "train.tsv")
        classes = sorted({category for _, category in train})
        dev = _read(chosen[source] / "dev.tsv", classes)
        tests = {label: _read(path / f"{split}.tsv", classes) for label, path in chosen.items()}
        x, y = _encode(encoder, train, classes)
        probes = Probes((x.shape[1], *HIDDEN, len(classes)), range(seed, seed + repeats))
        probes.fit((x, y), _encode(encoder, dev, classes), epochs, progress=progress)
        name = collection.resolve().name
        for label, test in tqdm(
            tests.items(), desc=collection.name, unit="language", disable=not progress
        ):
            accuracies = probes.accuracy(*_encode(encoder, test, classes))
            rows.append(ClassificationRow(name, label, len(test), tuple(accuracies.tolist())))
    return ClassificationEvaluation(tuple(rows), source, seed, epochs, split)


def find_collections(path: Path) -> list[Path]:
    """The folders at or under `path` that hold a folder with a ``train.tsv`` a language."""
    return [
        folder
        for folder in folders.subfolders(path)
        if any(_LANGUAGE_FOLDER.match(f.parent.name) for f in folder.glob("*/train.tsv"))
    ]


def _choose(collection: Path, source: str, languages: Sequence[str] | None) -> dict[str, Path]:
    """The folders of the chosen languages and of `source`, by language."""
    paths = folders.label_languages(
        {
            folder.name: folder
            for folder in sorted(collection.iterdir())
            if folder.is_dir() and _LANGUAGE_FOLDER.match(folder.name)
        }
    )
    if source not in paths:
        there = ", ".join(paths)
        raise InputError(f"source_language: {collection} has no {source}; it has {there}")
    others = [label for label in paths if label != source]
    wanted = None if languages is None else sorted({*languages} - {source})
    if wanted:
        where = f"{collection} has none of"
        others = folders.keep_languages(others, lambda label: [label], wanted, where=where)
    chosen = [source] if wanted == [] else [source, *others]
    return {label: path for label, path in paths.items() if label in chosen}


def _read(file: Path, classes: Sequence[str] | None = None) -> list[tuple[str, str]]:
    """Texts and categories of a TSV file whose header names both; None allows any category."""
    header, *rows = (line.split("\t") for line in folders.read_lines(file))
    if not {"category", "text"} <= {*header}:
        raise InputError(
            f"{file}:1: has the columns {', '.join(header)}, expected 'category' and 'text' "
            f"among them"
        )
    if not rows:
        raise InputError(f"{file}: has no sentence, expected at least one below the header")
    examples = []
    for line, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise InputError(f"{file}:{line}: has {len(row)} columns, expected {len(header)}")
        text, category = row[header.index("text")], row[header.index("category")]
        if classes is not None and category not in classes:
            raise InputError(
                f"{file}:{line}: category {category!r} is not among those of the training "
                f"sentences, {', '.join(classes)}"
            )
        examples.append((text, category))
    return examples


def _encode(
    encoder: Encodes, examples: Sequence[tuple[str, str]], classes: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """Vectors float32 (n, D) and classes int64 (n,)."""
    texts, categories = zip(*examples, strict=True)
    vectors = encode_sentences(encoder, "text", texts)
    return torch.from_numpy(vectors), torch.tensor([classes.index(c) for c in categories])
