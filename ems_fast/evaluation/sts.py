"""Semantic textual similarity: do cosines rank pairs of sentences as people do?"""

from __future__ import annotations

import csv
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from ems_fast.encoding.protocol import Encodes, encode_sentences
from ems_fast.errors import InputError, check_one_of
from ems_fast.evaluation import folders
from ems_fast.evaluation.folders import SPLITS, Split
from ems_fast.evaluation.results import Results, Row, percent
from ems_fast.mining.pairs import pair_cosines

EXPECTED = "stsb-de-dev.csv and stsb-de-test.csv with columns sentence, sentence, score"
_FILE = re.compile(r"(?P<name>.+)-(?P<code>[a-z]{2,3})-(?P<split>dev|test)\.csv\Z")


@dataclass(frozen=True)
class StsRow(Row):
    """The result on one language, or the average over a collection's.

    Attributes:
        name: of the collection, such as ``stsb``.
        language: of the sentences; empty in an average.
        n: number of pairs.
        spearman: rank correlation of cosines and given scores, from -1 to 1.
    """

    language: str
    n: int
    spearman: float


@dataclass(frozen=True)
class StsEvaluation(Results[StsRow]):
    """Results of `evaluate_sts`.

    Attributes:
        rows: one for each language.
        split: what was tested on.
    """

    split: Split

    @property
    def mean(self) -> float:
        """The mean correlation over all rows, each counted once."""
        return fmean(row.spearman for row in self.rows)

    def _header(self) -> tuple[str, ...]:
        return ("set", "language", "pairs", "Spearman x 100")

    def _cells(self, row: StsRow) -> tuple[str, ...]:
        return (row.name, row.language or "average", str(row.n), percent(row.spearman))


def evaluate_sts(
    encoder: Encodes,
    folder: str | Path,
    *,
    languages: Iterable[str] | None = None,
    split: Split = "test",
    progress: bool = False,
) -> StsEvaluation:
    """Correlate the cosines of sentence pairs with similarities that people gave.

    The options are those of `evaluate_classification`.

    Args:
        folder: holds, itself or further down, files such as ``stsb-de-test.csv``: UTF-8, three
            columns (sentence, sentence, score) without a header.

    Raises:
        InputError: no file is found or left, or a file is not of that form; an unknown split.
    """
    check_one_of("split", split, SPLITS)
    found = find_files(Path(folder), split)
    if not found:
        raise InputError(f"{folder}: holds no {split} set of similarities, expected {EXPECTED}")
    files = folders.keep_languages(
        found, lambda entry: [entry[1]], languages, where=f"{folder} has no similarities for"
    )
    rows = []
    with tqdm(files, desc="similarity", unit="language", disable=not progress) as bar:
        for name, language, file in bar:
            first, second, scores = zip(*_read(file), strict=True)
            cosines = pair_cosines(
                encode_sentences(encoder, str(file), first),
                encode_sentences(encoder, str(file), second),
            )
            rows.append(StsRow(name, language, len(scores), spearman(cosines, scores)))
    return StsEvaluation(tuple(rows), split)


def find_files(path: Path, split: Split) -> list[tuple[str, str, Path]]:
    """Collection, language and file of the similarities at or under a folder."""
    found: dict[tuple[Path, str], dict[str, Path]] = defaultdict(dict)
    for folder in folders.subfolders(path):
        for file in sorted(folder.glob(f"*-{split}.csv")):
            if match := _FILE.match(file.name):
                found[folder, match["name"]][match["code"]] = file
    return [
        (name, label, file)
        for (_, name), files in found.items()
        for label, file in folders.label_languages(files).items()
    ]


def spearman(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Spearman's rank correlation of n numbers: Pearson's of the ranks, ties sharing the average.

    A side that is constant orders nothing; the correlation is then 0.

    Raises:
        InputError: sides that are empty, not finite, or of different length.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape or len(x) == 0:
        raise InputError(f"a and b: have shapes {x.shape} and {y.shape}, expected [n] twice")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InputError("a and b: hold NaN or infinity, expected finite numbers")
    x, y = _ranks(x), _ranks(y)
    x, y = x - x.mean(), y - y.mean()
    norm = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / norm if norm else 0.0


def _ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Ranks from 0, equal values sharing the mean of theirs."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: npt.NDArray[np.float64] = (last - (counts + 1) / 2)[which]
    return ranks


def _read(file: Path) -> Iterator[tuple[str, str, float]]:
    reader = csv.reader(folders.read_lines(file), strict=True)
    try:
        for row in reader:
            if len(row) != 3:
                raise InputError(
                    f"{file}:{reader.line_num}: has {len(row)} columns, expected sentence, "
                    f"sentence and score"
                )
            try:
                score = float(row[2])
            except ValueError:
                score = math.nan
            if not math.isfinite(score):
                raise InputError(
                    f"{file}:{reader.line_num}: score {row[2]!r} is not a finite number; "
                    f"the file has no header"
                )
            yield row[0], row[1], score
    except csv.Error as error:
        raise InputError(f"{file}:{reader.line_num}: is not CSV ({error})") from error
