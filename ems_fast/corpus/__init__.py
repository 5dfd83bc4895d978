"""From files of parallel text to a memory-mapped corpus of tokens."""

from ems_fast.corpus.binary import BinaryCorpus, Shard
from ems_fast.corpus.hashing import sentence_hash
from ems_fast.corpus.prepare import prepare
from ems_fast.corpus.readers import (
    Csv,
    Gettext,
    HuggingFace,
    JsonLines,
    Moses,
    Parquet,
    RawPair,
    Reader,
    Tmx,
    Tsv,
    Xliff,
    ZippedMoses,
    open_corpora,
)
from ems_fast.corpus.report import CorpusReport, InputReport, format_report

__all__ = [
    "BinaryCorpus",
    "CorpusReport",
    "Csv",
    "Gettext",
    "HuggingFace",
    "InputReport",
    "JsonLines",
    "Moses",
    "Parquet",
    "RawPair",
    "Reader",
    "Shard",
    "Tmx",
    "Tsv",
    "Xliff",
    "ZippedMoses",
    "format_report",
    "open_corpora",
    "prepare",
    "sentence_hash",
]
