"""Train multilingual sentence embeddings on your own parallel text, on modest hardware.

Nothing is imported before it is asked for: what encodes with a token table never meets torch.
``__init__.pyi`` tells type checkers the same names.
"""

import importlib as _importlib

# The modules that define what is public.
_PUBLIC = {
    "alignment": ("Alignment", "align", "align_files"),
    "corpus": (
        "BinaryCorpus", "Csv", "Gettext", "HuggingFace", "JsonLines", "Moses",
        "Parquet", "Tmx", "Tsv", "Xliff", "ZippedMoses", "format_report", "prepare",
    ),
    "encoding.bulk": ("EncodedFile", "encode_file"),
    "encoding.embeddings": ("Embeddings", "open_embeddings"),
    "encoding.encoder": ("EncodingWarning", "SentenceEncoder"),
    "encoding.load": ("load",),
    "encoding.released.load": ("load_released",),
    "errors": ("BackendError", "EmsError", "InputError", "TrainingError"),
    "evaluation": (
        "EvalSet", "Evaluation", "evaluate", "evaluate_classification", "evaluate_folders",
        "evaluate_retrieval", "evaluate_sts", "read_eval_sets",
    ),
    "exporting": ("export", "push"),
    "filtering": ("FilterReport", "filter_pairs"),
    "growing": ("GrowResult", "grow"),
    "mining": ("fit_threshold", "mine", "score_pairs"),
    "mining.sentences": ("search",),
    "model.config": ("ModelConfig",),
    "ops.backends": ("Backend", "backends"),
    "ops.bag_of_words": ("BagOfWords",),
    "ops.contrastive.loss": ("contrastive_loss",),
    "ops.xtr.loss": ("xtr_loss",),
    "reporting": ("report",),
    "training": (
        "Certificate", "ExtendResult", "Plan", "Tracker", "TrainResult", "extend",
        "plan", "train",
    ),
}  # fmt: skip
_HOMES = {name: f"{__name__}.{module}" for module, names in _PUBLIC.items() for name in names}
_ROOMS = (
    "alignment", "cli", "corpus", "demo", "distributed", "encoding", "errors", "evaluation",
    "exporting", "files", "filtering", "growing", "mining", "model", "ops", "reporting", "runs",
    "text", "training",
)  # fmt: skip
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    """A public name, or a room, imported now."""
    if name in _HOMES:
        found = getattr(_importlib.import_module(_HOMES[name]), name)
    elif name in _ROOMS:
        found = _importlib.import_module(f"{__name__}.{name}")
    elif name == "__version__":
        from importlib.metadata import version

        found = version("ems-fast")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """What is there, imported or not."""
    return sorted({*globals(), *__all__, *_ROOMS, "__version__"})
