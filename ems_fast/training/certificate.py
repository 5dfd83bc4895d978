"""What a model that was made from another one keeps of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from ems_fast.encoding.encoder import SentenceEncoder
from ems_fast.encoding.protocol import text_ids
from ems_fast.evaluation import EvalSet, retrieval_from_vectors
from ems_fast.mining.exact import nearest
from ems_fast.text.table import aligned


@dataclass(frozen=True)
class Kept:
    """One language pair.

    Attributes:
        set: where the sentences are from.
        languages: ``en-de``; the second one's sentences are the queries.
        sentences: how many.
        old: both languages are the earlier model's.
        neighbours: the share of queries for which the new model finds, in an index of the earlier
            model's vectors of the first language, what the earlier model finds in it.
        before: the earlier model's retrieval accuracy, the mean of both directions.
        after: the new one's.
    """

    set: str
    languages: str
    sentences: int
    old: bool
    neighbours: float
    before: float
    after: float


@dataclass(frozen=True)
class Certificate:
    """What an extended model keeps of the one before, and what it learnt.

    Attributes:
        model: the earlier model.
        keep: how much it was told to keep.
        rows: of every set of held-out or evaluation sentences.
    """

    model: str
    keep: float
    rows: tuple[Kept, ...]

    def mean(self, field: str, *, old: bool = True) -> float | None:
        """The mean of a field of `Kept` over the old or the new languages; None without any."""
        values = [getattr(row, field) for row in self.rows if row.old == old]
        return float(np.mean(values)) if values else None

    def to_table(self) -> str:
        """A table for a terminal."""
        head = ["set", "languages", "", "neighbours kept, %", "before, %", "after, %"]
        rows = [
            [row.set, row.languages, "old" if row.old else "new"]
            + [f"{100 * value:.1f}" for value in (row.neighbours, row.before, row.after)]
            for row in self.rows
        ]
        return aligned([[head], rows], labels=3)

    def as_dict(self) -> dict[str, object]:
        """For a line of ``metrics.jsonl``."""
        return asdict(self)


def certify(
    before: SentenceEncoder,
    after: SentenceEncoder,
    sets: Sequence[EvalSet],
    *,
    name: str,
    keep: float,
    old: Collection[str],
) -> Certificate:
    """Compare two models on `sets`; `old` are the languages of the first."""
    rows = []
    for one in sets:
        items, queries = before.encode(one.source), before.encode(one.target)
        new_items, new_queries = after.encode(one.source), after.encode(one.target)
        same = nearest(queries, items, 1).indices == nearest(new_queries, items, 1).indices
        source_ids, target_ids = text_ids(one.source), text_ids(one.target)
        accuracy = [
            retrieval_from_vectors(each, other, source_ids=source_ids, target_ids=target_ids).mean
            for each, other in ((items, queries), (new_items, new_queries))
        ]
        rows.append(
            Kept(
                one.name, f"{one.source_lang}-{one.target_lang}", len(one),
                one.source_lang in old and one.target_lang in old,
                float(np.mean(same)), *accuracy,
            )
        )  # fmt: skip
    return Certificate(name, keep, tuple(rows))
