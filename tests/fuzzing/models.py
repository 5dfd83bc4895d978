"""Targets: the folders of runs and of corpora, tokenizers, weights, checkpoints, vectors."""

from __future__ import annotations

import io
import itertools
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
import torch
from support.synthetic import TINY, pairs, write_text

import ems_fast
from ems_fast.corpus.binary import BinaryCorpus
from ems_fast.corpus.prepare import prepare
from ems_fast.encoding import partial_array
from ems_fast.encoding.bulk import encode_file
from ems_fast.encoding.embeddings import open_embeddings
from ems_fast.encoding.partial_array import partial_path, progress_path
from ems_fast.mining.exact import nearest
from ems_fast.model.config import ModelConfig
from ems_fast.model.ems import EMSModel
from ems_fast.model.quantisation import quantise
from ems_fast.runs.folder import RunFolder, model_section
from ems_fast.text.tokenizer import Tokenizer, train_tokenizer
from ems_fast.training.batches.builder import BatchBuilder
from ems_fast.training.batches.config import BatchConfig
from ems_fast.training.batches.sampler import PairSampler
from fuzzing.mutation import VALUES, mutate, mutate_tree
from fuzzing.target import Attempt, Files, Make, Target

SENTENCES = ["lumi kato lumi", "", "tapa \ud55c\uae00 \u00e9 \U0001f600 x" * 3]


def tokenizer() -> bytes:
    """A small SentencePiece model."""
    return train_tokenizer([text for pair in pairs("de", 200) for text in pair], 400).model


def write_run(where: Path, kind: str) -> RunFolder:
    """A run's folder: ``layers``, ``table``, ``phrases``, or phrases in ``8`` or ``4`` bits."""
    folder = RunFolder(where)
    folder.create()
    model = tokenizer()
    sizes: dict[str, Any] = {"layers": 0, "width": 16, "reconstruction": False}
    if kind == "layers":
        sizes = dict(TINY)
    elif kind != "table":
        sizes["phrases"] = 5
    vocab_size = Tokenizer(model).vocab_size
    config = ModelConfig(**{**sizes, "vocab_size": vocab_size, "languages": ("de", "en")})
    torch.manual_seed(0)
    state = EMSModel(config).state_dict()
    if config.phrases:
        state["encoder.phrases"] = torch.arange(5) * vocab_size + 300
    folder.write_config({"model": model_section(config)})
    folder.write_tokenizer(model)
    folder.write_weights(quantise(state, int(kind)) if kind in "84" else state)
    folder.checkpoint.parent.rmdir()
    return folder


def _content(where: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(where)): p.read_bytes() for p in sorted(where.rglob("*")) if p.is_file()
    }


def _encode(folder: Path) -> None:
    ems_fast.load(folder).encode([sentence for sentence in SENTENCES if sentence])


def _of_run(
    file: str, damage: Callable[[random.Random, bytes], bytes], kinds: tuple[str, ...]
) -> Make:
    """A target's `make`: one file of a run is damaged, and the model encodes."""

    def make(where: Path) -> Attempt:
        runs = {}
        for kind in kinds:
            write_run(where / kind, kind)
            runs[kind] = Files(where / kind, _content(where / kind))

        def attempt(rng: random.Random) -> None:
            files = runs[rng.choice(kinds)]
            files.put(file, damage(rng, files.content[file]))
            try:
                _encode(files.folder)
            finally:
                files.restore()

        return attempt

    return make


def _damage_toml(rng: random.Random, data: bytes) -> bytes:
    if rng.random() < 0.3:
        return mutate(rng, data)
    tree = _document(data)
    for _ in range(20):
        try:
            return tomli_w.dumps(mutate_tree(rng, tree, _TOML_VALUES)).encode()
        except (TypeError, ValueError, AttributeError, RecursionError):
            continue  # what TOML cannot hold
    return b""


def _document(data: bytes) -> dict[str, Any]:
    """What a config.toml holds."""
    from ems_fast.runs.folder import tomllib

    return tomllib.loads(data.decode())


