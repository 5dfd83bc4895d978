"""Encode sentences with a trained model."""

from __future__ import annotations

import copy
import hashlib
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, get_args

import numpy as np
import numpy.typing as npt

from ems_fast.encoding.precision import Precision, VectorForm
from ems_fast.encoding.protocol import check_sentences
from ems_fast.errors import BackendError, InputError, check, check_one_of
from ems_fast.model.config import ModelConfig
from ems_fast.model.token_table import TokenTable
from ems_fast.ops.threads import num_threads
from ems_fast.text.tokenizer import Tokenizer

# A token table encodes where there is no torch, and starts without waiting for it: whatever needs
# torch imports it itself.
if TYPE_CHECKING:
    import torch

    from ems_fast.model.encoder import Encoder

# Sentences tokenised and sorted by length together: bounds memory, and is long enough that the
# batches cut from it hold sentences of almost one length.
CHUNK_SENTENCES = 32_768

Dtype = Literal["float32", "bfloat16", "float16"]
OnOverlong = Literal["truncate", "error"]
# What a table that was loaded as such computes in already, and the names of where.
_AS_STORED = (None, "float32")
CPU = ("cpu", "cpu:0")
Preprocessing: TypeAlias = Callable[[Sequence[str], str | None], Sequence[str]]
"""Sentences and their language to the text that the tokenizer gets."""

_Value = TypeVar("_Value")
# The number of the first sentence, ids, and offsets and lengths of the sentences.
_Tokens = tuple[int, npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]


class EncodingWarning(UserWarning):
    """Some sentences could not be encoded as they are: empty, or longer than the model reads."""


@dataclass(frozen=True)
class EncodedChunk:
    """The vectors of b consecutive sentences.

    Attributes:
        first: the number of the first of them.
        vectors: [b, ·], of the form that was asked for.
        empty: sentences without a token; their vectors are zero.
        truncated: sentences longer than the model reads.
    """

    first: int
    vectors: npt.NDArray[Any]
    empty: int
    truncated: int


