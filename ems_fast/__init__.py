"""Train multilingual sentence embeddings on your own parallel text, on modest hardware."""

from importlib.metadata import version as _version

from ems_fast.corpus import BinaryCorpus, Gettext, Moses, Tmx, Tsv, format_report, prepare
from ems_fast.encoding.bulk import EncodedFile, encode_file
from ems_fast.encoding.embeddings import Embeddings, open_embeddings
from ems_fast.encoding.encoder import EncodingWarning, SentenceEncoder
from ems_fast.encoding.load import load
from ems_fast.encoding.released.load import load_released
from ems_fast.errors import BackendError, EmsError, InputError, TrainingError
from ems_fast.evaluation import (
    EvalSet,
    Evaluation,
    evaluate,
    evaluate_classification,
    evaluate_folders,
    evaluate_retrieval,
    evaluate_sts,
    read_eval_sets,
)
from ems_fast.exporting import export
from ems_fast.mining import fit_threshold, mine, score_pairs
from ems_fast.model.config import ModelConfig
from ems_fast.ops import BagOfWords, contrastive_loss, xtr_loss
from ems_fast.ops.backends import Backend, backends
from ems_fast.training import Certificate, ExtendResult, TrainResult, extend, train

__version__ = _version("ems-fast")
__all__ = [
    "Backend",
    "BackendError",
    "BagOfWords",
    "BinaryCorpus",
    "Certificate",
    "Embeddings",
    "EmsError",
    "EncodedFile",
    "EncodingWarning",
    "EvalSet",
    "Evaluation",
    "ExtendResult",
    "Gettext",
    "InputError",
    "ModelConfig",
    "Moses",
    "SentenceEncoder",
    "Tmx",
    "TrainResult",
    "TrainingError",
    "Tsv",
    "backends",
    "contrastive_loss",
    "encode_file",
    "evaluate",
    "evaluate_classification",
    "evaluate_folders",
    "evaluate_retrieval",
    "evaluate_sts",
    "export",
    "extend",
    "fit_threshold",
    "format_report",
    "load",
    "load_released",
    "mine",
    "open_embeddings",
    "prepare",
    "read_eval_sets",
    "score_pairs",
    "train",
    "xtr_loss",
]
