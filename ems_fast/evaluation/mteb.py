"""A trained encoder as mteb 2 wants it, so that ``mteb.evaluate`` can run its tasks on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ems_fast.encoding.encoder import SentenceEncoder
from ems_fast.errors import BackendError, InputError, check

Vectors = npt.NDArray[np.float32] | Tensor


class MtebEncoder:
    """What ``mteb.evaluate(model=…)`` takes, around a trained encoder.

    Follows mteb's ``EncoderProtocol``. The encoder knows neither prompts nor languages, so what
    mteb says of the task is not used.

    Args:
        encoder: from `ems_fast.load`.
        name: of the form ``organisation/model``; mteb files its results under it.
        revision: tells models of the same name apart in mteb's cache of results; None takes the
            start of `SentenceEncoder.fingerprint`.

    Raises:
        BackendError: mteb is not installed.
        InputError: a name that is not of that form.
    """

    def __init__(
        self,
        encoder: SentenceEncoder,
        name: str = "ems-fast/model",
        revision: str | None = None,
    ):
        try:
            from mteb.models import ModelMeta
        except ImportError as error:
            raise BackendError(
                f"mteb: cannot be imported ({error}); pip install 'ems-fast[mteb]'"
            ) from error
        parts = name.split("/")
        check(len(parts) == 2 and all(parts), "name", name, "'organisation/model'")
        self.encoder = encoder
        self.mteb_model_meta: Any = ModelMeta.create_empty(
            {
                "name": name,
                "revision": revision or encoder.fingerprint()[:16],
                "n_parameters": sum(p.numel() for p in encoder.as_module().state_dict().values()),
                "max_tokens": encoder.config.max_tokens,
                "embed_dim": encoder.dimension,
                "framework": ["PyTorch"],
                "use_instructions": False,
            }
        )

    def encode(
        self, inputs: Iterable[Mapping[str, Any]], *, task_metadata: Any, **kwargs: Any
    ) -> npt.NDArray[np.float32]:
        """Encode the texts of mteb's batches, each with its strings under ``text``.

        Args:
            kwargs: what else mteb says (split, prompt, batch size); has no influence on vectors.

        Returns:
            float32 [n, D], not normalised.

        Raises:
            InputError: a task without text.
        """
        sentences: list[str] = []
        for batch in inputs:
            if "text" not in batch:
                raise InputError(
                    f"task: {task_metadata.name} gives {', '.join(batch) or 'nothing'}, "
                    f"but this model reads text only; choose tasks of text"
                )
            sentences.extend(batch["text"])
        return self.encoder.encode(sentences, progress=bool(kwargs.get("show_progress_bar", False)))

    def similarity(self, embeddings1: Vectors, embeddings2: Vectors) -> Tensor:
        """Cosines of all pairs, [n, m] for [n, D] and [m, D]; a single vector [D] counts as one."""
        return _unit_rows(embeddings1) @ _unit_rows(embeddings2).T

    def similarity_pairwise(self, embeddings1: Vectors, embeddings2: Vectors) -> Tensor:
        """Cosines of row i of both [n, D], [n]."""
        return (_unit_rows(embeddings1) * _unit_rows(embeddings2)).sum(dim=1)


def _unit_rows(vectors: Vectors) -> Tensor:
    rows = torch.as_tensor(vectors).float()
    return torch.nn.functional.normalize(rows.reshape(-1, rows.shape[-1]), dim=1)