_TOML_VALUES = tuple(v for v in VALUES if v is not None and not (isinstance(v, int) and v > 2**64))


def _damage_safetensors(rng: random.Random, data: bytes) -> bytes:
    """The bytes, or what the header says of them."""
    if rng.random() < 0.4:
        return mutate(rng, data)
    size = int.from_bytes(data[:8], "little")
    header = json.dumps(mutate_tree(rng, json.loads(data[8 : 8 + size]))).encode()
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def _corpus(where: Path) -> Attempt:
    """Reading of pairs, and a batch."""
    text = write_text(where / "text", n=60)
    prepare(text, where / "corpus", vocab_size=400, valid_pairs=4, progress=False)
    content = _content(where / "corpus")
    files = Files(where / "corpus", content)
    manifest = json.loads(content["corpus.json"])
    arrays = [name for name in content if name.endswith(".bin")]

    def attempt(rng: random.Random) -> None:
        kind = rng.random()
        if kind < 0.35:
            tree = json.dumps(mutate_tree(rng, manifest)).encode()
            files.put("corpus.json", tree)
        elif kind < 0.5:
            files.damage(rng, rng.choice(list(content)))
        else:  # of the right size, or most would end at once
            name = rng.choice(arrays)
            size = len(content[name])
            files.put(name, mutate(rng, content[name])[:size].ljust(size, b"\xff"))
        try:
            corpus = BinaryCorpus.open(where / "corpus")
            for shard in corpus.shards:
                shard.valid_pairs()
                shard.pair(0)
            builder = BatchBuilder(corpus, "count")
            options = BatchConfig(batch_pairs=16)
            sampler = PairSampler(
                builder.reader, builder.sizes, builder.tokens, options.global_batch(1), options
            )
            for rows, _ in itertools.islice(sampler, 8):
                batch = builder.build(rows)
                ems_fast.xtr_loss(
                    torch.zeros(len(batch.targets), 4),
                    torch.zeros(corpus.vocab_size, 4),
                    batch.targets,
                )
        finally:
            files.restore()

    return attempt


def _tokenizer(where: Path) -> Attempt:
    model = tokenizer()

    def attempt(rng: random.Random) -> None:
        found = Tokenizer(mutate(rng, model))
        ids, _ = found.encode_packed([s for s in SENTENCES if s])
        found.decode(ids[:5].tolist())

    return attempt


def _vectors(where: Path) -> Attempt:
    """Arrays, and the manifest of shards."""
    content: dict[str, bytes] = {}
    for name, dtype in (("a", "<f4"), ("b", "<f2"), ("c", "|i1"), ("d", "|u1")):
        buffer = io.BytesIO()
        np.save(buffer, np.arange(40).reshape(5, 8).astype(dtype))
        content[f"{name}.npy"] = buffer.getvalue()
    for rank in range(2):
        content[f"s.0000{rank}-of-00002.npy"] = content["a.npy"]
    shards = [{"file": f"s.0000{r}-of-00002.npy", "start": 5 * r, "rows": 5} for r in range(2)]
    manifest = {"format": 1, "rows": 10, "dimension": 8, "dtype": "float32", "shards": shards}
    content["s.npy.json"] = json.dumps(manifest).encode()
    files = Files(where, content)

    def attempt(rng: random.Random) -> None:
        name = rng.choice([*content, "s.npy.json"])
        if name == "s.npy.json" and rng.random() < 0.7:
            files.put(name, json.dumps(mutate_tree(rng, manifest)).encode())
        else:
            files.damage(rng, name)
        try:
            found = open_embeddings(where / ("s.npy" if name[0] == "s" else name))
            if found.shape[0]:
                _ = found[0], found[-1:], np.asarray(found[[0, 0]])
                nearest(found, found, 1)
        finally:
            files.restore()

    return attempt


