"""Evaluation of an encoder on many sets: one row a set, as table, Markdown and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from statistics import fmean

from tqdm import tqdm

from ems_fast.encoding.protocol import Encodes, check_translations, encode_sentences, text_ids
from ems_fast.errors import InputError, check_one_of
from ems_fast.evaluation.bitext import cross_fitted_f1
from ems_fast.evaluation.results import Results, Row, percent
from ems_fast.evaluation.retrieval import retrieval_from_vectors
from ems_fast.evaluation.sets import EvalSet
from ems_fast.mining.margin import MARGINS, Margin

# The figures of a retrieval that are shown, and the titles of their columns.
_FIGURES = {
    "forward": "forward %",
    "backward": "backward %",
    "mean": "mean %",
    "xsim_error": "xsim error %",
    "xsim_error_back": "xsim error back %",
}


@dataclass(frozen=True)
class EvaluationRow(Row):
    """The result on one set, or the average over a collection's sets.

    Attributes:
        name: of the collection.
        source_lang, target_lang: of the set; empty in an average.
        n, forward, backward, mean, xsim_error, xsim_error_back: as in `RetrievalResult`.
        bitext_f1: F1 of mining as `cross_fitted_f1` defines it, from 0 to 1; None if not asked for.
    """

    source_lang: str
    target_lang: str
    n: int
    forward: float
    backward: float
    mean: float
    xsim_error: float
    xsim_error_back: float
    bitext_f1: float | None = None


@dataclass(frozen=True)
class Evaluation(Results[EvaluationRow]):
    """Results of `evaluate`.

    Attributes:
        rows: one for each set, in the order of the sets.
        margin: what xsim ranked by.
        k: the neighbourhood that xsim asked for.
    """

    margin: Margin = "ratio"
    k: int = 4

    @property
    def mean(self) -> float:
        """The mean accuracy over all sets, each counted once."""
        return fmean(row.mean for row in self.rows)

    def _header(self) -> tuple[str, ...]:
        mined = any(row.bitext_f1 is not None for row in self.rows)
        return ("set", "languages", "pairs", *_FIGURES.values(), *["mining F1 %"] * mined)

    def _cells(self, row: EvaluationRow) -> tuple[str, ...]:
        languages = f"{row.source_lang}-{row.target_lang}" if row.source_lang else "average"
        figures = [percent(getattr(row, figure)) for figure in _FIGURES]
        f1 = "" if row.bitext_f1 is None else percent(row.bitext_f1)
        return (row.name, languages, str(row.n), *figures, f1)[: len(self._header())]


def evaluate(
    encoder: Encodes,
    eval_sets: Sequence[EvalSet],
    *,
    margin: Margin = "ratio",
    k: int = 4,
    bitext: bool = False,
    progress: bool = False,
) -> Evaluation:
    """Measure translation retrieval on each set, as `evaluate_retrieval` defines it.

    Args:
        encoder: encodes every sentence; a side that sets in a row share is encoded once.
        eval_sets: for example from `read_eval_sets`.
        margin: how xsim and mining rank candidates: ``ratio``, ``distance`` or ``absolute``.
        k: neighbourhood of xsim and mining.
        bitext: also hide a fifth of the pairs among distractors and mine them.
        progress: show a bar on the standard error stream.

    Raises:
        InputError: no sets, or a set whose sides are empty or of different length.
    """
    if not eval_sets:
        raise InputError("eval_sets: got none, expected at least one evaluation set")
    check_one_of("margin", margin, MARGINS)
    for s in eval_sets:
        names = f"{s.name} {s.source_lang}", f"{s.name} {s.target_lang}"
        check_translations(names[0], s.source, names[1], s.target)
    # Two sides are enough to remember: sets that share one come in a row.
    encode = lru_cache(maxsize=2)(partial(encode_sentences, encoder, "sentences"))
    rows = []
    with tqdm(eval_sets, desc="evaluate", unit="set", disable=not progress) as bar:
        for eval_set in bar:
            languages = eval_set.source_lang, eval_set.target_lang
            bar.set_postfix_str(f"{eval_set.name} {'-'.join(languages)}")
            sides = eval_set.source, eval_set.target
            vectors = encode(sides[0]), encode(sides[1])
            source_ids, target_ids = map(text_ids, sides)
            found = retrieval_from_vectors(
                *vectors, margin=margin, k=k, source_ids=source_ids, target_ids=target_ids
            )
            f1 = cross_fitted_f1(*sides, vectors, k=k, margin=margin) if bitext else None
            figures = {figure: getattr(found, figure) for figure in ("n", *_FIGURES)}
            rows.append(EvaluationRow(eval_set.name, *languages, bitext_f1=f1, **figures))
    return Evaluation(rows=tuple(rows), margin=margin, k=k)
