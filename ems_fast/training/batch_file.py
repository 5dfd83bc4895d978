"""A batch on disk: what a step that went wrong was given, for people and programs to look at."""

from __future__ import annotations

from itertools import accumulate, pairwise
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from ems_fast.corpus import BinaryCorpus
from ems_fast.errors import InputError
from ems_fast.files.atomic import replacing, write_errors, write_text
from ems_fast.model.packing import Packed, offsets_of
from ems_fast.ops.bag_of_words import BagOfWords
from ems_fast.training.batches.batch import Batch


def save_batch(path: Path, batch: Batch, corpus: BinaryCorpus, note: str) -> None:
    """Write `batch` to ``path`` (safetensors) and its sentences to the ``.txt`` beside it.

    `corpus` names the languages and decodes the sentences; `note` is the first line of the text.
    """
    sentences, targets = batch.sentences, batch.targets
    tensors = {
        "ids": sentences.ids,
        "positions": sentences.positions,
        "groups": torch.tensor(sentences.groups, dtype=torch.int64),
        "order": sentences.order,
        "target_indptr": targets.indptr,
        "target_indices": targets.indices,
        "target_weights": targets.weights,
        "target_languages": batch.target_languages,
        "source_ids": batch.source_hashes,
        "target_ids": batch.target_hashes,
    }
    if batch.target_rows is not None:
        tensors["target_rows"] = batch.target_rows
    if batch.teacher is not None:
        tensors["teacher"] = batch.teacher
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    content = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        temporary.write_bytes(save(content, metadata={"note": note}))
    lines = [note, *("\t".join(cells) for cells in _decoded(batch, corpus))]
    write_text(path.with_suffix(".txt"), "\n".join(lines) + "\n")


def load_batch(path: str | Path) -> Batch:
    """The batch that `save_batch` wrote, on the CPU.

    Raises:
        InputError: the file is missing or is not such a batch.
    """
    try:
        tensors = load_file(path)
        groups = tuple((int(n), int(T)) for n, T in tensors["groups"].tolist())
        return Batch(
            Packed(
                tensors["ids"],
                tensors["positions"],
                groups,
                tensors["order"],
                offsets_of(groups),
            ),
            BagOfWords(
                tensors["target_indptr"], tensors["target_indices"], tensors["target_weights"]
            ),
            tensors["target_languages"],
            tensors["source_ids"],
            tensors["target_ids"],
            tensors.get("target_rows"),
            tensors.get("teacher"),
        )
    except (OSError, SafetensorError, KeyError) as error:
        raise InputError(f"{path}: is not a batch that training saved ({error})") from error


def _decoded(batch: Batch, corpus: BinaryCorpus) -> list[tuple[str, str, str]]:
    """(languages such as ``en-de``, source, target) of every pair."""
    ids = batch.sentences.ids.tolist()
    ends = list(accumulate(T for n, T in batch.sentences.groups for _ in range(n)))
    packed = [ids[a:b] for a, b in pairwise([0, *ends])]  # in order of length
    texts = [corpus.tokenizer.decode(packed[place]) for place in batch.sentences.order.tolist()]
    codes = [corpus.languages[row] for row in batch.target_languages.tolist()]
    B = batch.num_pairs
    # The translation of target i is source i, so target_languages[B + i] is source i's language.
    return [(f"{codes[B + i]}-{codes[i]}", texts[i], texts[B + i]) for i in range(B)]
