"""Everything that folders of evaluation sets allow to measure, found by their layouts."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from ems_fast.encoding.protocol import Encodes
from ems_fast.errors import InputError
from ems_fast.evaluation import classification, sets, sts
from ems_fast.evaluation.classification import ClassificationEvaluation, evaluate_classification
from ems_fast.evaluation.folders import Split, check_split
from ems_fast.evaluation.report import Evaluation, evaluate
from ems_fast.evaluation.results import Results
from ems_fast.evaluation.sets import read_eval_sets
from ems_fast.evaluation.sts import StsEvaluation, evaluate_sts
from ems_fast.mining.margin import Margin

Task = Literal["retrieval", "classification", "sts"]
TASKS: tuple[Task, ...] = get_args(Task)
_TITLES: dict[Task, str] = {
    "retrieval": "Translation retrieval",
    "classification": "Zero-shot classification",
    "sts": "Semantic textual similarity",
}
_LAYOUTS = (
    f"translations ({sets.EXPECTED}), classification ({classification.EXPECTED}) "
    f"and similarity ({sts.EXPECTED})"
)


@dataclass(frozen=True)
class SuiteEvaluation:
    """Results of `evaluate_folders`; None where the folders hold nothing for a task."""

    retrieval: Evaluation | None = None
    classification: ClassificationEvaluation | None = None
    sts: StsEvaluation | None = None

    def to_table(self) -> str:
        """One titled table for each task, aligned for a terminal."""
        return "\n\n".join(f"{title}\n\n{part.to_table()}" for _, title, part in self._parts())

    def to_markdown(self) -> str:
        """One Markdown table for each task, under headings."""
        return "\n\n".join(
            f"## {title}\n\n{part.to_markdown()}" for _, title, part in self._parts()
        )

    def to_json(self) -> str:
        """A JSON object with the results of each task under its name."""
        return json.dumps(
            {task: json.loads(part.to_json()) for task, _, part in self._parts()},
            ensure_ascii=False,
            indent=2,
        )

    def _parts(self) -> list[tuple[Task, str, Results[Any]]]:
        parts: dict[Task, Results[Any] | None] = {
            "retrieval": self.retrieval,
            "classification": self.classification,
            "sts": self.sts,
        }
        return [(task, _TITLES[task], part) for task, part in parts.items() if part is not None]


def evaluate_folders(
    encoder: Encodes,
    paths: Sequence[str | Path],
    *,
    languages: Collection[str] | None = None,
    tasks: Collection[Task] = TASKS,
    margin: Margin = "ratio",
    k: int = 4,
    bitext: bool = True,
    source_language: str = sets.ENGLISH,
    split: Split = "test",
    seed: int = 0,
    repeats: int = 5,
    progress: bool = False,
) -> SuiteEvaluation:
    """Recognise what each folder holds, and measure all of it.

    Folders may hold several layouts, also further down: those of `read_eval_sets`,
    `evaluate_classification` and `evaluate_sts`.

    Args:
        encoder: encodes every sentence.
        paths: folders, or single files of translations.
        languages: keep these (translations: with English), in any form that `normalize_language`
            takes; None keeps all. Each task whose sets are there needs one of them.
        tasks: measure only these.
        margin: as in `evaluate`.
        k: as in `evaluate`.
        bitext: as in `evaluate`.
        source_language: as in `evaluate_classification`.
        split: as in `evaluate_classification` and `evaluate_sts`.
        seed: as in `evaluate_classification`.
        repeats: as in `evaluate_classification`.
        progress: show bars on the standard error stream.

    Raises:
        InputError: a folder is missing or holds nothing that is understood, nothing is there for
            any of the tasks, or as the functions named above.
    """
    check_split(split)
    if isinstance(paths, str):
        raise InputError(f"paths: got the string {paths!r}, expected a list of folders")
    unknown = {*tasks} - {*TASKS}
    if unknown:
        raise InputError(
            f"tasks: got {', '.join(map(repr, sorted(unknown)))}, "
            f"expected some of {', '.join(map(repr, TASKS))}"
        )
    found = {path: layouts_of(path, split) for path in dict.fromkeys(map(Path, paths))}

    def holding(task: Task) -> list[Path]:
        return [path for path, held in found.items() if task in held and task in tasks]

    if not any(map(holding, TASKS)):
        held = sorted({task for layouts in found.values() for task in layouts})
        raise InputError(
            f"tasks: {', '.join(map(str, found)) or 'no folder'} holds sets for "
            f"{', '.join(held) or 'nothing'}, but {', '.join(tasks) or 'nothing'} is asked for"
        )
    # What is quick to fail or to finish comes first, so that a bad file costs no hours.
    eval_sets = [
        eval_set
        for path in holding("retrieval")
        for eval_set in read_eval_sets(path, languages=languages)
    ]
    similarities = [
        evaluate_sts(encoder, path, languages=languages, split=split, progress=progress)
        for path in holding("sts")
    ]
    transfers = [
        evaluate_classification(
            encoder, path, source_language=source_language, languages=languages, split=split,
            seed=seed, repeats=repeats, progress=progress,
        )
        for path in holding("classification")
    ]  # fmt: skip
    retrieval = (
        evaluate(encoder, eval_sets, margin=margin, k=k, bitext=bitext, progress=progress)
        if eval_sets
        else None
    )
    return SuiteEvaluation(
        retrieval,
        replace(transfers[0], rows=tuple(row for part in transfers for row in part.rows))
        if transfers
        else None,
        replace(similarities[0], rows=tuple(row for part in similarities for row in part.rows))
        if similarities
        else None,
    )


def layouts_of(path: Path, split: Split = "test") -> list[Task]:
    """The tasks that a folder, or a file of translations, holds sets for.

    Raises:
        InputError: it is missing, or holds nothing that is understood.
    """
    held: dict[Task, bool] = {
        "retrieval": sets.holds_eval_sets(path),
        "classification": bool(classification.find_collections(path)),
        "sts": bool(sts.find_files(path, split)),
    }
    if not any(held.values()):
        raise InputError(
            f"{path}: holds no evaluation set that can be recognised; understood are {_LAYOUTS}"
        )
    return [task for task, there in held.items() if there]
