"""What a run's report shows beside its curves: measured once, kept beside the run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ems_fast.corpus import BinaryCorpus
from ems_fast.encoding.encoder import SentenceEncoder
from ems_fast.evaluation import EvalSet
from ems_fast.files.atomic import write_text
from ems_fast.reporting.matrix import Matrix, Mistake, measure
from ems_fast.reporting.meanings import pools
from ems_fast.reporting.sentence_map import SentenceMap, draw_map
from ems_fast.reporting.text_facts import TextFacts

FORMAT = 1
# Sentences that are encoded for a report: a second or two, of either kind of model.
_TABLE_SENTENCES, _LAYERS_SENTENCES = 10_000, 2_000
_PAIRS = 500  # of a set, at most


@dataclass(frozen=True)
class Findings:
    """What was found with a run's model and its text.

    Attributes:
        step: of the weights; None where it is not known.
        text_name: what the sentences are called: ``held-out``, or the name of an evaluation set.
        sentences: how many there were.
        matrix, map, mistakes: None or empty without sentences.
        missing: of what is not there, the reason: by ``sentences`` or ``text``.
        text: what the training text was like.
        digests: SHA-256 of files, by name.
    """

    step: int | None = None
    text_name: str = ""
    sentences: int = 0
    matrix: Matrix | None = None
    map: SentenceMap | None = None
    mistakes: dict[str, list[Mistake]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    text: TextFacts | None = None
    digests: dict[str, str] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write JSON, which `read` takes."""
        write_text(path, json.dumps({"format": FORMAT, **asdict(self)}, ensure_ascii=False))

    @classmethod
    def read(cls, path: Path) -> Findings | None:
        """What `write` wrote, or None where there is none that can be read."""
        try:
            data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if data.pop("format") != FORMAT:
                return None
            matrix, points, text = (data.pop(name) for name in ("matrix", "map", "text"))
            mistakes = data.pop("mistakes")
            return cls(
                matrix=None if matrix is None else Matrix(**matrix),
                map=None if points is None else SentenceMap(**points),
                text=None if text is None else TextFacts(**text),
                mistakes={k: [Mistake(**one) for one in found] for k, found in mistakes.items()},
                **data,
            )
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None


def find(
    encoder: SentenceEncoder | None,
    sets: Sequence[EvalSet],
    corpus: BinaryCorpus | None,
    *,
    step: int | None = None,
    digests: dict[str, str] | None = None,
    missing: dict[str, str] | None = None,
) -> Findings:
    """Measure what a report shows.

    Args:
        encoder: of the run; None if it has no weights yet.
        sets: of one collection or more, of which the first is shown.
        corpus: the run's, if it is still there.
        step: of the weights.
        digests: of the run's files.
        missing: why an encoder or a corpus is missing.
    """
    missing = dict(missing or {})
    text = None if corpus is None else TextFacts.of(corpus)
    common = Findings(step=step, text=text, digests=digests or {}, missing=missing)
    if encoder is None:
        return common
    name = sets[0].name if sets else ""
    shown = [one for one in sets if one.name == name and one.source_lang != one.target_lang]
    if not shown:
        missing.setdefault("sentences", "there are no held-out pairs of two languages")
        return common
    sides = 2 * len(shown)
    budget = _TABLE_SENTENCES if encoder.config.is_table else _LAYERS_SENTENCES
    found = pools(encoder, shown, min(_PAIRS, budget // sides + 1))
    links = {(one.source_lang, one.target_lang): None for one in shown}
    matrix, mistakes = measure(found, list(links))
    return Findings(
        step, name, sum(len(pool.texts) for pool in found), matrix, draw_map(found), mistakes,
        missing, text, common.digests,
    )  # fmt: skip