class SentenceEncoder:
    """A trained encoder with its tokenizer. It can be pickled, and so sent to other processes.

    A token table on the CPU encodes with a kernel of its own, whether it comes as it lies on disk
    or as a module; all else runs in torch.

    Attributes:
        place: the name of the device.

    Args:
        encoder: a module, or the table of a model without layers, which stays on the CPU.
        dtype: what it computes in; None leaves the module's.
        preprocessing: what `encode` does first: sentences and their language to the text that the
            tokenizer gets. None: it takes them as they are, and knows nothing of their language.
    """

    def __init__(
        self,
        encoder: Encoder | TokenTable,
        tokenizer: Tokenizer,
        config: ModelConfig,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        preprocessing: Preprocessing | None = None,
    ):
        self.tokenizer = tokenizer
        self.config = config
        self.preprocessing = preprocessing
        self.place = str(device)
        self._table: TokenTable | None = None
        self._module: Encoder | None = None
        self._view: TokenTable | None = None
        if isinstance(encoder, TokenTable):
            self._table = encoder
        else:
            self._module = encoder.to(device=device, dtype=dtype).eval()

    @property
    def module(self) -> Encoder:
        """The torch module; of a table that was loaded as such, one is made of it in float32."""
        if self._module is None:
            assert self._table is not None
            self._module, self._table = _module_of_table(self._table, self.config), None
        return self._module

    @property
    def stored(self) -> TokenTable | None:
        """The table as it lies on disk, if it was loaded as such."""
        return self._table

    def as_module(self) -> Encoder:
        """The torch module, to read weights of; a table stays one, and this encoder as it is."""
        if self._table is None:
            return self.module
        return _module_of_table(self._table, self.config)

    def as_table(self) -> TokenTable | None:
        """The token table as the kernel reads it, a view; None where torch computes."""
        return self._table or self._view_of_module()

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        import torch

        return torch.device(self.place)

    @property
    def dimension(self) -> int:
        """D, the width of a vector."""
        return self.config.width

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages it was trained on; encoding needs none."""
        return self.config.languages

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in; vectors are float32 whatever it is."""
        import torch

        return torch.float32 if self._module is None else self._module.tokens.weight.dtype

    def encode(
        self,
        sentences: Sequence[str],
        *,
        batch_tokens: int | None = None,
        normalize: bool = False,
        on_overlong: OnOverlong = "truncate",
        progress: bool | None = None,
        language: str | None = None,
        precision: Precision = "float32",
        dim: int | None = None,
    ) -> npt.NDArray[Any]:
        """Embed n sentences.

        Batches hold sentences of one or few lengths, so nothing is padded and a vector does not
        depend on the sentences beside it (within the rounding of the encoder's dtype: 1e-6 in
        float32).

        Args:
            sentences: n strings of any language. One without a token, such as an empty one, gets
                the zero vector, and is counted in an `EncodingWarning`.
            batch_tokens: tokens of a batch; bounds memory, does not change the result. By default
                4,096, and 65,536 on a GPU.
            normalize: scale the vectors to length 1; a zero vector stays zero.
            on_overlong: of a sentence longer than the model reads, ``"truncate"`` takes the first
                ``config.max_tokens`` tokens and counts it in an `EncodingWarning`; ``"error"``
                raises.
            progress: show a progress bar; None shows one from 10,000 sentences on, if the package
                tqdm is there.
            language: of the sentences, as an ISO 639 code, for an encoder with preprocessing.
            precision: ``"int8"``: a byte a dimension, every vector scaled so that its largest entry
                is ±127; ``"ubinary"``: a bit a dimension, eight in a byte. Cosines nearly stay,
                lengths do not, normalised or not.
            dim: keep only so many dimensions, the first ones; None keeps all.

        Returns:
            float32 [n, D], in the order of `sentences`; of another precision int8 [n, D] or uint8
            [n, D / 8], and D is `dim` if that is given.

        Raises:
            InputError: `sentences` is one string, or holds something that is no string; an
                over-long sentence, if asked to; an unknown option; a `dim` that is not among the
                model's, or of bits no multiple of 8; a language that is given to an
                encoder without preprocessing, or that preprocessing lacks, or lacks a tool for.
        """
        check_sentences("sentences", sentences, allow_empty=True)
        if self.preprocessing is not None:
            sentences = self.preprocessing(sentences, language)
            check_sentences("preprocessing", sentences, allow_empty=True)
        elif language is not None:
            raise InputError(
                f"language: got {language!r}, but this encoder reads every language alike; omit it"
            )
        n = len(sentences)
        form = VectorForm.of(dim, precision, self.dimension)
        vectors = np.empty((n, form.columns), form.dtype)
        empty = truncated = 0
        show = n >= 10_000 and find_spec("tqdm") is not None if progress is None else progress
        with progress_bar(n, show=show) as bar:
            chunks = self.encode_chunks(
                ((i, sentences[i : i + CHUNK_SENTENCES]) for i in range(0, n, CHUNK_SENTENCES)),
                batch_tokens=batch_tokens,
                normalize=normalize,
                on_overlong=on_overlong,
                precision=precision,
                dim=dim,
                advance=bar.update,
            )
            for chunk in chunks:
                end = chunk.first + len(chunk.vectors)
                vectors[chunk.first : end] = chunk.vectors
                empty += chunk.empty
                truncated += chunk.truncated
        warn_of_odd_sentences(n, empty, truncated, self.config.max_tokens, stacklevel=3)
        return vectors

    def encode_chunks(
        self,
        chunks: Iterable[tuple[int, Sequence[str]]],
        *,
        batch_tokens: int | None = None,
        normalize: bool = False,
        on_overlong: OnOverlong = "truncate",
        precision: Precision = "float32",
        dim: int | None = None,
        where: str = "sentences: item",
        advance: Callable[[int], object] = lambda _: None,
    ) -> Iterator[EncodedChunk]:
        """Embed a stream of sentences in memory for two of its chunks.

        A chunk is a list of strings, which are not checked, with the number of its first one;
        messages name a sentence by `where` and its number. The tokens of a chunk are made while
        the chunk before it is in the model, and `advance` is called with the number of sentences
        done since its last call. Options are those of `encode`; nothing is preprocessed.

        Raises:
            InputError: an over-long sentence, if asked to; an unknown option.
        """
        tokens_at_once = default_batch_tokens(self.place) if batch_tokens is None else batch_tokens
        fits = 1 <= tokens_at_once < 2**31
        check(fits, "batch_tokens", tokens_at_once, "at least 1, below 2³¹")
        check_one_of("on_overlong", on_overlong, get_args(OnOverlong))
        form = VectorForm.of(dim, precision, self.dimension)
        threads, limit = num_threads(), self.config.max_tokens

        def tokenise(first: int, chunk: Sequence[str]) -> _Tokens:
            try:
                ids, offsets = self.tokenizer.encode_packed(chunk, num_threads=threads)
            except (TypeError, UnicodeError):  # which of them depends on the version
                raise _not_text(chunk, where, first) from None
            lengths = np.diff(offsets)
            overlong = np.flatnonzero(lengths > limit)
            if len(overlong) and on_overlong == "error":
                raise InputError(
                    f"{where} {first + overlong[0]}: has {lengths[overlong[0]]} tokens, but the "
                    f"model reads {limit}; split it, or pass on_overlong='truncate'"
                )
            return first, ids, offsets[:-1], lengths

        def encoded(tokens: _Tokens) -> EncodedChunk:
            return self._encode_tokens(tokens, tokens_at_once, normalize, form, advance)

        numbered = iter(chunks)
        current, following = next(numbered, None), next(numbered, None)
        if following is None:  # a thread would have nothing to do meanwhile
            if current is not None:
                yield encoded(tokenise(*current))
            return
        assert current is not None
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(1) as pool:
            waiting = chain((current, following), numbered)
            submitted = (pool.submit(tokenise, *chunk) for chunk in waiting)
            ready = next(submitted, None)
            while ready is not None:
                after = next(submitted, None)
                yield encoded(ready.result())
                ready = after

    def _encode_tokens(
        self,
        tokens: _Tokens,
        batch_tokens: int,
        normalize: bool,
        form: VectorForm,
        advance: Callable[[int], object],
    ) -> EncodedChunk:
        first, ids, starts, lengths = tokens
        empty = int((lengths == 0).sum())
        truncated = int((lengths > self.config.max_tokens).sum())
        np.minimum(lengths, self.config.max_tokens, out=lengths)
        table = self.as_table()
        if table is not None:
            vectors = table.means(ids, starts, lengths, form.dim, normalize=normalize)
            advance(len(lengths))
        else:
            vectors = self._run_module(
                ids, starts, lengths, batch_tokens, normalize, form.dim, advance
            )
            advance(empty)
        return EncodedChunk(first, form.stored(vectors), empty, truncated)

    def _view_of_module(self) -> TokenTable | None:
        """What `_table_of` gives, the last one where the weights still lie there."""
        found = _table_of(self.module)
        view = self._view
        if found is None or view is None or not _same_memory(found.rows, view.rows):
            self._view = found
        return self._view

    def _run_module(
        self,
        ids: npt.NDArray[np.int64],
        starts: npt.NDArray[np.int64],
        lengths: npt.NDArray[np.int64],
        batch_tokens: int,
        normalize: bool,
        dim: int,
        advance: Callable[[int], object],
    ) -> npt.NDArray[np.float32]:
        """The vectors of b sentences, float32 [b, dim]; `advance` counts those with a token."""
        import torch

        from ems_fast.model.packing import pack

        vectors = torch.zeros(len(lengths), self.dimension, device=self.device)
        with torch.inference_mode():
            for rows in _batches(lengths, batch_tokens):
                packed = _sent(pack(ids, starts[rows], lengths[rows]), self.device)
                at = _sent(torch.from_numpy(rows), self.device)
                vectors.index_copy_(0, at, self.module(packed).float())
                advance(len(rows))
            vectors = vectors[:, :dim]
            if normalize:
                vectors = torch.nn.functional.normalize(vectors)
        found: npt.NDArray[np.float32] = vectors.cpu().numpy()
        return found

    def to(
        self, device: str | torch.device | None = None, dtype: Dtype | None = None
    ) -> SentenceEncoder:
        """Move it to a device or dtype, as `load` describes them; None leaves what is.

        Raises:
            InputError: the device does not exist here, or the dtype does not go with it.
        """
        if self._table is not None and str(device or "cpu") in CPU and dtype in _AS_STORED:
            return self
        from ems_fast.distributed.ranks import resolve_device

        resolved = self.device if device is None else resolve_device(device)
        wanted = None if dtype is None else resolve_dtype(dtype, resolved)
        self.module.to(device=resolved, dtype=wanted)
        self.place = str(resolved)
        return self

    def fingerprint(self) -> str:
        """A hash of the model: its sizes, tokenizer, weights and dtype."""
        digest = hashlib.sha256(json.dumps(asdict(self.config), sort_keys=True).encode())
        digest.update(self.tokenizer.sha256.encode())
        if self._table is not None:
            for array in (self._table.rows, self._table.scales, self._table.phrases):
                if array is not None:
                    digest.update(f"{array.dtype}".encode())
                    digest.update(array.data)
            return digest.hexdigest()
        import torch

        for name, tensor in sorted(self.module.state_dict().items()):
            digest.update(f"{name} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def __reduce__(self) -> tuple[Any, ...]:
        encoder = self._table or copy.deepcopy(self.module).cpu()
        arguments = (encoder, self.tokenizer, self.config, self.place, None, self.preprocessing)
        return SentenceEncoder, arguments


def _module_of_table(table: TokenTable, config: ModelConfig) -> Encoder:
    import torch

    from ems_fast.model.encoder import Encoder

    state = {"tokens.weight": torch.from_numpy(table.float32())}
    if table.phrases is not None:
        state["phrases"] = torch.from_numpy(table.phrases.copy())
    return Encoder.of_state(config, state).eval()


def _table_of(module: Encoder) -> TokenTable | None:
    """The table of a module that the kernel can read, as a view of its weights, or None."""
    import torch

    weight = module.tokens.weight.detach()
    if not module.is_table or weight.device.type != "cpu" or not weight.is_contiguous():
        return None
    if weight.dtype == torch.bfloat16:
        rows = weight.view(torch.int16).numpy().view(np.uint16)
    elif weight.dtype == torch.float32:
        rows = weight.numpy()
    else:
        return None
    return TokenTable(rows, None, None if module.phrases is None else module.phrases.numpy())


def _same_memory(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> bool:
    return (a.ctypes.data, a.dtype, a.shape) == (b.ctypes.data, b.dtype, b.shape)


def progress_bar(total: int, *, show: bool) -> AbstractContextManager[Any]:
    """A bar of sentences; one that is not shown counts nothing, and needs no package."""
    if not show:
        return nullcontext(_NoBar())
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise BackendError(
            "progress: needs the package tqdm, which is not installed; pip install tqdm, or ask "
            "for none with progress=False or --quiet"
        ) from error
    bar: AbstractContextManager[Any] = tqdm(total=total, unit="sentence", unit_scale=True)
    return bar


class _NoBar:
    def update(self, _: int) -> None:
        """Count nothing."""


def default_batch_tokens(place: str) -> int:
    """Tokens of a batch that keep the device of that name busy."""
    return 65_536 if place.startswith("cuda") else 4096


def _sent(value: _Value, device: torch.device) -> _Value:
    """A tensor, or a dataclass of tensors, on `device`.

    To a GPU from page-locked memory, so that the host does not wait and packs the next batch.
    """
    from ems_fast.model.packing import map_tensors

    if device.type != "cuda":
        return map_tensors(value, lambda tensor: tensor.to(device))
    return map_tensors(value, lambda tensor: tensor.pin_memory().to(device, non_blocking=True))


def warn_of_odd_sentences(
    n: int, empty: int, truncated: int, max_tokens: int, *, stacklevel: int = 2
) -> None:
    """Warn if some of n sentences were empty or cut."""
    found = []
    if empty:
        found.append(f"{empty} without a token (their vectors are zero)")
    if truncated:
        found.append(f"{truncated} longer than {max_tokens} tokens (cut there)")
    if found:
        message = f"of {n} sentences, {' and '.join(found)}"
        warnings.warn(message, EncodingWarning, stacklevel=stacklevel)


def _not_text(chunk: Sequence[str], where: str, first: int) -> InputError:
    """The error of a chunk that cannot be written as UTF-8."""
    for index, sentence in enumerate(chunk, start=first):
        if any("\ud800" <= character <= "\udfff" for character in sentence):
            return InputError(
                f"{where} {index}: holds half of a surrogate pair, which is no character; decode "
                "the text as UTF-8, with errors='replace' if it is damaged"
            )
    return InputError(f"{where} {first} and after: cannot be encoded as UTF-8")


def _batches(lengths: npt.NDArray[np.int64], batch_tokens: int) -> Iterator[npt.NDArray[np.int64]]:
    """Rows of non-empty sentences, shortest first, about `batch_tokens` tokens at a time."""
    by_length = np.argsort(lengths, kind="stable")
    by_length = by_length[lengths[by_length] > 0]
    # A sentence belongs to the batch in which its last token falls.
    batch = (np.cumsum(lengths[by_length]) - 1) // batch_tokens
    yield from np.split(by_length, np.flatnonzero(np.diff(batch)) + 1) if len(by_length) else ()


def default_dtype(config: ModelConfig, device: torch.device) -> torch.dtype:
    """What to compute in on `device`: see `ems_fast.load`."""
    import torch

    from ems_fast.ops.native import cuda_has_bfloat16

    multiplies = device.type == "cuda" and not config.is_table
    return torch.bfloat16 if multiplies and cuda_has_bfloat16(device) else torch.float32


def resolve_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The torch dtype of a name.

    Raises:
        InputError: an unknown name, or float16 on a CPU, which computes it slowly.
    """
    import torch

    check_one_of("dtype", dtype, get_args(Dtype))
    if dtype == "float16" and device.type == "cpu":
        raise InputError("dtype: 'float16' is for GPUs; on a CPU use 'bfloat16' or 'float32'")
    resolved: torch.dtype = getattr(torch, dtype)
    return resolved
