"""A token table with phrases as a module of sentence-transformers, which has none for it.

It is found where ems-fast is installed: a folder's ``modules.json`` names this class, beside the
files that `ems_fast.load` reads. That library imports classes of others only if it is told to, with
``SentenceTransformer(folder, trust_remote_code=True)``.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers.models import InputModule
from torch import Tensor

from ems_fast.model.token_table import TokenTable
from ems_fast.runs.folder import RunFolder


class TokenTableModule(InputModule):  # type: ignore[misc]
    """Sentences to their embeddings, by the kernel that ems-fast encodes with, on the CPU.

    Args:
        folder: where the model's three files lie.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self._folder = RunFolder(folder)
        document = self._folder.read_config()
        config = self._folder.model_config(document)
        self.tokenizer, weights = self._folder.open_model(document)
        self._table = TokenTable.of_file(weights, config)
        self.max_seq_length = config.max_tokens

    def preprocess(
        self, inputs: list[str], prompt: str | None = None, **_: Any
    ) -> dict[str, Tensor]:
        """Token ids of B sentences, one after another, int64 [N], and where each begins, [B]."""
        ids, offsets = self.tokenizer.encode_packed([(prompt or "") + text for text in inputs])
        return {"input_ids": torch.from_numpy(ids), "offsets": torch.from_numpy(offsets[:-1])}

    def tokenize(self, texts: list[str], **options: Any) -> dict[str, Tensor]:
        """What earlier versions of that library call `preprocess`."""
        return self.preprocess(texts, **options)

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Add ``sentence_embedding``, float32 [B, D]."""
        ids, starts = (features[name].cpu().numpy() for name in ("input_ids", "offsets"))
        lengths = np.minimum(np.diff(starts, append=len(ids)), self.max_seq_length)
        vectors = self._table.means(ids, starts, lengths, self._table.width)
        features["sentence_embedding"] = torch.from_numpy(vectors).to(features["input_ids"].device)
        return features

    def get_embedding_dimension(self) -> int:
        """D."""
        return self._table.width

    def get_sentence_embedding_dimension(self) -> int:
        """What earlier versions of that library call `get_embedding_dimension`."""
        return self._table.width

    def save(self, output_path: str, *_: Any, **__: Any) -> None:
        """Copy the model's files."""
        for file in _files(self._folder):
            shutil.copyfile(file, Path(output_path) / file.name)

    @classmethod
    def load(cls, model_name_or_path: str, **options: Any) -> TokenTableModule:
        """Read the module of a folder, or of a repository on a hub."""
        known = ("subfolder", "token", "cache_folder", "revision", "local_files_only")
        where = {name: options[name] for name in known if name in options}
        for file in _files(RunFolder(".")):  # they lie in one folder
            found = cls.load_file_path(model_name_or_path, filename=file.name, **where)
        return cls(Path(found).parent)


def _files(folder: RunFolder) -> tuple[Path, ...]:
    return folder.config, folder.tokenizer, folder.weights
