"""Sentences in, vectors out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from ems_fast.config import ModelConfig
from ems_fast.distributed import resolve_device
from ems_fast.encodes import check_sentences
from ems_fast.errors import InputError
from ems_fast.model import Encoder
from ems_fast.packing import pack
from ems_fast.run_folder import RunFolder
from ems_fast.tokenizer import Tokenizer

# Sentences tokenised and sorted by length together: bounds memory, and is long enough that the
# batches cut from it hold sentences of almost one length.
CHUNK_SENTENCES = 32_768


class EncodingWarning(UserWarning):
    """Some sentences could not be encoded as they are: empty, or longer than the model reads."""


class SentenceEncoder:
    """A trained encoder with its tokenizer.

    Args:
        encoder: the module.
        tokenizer: its tokenizer.
        config: its sizes and languages.
        device: where it computes.
    """

    def __init__(
        self, encoder: Encoder, tokenizer: Tokenizer, config: ModelConfig, device: torch.device
    ):
        self.module = encoder.to(device).eval()
        self.tokenizer = tokenizer
        self.config = config
        self.device = device

    @property
    def dimension(self) -> int:
        """D, the width of a vector."""
        return self.config.width

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages it was trained on; encoding needs none."""
        return self.config.languages

    def encode(
        self,
        sentences: Sequence[str],
        *,
        batch_tokens: int = 4096,
        normalize: bool = False,
        progress: bool | None = None,
    ) -> npt.NDArray[np.float32]:
        """Embed n sentences.

        Batches hold sentences of one or few lengths, so nothing is padded and a vector does not
        depend on the sentences beside it (within float32 rounding).

        Args:
            sentences: n strings of any language. One without a token, such as an empty one, gets
                the zero vector; of one longer than the model reads, the first
                ``config.max_tokens`` tokens count. Both are reported with an `EncodingWarning`.
            batch_tokens: tokens of a batch; bounds memory, does not change the result.
            normalize: scale the vectors to length 1; a zero vector stays zero.
            progress: show a progress bar; None shows one from 10,000 sentences on.

        Returns:
            float32 [n, D], in the order of `sentences`.

        Raises:
            InputError: `sentences` is one string, or holds something that is no string.
        """
        if isinstance(sentences, str) or len(sentences):
            check_sentences("sentences", sentences)
        if batch_tokens < 1:
            raise InputError(f"batch_tokens: got {batch_tokens}, expected at least 1")
        n = len(sentences)
        vectors = np.zeros((n, self.dimension), dtype=np.float32)
        empty = truncated = 0
        show = n >= 10_000 if progress is None else progress
        with tqdm(total=n, unit="sentence", unit_scale=True, disable=not show) as bar:
            for start in range(0, n, CHUNK_SENTENCES):
                chunk = sentences[start : start + CHUNK_SENTENCES]
                ids, offsets = self.tokenizer.encode_packed(
                    chunk, num_threads=torch.get_num_threads()
                )
                lengths = np.diff(offsets)
                empty += int((lengths == 0).sum())
                truncated += int((lengths > self.config.max_tokens).sum())
                np.minimum(lengths, self.config.max_tokens, out=lengths)
                for rows in _batches(lengths, batch_tokens):
                    vectors[start + rows] = self._encode_batch(ids, offsets[rows], lengths[rows])
                    bar.update(len(rows))
        if empty or truncated:
            self._warn(n, empty, truncated)
        if normalize:
            norms = np.linalg.norm(vectors, axis=1, keepdims=True)
            np.divide(vectors, norms, out=vectors, where=norms > 0)
        return vectors

    def _encode_batch(
        self,
        ids: npt.NDArray[np.int64],
        starts: npt.NDArray[np.int64],
        lengths: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            packed = pack(ids, starts, lengths).to(self.device)
            vectors: npt.NDArray[np.float32] = self.module(packed).float().cpu().numpy()
        return vectors

    def _warn(self, n: int, empty: int, truncated: int) -> None:
        found = []
        if empty:
            found.append(f"{empty} without a token (their vectors are zero)")
        if truncated:
            found.append(f"{truncated} longer than {self.config.max_tokens} tokens (cut there)")
        warnings.warn(f"of {n} sentences, {' and '.join(found)}", EncodingWarning, stacklevel=3)


def _batches(lengths: npt.NDArray[np.int64], batch_tokens: int) -> Iterator[npt.NDArray[np.int64]]:
    """Rows of non-empty sentences, shortest first, about `batch_tokens` tokens at a time."""
    by_length = np.argsort(lengths, kind="stable")
    by_length = by_length[lengths[by_length] > 0]
    # A sentence belongs to the batch in which its last token falls.
    batch = (np.cumsum(lengths[by_length]) - 1) // batch_tokens
    yield from np.split(by_length, np.flatnonzero(np.diff(batch)) + 1) if len(by_length) else ()


def load(run: str | Path, *, device: str | torch.device | None = None) -> SentenceEncoder:
    """The encoder of a run.

    Args:
        run: the run's folder.
        device: where to compute; None takes a GPU if there is one.

    Raises:
        InputError: the folder holds no model, or files that do not fit each other.
    """
    folder = RunFolder(run)
    config = folder.read_model_config()
    tokenizer = folder.read_tokenizer()
    if tokenizer.vocab_size != config.vocab_size:
        raise InputError(
            f"{folder.tokenizer}: has {tokenizer.vocab_size} pieces, but the model was made for "
            f"{config.vocab_size}"
        )
    prefix = "encoder."
    weights = {
        name.removeprefix(prefix): tensor
        for name, tensor in folder.read_weights().items()
        if name.startswith(prefix)
    }
    encoder = Encoder(config)
    try:
        encoder.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(f"{folder.weights}: does not fit config.toml ({error})") from error
    where = resolve_device(device)
    if folder.read_config().get("text", {}).get("preprocessing") == "released":
        from ems_fast.released_encoder import ReleasedEncoder  # which builds on this module

        return ReleasedEncoder(encoder, tokenizer, config, where)
    return SentenceEncoder(encoder, tokenizer, config, where)
