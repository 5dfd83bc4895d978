"""Every language asked for the translations of every other, and the worst of the mistakes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ems_fast.evaluation.retrieval import TIE_TOLERANCE
from ems_fast.reporting.meanings import Pool, shown

CANDIDATES = 500  # of a language, among which a translation is looked for
FEWEST = 10  # queries, below which a share says nothing
_MOST_QUERIES = 200  # of a language, asked for each other
_ALL_QUERIES = 100_000  # of all cells together: about a second of products
MISTAKES = 5  # of a language, that are shown


@dataclass(frozen=True)
class Matrix:
    """Retrieval between L languages.

    Attributes:
        languages: L codes; those that are found best come first.
        accuracy: [L][L], from the row's language to the column's, the share of sentences whose
            nearest among the candidates is a translation, ties counted by their share; None
            where fewer than `FEWEST` translations are known.
        queries: [L][L], how many were asked.
        candidates: most sentences of a column's language that are looked among.
    """

    languages: list[str]
    accuracy: list[list[float | None]]
    queries: list[list[int]]
    candidates: int = CANDIDATES

    def cells(self) -> Iterator[tuple[float, str, str]]:
        """Accuracy, from, to: of each cell that has one."""
        for source, row in zip(self.languages, self.accuracy, strict=True):
            for target, value in zip(self.languages, row, strict=True):
                if value is not None:
                    yield value, source, target

    def means(self) -> dict[str, float]:
        """The mean of each language's cells, from it and to it; none for one without cells."""
        found = defaultdict(list)
        for value, *languages in self.cells():
            for language in languages:
                found[language].append(value)
        return {code: sum(found[code]) / len(found[code]) for code in self.languages if found[code]}


@dataclass(frozen=True)
class Mistake:
    """A sentence whose nearest was none of its translations.

    Attributes:
        source, target: languages of the query and of what was looked among.
        query, taken, right: the sentence, what was found instead, and its translation.
        taken_cosine, right_cosine: of the query to those.
    """

    source: str
    target: str
    query: str
    taken: str
    right: str
    taken_cosine: float
    right_cosine: float

    @property
    def gap(self) -> float:
        """By how much the wrong one was nearer."""
        return self.taken_cosine - self.right_cosine


def measure(
    found: Sequence[Pool], links: Collection[tuple[str, str]]
) -> tuple[Matrix, dict[str, list[Mistake]]]:
    """The matrix, and the worst mistakes by language: those between languages of a set.

    Args:
        found: at least two languages.
        links: the pairs of languages that have sets; a language's mistakes are those with the one
            that it has a set with, in both directions.
    """
    size = len(found)
    most = max(FEWEST, min(_MOST_QUERIES, _ALL_QUERIES // size**2))
    accuracy: list[list[float | None]] = [[None] * size for _ in found]
    queries = [[0] * size for _ in found]
    hub = pivot(links)
    mistakes: dict[str, list[Mistake]] = defaultdict(list)
    for row, source in enumerate(found):
        for column, target in enumerate(found):
            linked = bool({(source.language, target.language), (target.language, source.language)}
                          & set(links))  # fmt: skip
            if row == column:
                continue
            share, asked, wrong = _ask(source, target, most, linked)
            queries[row][column] = asked
            accuracy[row][column] = share if asked >= FEWEST else None
            for mistake in wrong:
                name = target.language if source.language == hub else source.language
                mistakes[name].append(mistake)
    codes = [pool.language for pool in found]
    means = Matrix(codes, accuracy, queries).means()
    order = sorted(range(size), key=lambda at: (-means.get(codes[at], -1.0), codes[at]))
    matrix = Matrix(
        [codes[at] for at in order],
        [[accuracy[row][column] for column in order] for row in order],
        [[queries[row][column] for column in order] for row in order],
    )
    worst = {
        name: sorted(mistakes[name], key=lambda one: -one.gap)[:MISTAKES]
        for name in matrix.languages
        if mistakes[name]
    }
    return matrix, worst


def pivot(links: Collection[tuple[str, str]]) -> str | None:
    """The one language that every pair has, if there is one; of a single pair, the first."""
    common = set.intersection(*(set(link) for link in links)) if links else set()
    first = next(iter(links), ("", ""))
    return next((code for code in first if code in common), None)


def _ask(source: Pool, target: Pool, most: int, note: bool) -> tuple[float, int, list[Mistake]]:
    """The share that is found, of how many, and what was taken wrongly if that is to be noted."""
    asking = np.flatnonzero(np.isin(source.meanings, target.meanings))[:most]
    if not len(asking):
        return 0.0, 0, []
    wanted = source.meanings[asking]
    # The right ones, filled up: every cell has as many candidates, however many are known.
    is_right = np.isin(target.meanings, wanted)
    among = np.concatenate([np.flatnonzero(is_right), np.flatnonzero(~is_right)])
    among = among[: max(CANDIDATES, int(is_right.sum()))]
    cosines = source.vectors[asking] @ target.vectors[among].T  # (queries, candidates)
    right = wanted[:, None] == target.meanings[among]
    tied = cosines >= cosines.max(axis=1, keepdims=True) - TIE_TOLERANCE
    shares = (tied & right).sum(axis=1) / tied.sum(axis=1)
    mistakes = list(_mistakes(source, target, asking, among, cosines, right)) if note else []
    return float(shares.mean()), len(asking), mistakes


def _mistakes(
    source: Pool,
    target: Pool,
    asking: npt.NDArray[np.int64],
    among: npt.NDArray[np.int64],
    cosines: npt.NDArray[np.float32],
    right: npt.NDArray[np.bool_],
) -> Iterator[Mistake]:
    best = np.where(right, cosines, -np.inf).argmax(axis=1)
    taken = np.where(right, -np.inf, cosines).argmax(axis=1)
    rows = np.arange(len(asking))
    gaps = cosines[rows, taken] - cosines[rows, best]
    for row in np.argsort(-gaps, kind="stable")[:MISTAKES].tolist():
        if gaps[row] <= TIE_TOLERANCE or right[row].all():
            return
        yield Mistake(
            source.language,
            target.language,
            shown(source.texts[asking[row]]),
            shown(target.texts[among[taken[row]]]),
            shown(target.texts[among[best[row]]]),
            float(cosines[row, taken[row]]),
            float(cosines[row, best[row]]),
        )