def _progress(where: Path) -> Attempt:
    """`encode_file`, where an earlier call was stopped."""
    encoder = ems_fast.load(write_run(where / "run", "table").path)
    source, output = where / "s.txt", where / "out" / "v.npy"
    output.parent.mkdir()
    source.write_text("lumi kato\ntapa\n" * 3)
    encode_file(encoder, source, output, progress=False)
    whole = output.read_bytes()
    output.unlink()
    with pytest.MonkeyPatch.context() as patch:
        record: dict[str, Any] = {}
        patch.setattr(partial_array, "write_json", lambda _, content: record.update(content))
        encode_file(encoder, source, output, progress=False)

    def attempt(rng: random.Random) -> None:
        for path in output.parent.iterdir():
            path.unlink()
        kept = {**record, "rows_done": rng.choice((0, 2, 6))}
        tree = mutate_tree(rng, kept)
        text = json.dumps(tree).encode()
        progress_path(output).write_bytes(mutate(rng, text) if rng.random() < 0.2 else text)
        if rng.random() < 0.8:
            partial_path(output).write_bytes(mutate(rng, whole) if rng.random() < 0.3 else whole)
        encode_file(encoder, source, output, progress=False)
        assert open_embeddings(output).shape == (6, 16)

    return attempt


def _metrics(where: Path) -> Attempt:
    """The log of a run."""
    folder = write_run(where / "run", "table")
    lines = [
        {"event": "train", "step": 10, "pairs": 320, "minutes": 0.1, "loss": 3.0, "xtr": 1.0,
         "contrastive": 2.0, "gradient_norm": 1.0, "learning_rate": 0.01, "pairs_per_second": 9.0,
         "tokens_per_second": 90.0, "waiting_for_data": 0.1},
        {"event": "evaluation", "step": 10, "done": 0.5, "accuracy": {"held-out": 0.5},
         "rows": []},
    ]  # fmt: skip

    def attempt(rng: random.Random) -> None:
        records = [*lines, mutate_tree(rng, rng.choice(lines))]
        text = "\n".join(map(json.dumps, records)).encode()
        folder.metrics.write_bytes(mutate(rng, text) if rng.random() < 0.3 else text)
        folder.read_metrics()
        folder.forget_after(5)

    return attempt


def _checkpoint(where: Path) -> Attempt:
    """A run is resumed from a checkpoint that is damaged, or is another one's."""
    text = write_text(where / "text", n=60)
    prepare(text, where / "corpus", vocab_size=400, valid_pairs=4, progress=False)
    run = where / "run"
    settings: dict[str, Any] = {
        "model": ModelConfig(layers=0, width=8, reconstruction=False), "max_steps": 2,
        "batch_pairs": 8, "device": "cpu", "progress": False, "evaluations": 1,
    }  # fmt: skip
    ems_fast.train(where / "corpus", run, **settings)
    files = Files(run, _content(run))
    path = "checkpoints/last.pt"
    state = torch.load(run / path, weights_only=True)

    def attempt(rng: random.Random) -> None:
        if rng.random() < 0.5:
            files.put(path, mutate(rng, files.content[path]))
            try:
                RunFolder(run).read_checkpoint()
            finally:
                files.restore()
            return
        buffer = io.BytesIO()
        torch.save(mutate_tree(rng, state), buffer)
        files.put(path, buffer.getvalue())
        try:
            ems_fast.train(where / "corpus", run, resume=True, progress=False)
        finally:
            shutil.rmtree(run)
            for name, data in files.content.items():
                files.put(name, data)
            files.restore()

    return attempt


def targets() -> list[Target]:
    """All of them."""
    kinds = ("phrases", "table", "8", "4", "layers")
    return [
        Target("config.toml", _of_run("config.toml", _damage_toml, kinds), 4),
        Target("model.safetensors", _of_run("model.safetensors", _damage_safetensors, kinds), 5),
        Target("tokenizer.model", _tokenizer, 5),
        Target("corpus", _corpus, 5),
        Target("vectors", _vectors, 6),
        Target("progress of encode", _progress, 1),
        Target("metrics.jsonl", _metrics, 1),
        Target("checkpoint", _checkpoint, 0.3),
    ]
