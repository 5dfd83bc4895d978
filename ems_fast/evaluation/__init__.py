"""How good is an encoder? Retrieval, mining, classification and similarity on evaluation sets."""

from ems_fast.evaluation.bitext import (
    BitextResult,
    BitextTask,
    bitext_f1,
    cross_fitted_f1,
    hide_pairs,
    score_mining,
)
from ems_fast.evaluation.classification import (
    ClassificationEvaluation,
    ClassificationRow,
    evaluate_classification,
)
from ems_fast.evaluation.folders import Split
from ems_fast.evaluation.report import Evaluation, EvaluationRow, evaluate
from ems_fast.evaluation.retrieval import (
    Example,
    RetrievalResult,
    evaluate_retrieval,
    nearest_examples,
    retrieval_from_vectors,
)
from ems_fast.evaluation.sets import EvalSet, read_eval_sets
from ems_fast.evaluation.sts import StsEvaluation, StsRow, evaluate_sts, spearman
from ems_fast.evaluation.suite import TASKS, SuiteEvaluation, Task, evaluate_folders

__all__ = [
    "TASKS",
    "BitextResult",
    "BitextTask",
    "ClassificationEvaluation",
    "ClassificationRow",
    "EvalSet",
    "Evaluation",
    "EvaluationRow",
    "Example",
    "RetrievalResult",
    "Split",
    "StsEvaluation",
    "StsRow",
    "SuiteEvaluation",
    "Task",
    "bitext_f1",
    "cross_fitted_f1",
    "evaluate",
    "evaluate_classification",
    "evaluate_folders",
    "evaluate_retrieval",
    "evaluate_sts",
    "hide_pairs",
    "nearest_examples",
    "read_eval_sets",
    "retrieval_from_vectors",
    "score_mining",
    "spearman",
]
