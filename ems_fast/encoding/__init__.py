"""Sentences in, vectors out."""

from ems_fast.encoding.bulk import EncodedFile, encode_file
from ems_fast.encoding.embeddings import Embeddings, open_embeddings
from ems_fast.encoding.encoder import EncodingWarning, SentenceEncoder
from ems_fast.encoding.load import load
from ems_fast.encoding.released.load import load_released

__all__ = [
    "Embeddings",
    "EncodedFile",
    "EncodingWarning",
    "SentenceEncoder",
    "encode_file",
    "load",
    "load_released",
    "open_embeddings",
]
