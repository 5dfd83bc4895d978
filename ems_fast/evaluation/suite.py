"""Everything that folders of evaluation sets allow to measure, found by their layouts."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from ems_fast.encoding.protocol import Encodes
from ems_fast.errors import InputError, check_one_of
from ems_fast.evaluation import classification, sets, sts
from ems_fast.evaluation.classification import ClassificationEvaluation, evaluate_classification
from ems_fast.evaluation.folders import SPLITS, Split
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
E = TypeVar("E", bound=Results[Any])


@dataclass(frozen=True)
class SuiteEvaluation:
    """Results of `evaluate_folders`; None where the folders hold nothing for a task."""

    retrieval: Evaluation | None = None
    classification: ClassificationEvaluation | None = None
    sts: StsEvaluation | None = None

    def to_table(self) -> str:
        """One titled table for each task, aligned for a terminal."""
        parts = self._parts().items()
        return "\n\n".join(f"{_TITLES[task]}\n\n{part.to_table()}" for task, part in parts)

    def to_markdown(self) -> str:
        """One Markdown table for each task, under headings."""
        parts = self._parts().items()
        return "\n\n".join(f"## {_TITLES[task]}\n\n{part.to_markdown()}" for task, part in parts)

    def to_json(self) -> str:
        """A JSON object with the results of each task under its name."""
        parts = {task: json.loads(part.to_json()) for task, part in self._parts().items()}
        return json.dumps(parts, ensure_ascii=False, indent=2)

    def _parts(self) -> dict[Task, Results[Any]]:
        return {task: part for task in TASKS if (part := getattr(self, task)) is not None}


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

    The `paths` are folders, or single files of translations. Folders may hold several layouts,
    also further down: those of `read_eval_sets`, `evaluate_classification` and `evaluate_sts`,
    whose options the others are. Each task whose sets are there needs one of `languages`
    (translations: with English); None keeps all.

    Args:
        tasks: measure only these.

    Raises:
        InputError: a folder is missing or holds nothing that is understood, nothing is there for
            any of the tasks, or as the functions named above.
    """
    check_one_of("split", split, SPLITS)
    if isinstance(paths, str):
        raise InputError(f"paths: got the string {paths!r}, expected a list of folders")
    for task in tasks:
        check_one_of("tasks", task, TASKS)
    found = {path: _tasks_of(path, split) for path in dict.fromkeys(map(Path, paths))}
    asked = {
        task: [path for path, held in found.items() if task in held] if task in tasks else []
        for task in TASKS
    }
    if not any(asked.values()):
        held = sorted({*chain(*found.values())})
        raise InputError(
            f"tasks: {', '.join(map(str, found)) or 'no folder'} holds sets for "
            f"{', '.join(held) or 'nothing'}, but {', '.join(tasks) or 'nothing'} is asked for"
        )
    # What is quick to fail or to finish comes first, so that a bad file costs no hours.
    eval_sets = [*chain(*(read_eval_sets(p, languages=languages) for p in asked["retrieval"]))]
    similarities = [
        evaluate_sts(encoder, path, languages=languages, split=split, progress=progress)
        for path in asked["sts"]
    ]
    transfers = [
        evaluate_classification(
            encoder, path, source_language=source_language, languages=languages, split=split,
            seed=seed, repeats=repeats, progress=progress,
        )
        for path in asked["classification"]
    ]  # fmt: skip
    retrieval = (
        evaluate(encoder, eval_sets, margin=margin, k=k, bitext=bitext, progress=progress)
        if eval_sets
        else None
    )
    return SuiteEvaluation(retrieval, _merged(transfers), _merged(similarities))


def _merged(parts: Sequence[E]) -> E | None:
    """The rows of all in one."""
    rows = tuple(chain(*(part.rows for part in parts)))
    return replace(parts[0], rows=rows) if parts else None


def _tasks_of(path: Path, split: Split) -> list[Task]:
    """The tasks that a folder, or a file of translations, holds sets for."""
    held: dict[Task, bool] = {
        "retrieval": bool(sets.find_eval_sets(path)),
        "classification": bool(classification.find_collections(path)),
        "sts": bool(sts.find_files(path, split)),
    }
    if not any(held.values()):
        raise InputError(
            f"{path}: holds no evaluation set that can be recognised; understood are "
            f"translations ({sets.EXPECTED}), classification ({classification.EXPECTED}) "
            f"and similarity ({sts.EXPECTED})"
        )
    return [task for task, there in held.items() if there]
