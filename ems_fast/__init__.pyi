from ems_fast.alignment import Alignment, align, align_files
from ems_fast.corpus import (
    BinaryCorpus,
    Csv,
    Gettext,
    HuggingFace,
    JsonLines,
    Moses,
    Parquet,
    Tmx,
    Tsv,
    Xliff,
    ZippedMoses,
    format_report,
    prepare,
)
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
from ems_fast.exporting import export, push
from ems_fast.filtering import FilterReport, filter_pairs
from ems_fast.growing import GrowResult, grow
from ems_fast.mining import fit_threshold, mine, score_pairs
from ems_fast.mining.sentences import search
from ems_fast.model.config import ModelConfig
from ems_fast.ops.backends import Backend, backends
from ems_fast.ops.bag_of_words import BagOfWords
from ems_fast.ops.contrastive.loss import contrastive_loss
from ems_fast.ops.xtr.loss import xtr_loss
from ems_fast.reporting import report
from ems_fast.training import (
    Certificate,
    ExtendResult,
    Plan,
    Tracker,
    TrainResult,
    extend,
    plan,
    train,
)

__version__: str
__all__ = [
    "Alignment",
    "Backend",
    "BackendError",
    "BagOfWords",
    "BinaryCorpus",
    "Certificate",
    "Csv",
    "Embeddings",
    "EmsError",
    "EncodedFile",
    "EncodingWarning",
    "EvalSet",
    "Evaluation",
    "ExtendResult",
    "FilterReport",
    "Gettext",
    "GrowResult",
    "HuggingFace",
    "InputError",
    "JsonLines",
    "ModelConfig",
    "Moses",
    "Parquet",
    "Plan",
    "SentenceEncoder",
    "Tmx",
    "Tracker",
    "TrainResult",
    "TrainingError",
    "Tsv",
    "Xliff",
    "ZippedMoses",
    "align",
    "align_files",
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
    "filter_pairs",
    "fit_threshold",
    "format_report",
    "grow",
    "load",
    "load_released",
    "mine",
    "open_embeddings",
    "plan",
    "prepare",
    "push",
    "read_eval_sets",
    "report",
    "score_pairs",
    "search",
    "train",
    "xtr_loss",
]
