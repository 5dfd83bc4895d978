"""How good is an encoder? Translation retrieval, xsim and bitext mining on evaluation sets."""

from ems_fast.evaluation.bitext import (
    BitextResult,
    BitextTask,
    bitext_f1,
    hide_pairs,
    score_mining,
)
from ems_fast.evaluation.report import Evaluation, EvaluationRow, evaluate
from ems_fast.evaluation.retrieval import (
    Example,
    RetrievalResult,
    evaluate_retrieval,
    nearest_examples,
    retrieval_from_vectors,
)
from ems_fast.evaluation.sets import EvalSet, read_eval_sets

__all__ = [
    "BitextResult",
    "BitextTask",
    "EvalSet",
    "Evaluation",
    "EvaluationRow",
    "Example",
    "RetrievalResult",
    "bitext_f1",
    "evaluate",
    "evaluate_retrieval",
    "hide_pairs",
    "nearest_examples",
    "read_eval_sets",
    "retrieval_from_vectors",
    "score_mining",
]
