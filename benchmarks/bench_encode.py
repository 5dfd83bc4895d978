"""Encoding real sentences: ems-fast against sentence-transformers with the same model.

    pytest benchmarks/bench_encode.py --benchmark-enable -s

The model is exported to sentence-transformers, so both compute the same vectors; that is checked
first. Weights are random, which does not change the time; sizes are those of the preset `mini`.
sentence-transformers sorts by length and pads, with batches of 32 (its default) or 128 sentences.

The tokens of the shipped table stand beside the same in sentence-transformers' `StaticEmbedding`
and in model2vec, beside SentencePiece's tokenising alone, the floor, and the whole of it, with its
phrases, which the others do not know; and a process that loads it and encodes one sentence is timed
as a whole. Of these alone:

    pytest benchmarks/bench_encode.py --benchmark-enable -s -k "table or process"
"""

from __future__ import annotations

import io
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import zstandard

import ems_fast
from ems_fast import SentenceEncoder
from ems_fast.model.config import preset
from ems_fast.model.encoder import Encoder
from ems_fast.model.token_table import TokenTable
from ems_fast.text.tokenizer import train_tokenizer

TRAIN = Path(__file__).resolve().parents[2] / "shared" / "corpora" / "train"
LANGUAGES = ("de", "fr", "ja", "ru")
N = 2000
ROUNDS = 5


@pytest.fixture(scope="module", autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def lines() -> list[str]:
    """Sentences of five languages, as many of each."""
    if not TRAIN.is_dir():
        pytest.skip(f"needs the parallel text in {TRAIN}")
    found = []
    for language in LANGUAGES:
        with (TRAIN / f"{language}.tsv.zst").open("rb") as file:
            stream = zstandard.ZstdDecompressor().stream_reader(file)
            text = io.TextIOWrapper(stream, encoding="utf-8")
            found += [next(text).split("\t")[i % 2] for i in range(3000)]
    # What one of the two cuts is no comparison.
    return [line for line in found if len(line) < 100]


@pytest.fixture(scope="module")
def sentences(lines) -> list[str]:
    return [lines[i] for i in np.random.default_rng(0).permutation(len(lines))[:N]]


@pytest.fixture(scope="module")
def encoder(lines) -> SentenceEncoder:
    tokenizer = train_tokenizer(lines, vocab_size=8000)
    config = preset("mini", vocab_size=tokenizer.vocab_size)
    torch.manual_seed(0)
    return SentenceEncoder(Encoder(config), tokenizer, config, torch.device("cpu"))


@pytest.fixture(scope="module")
def bfloat16(encoder) -> SentenceEncoder:
    module = Encoder(encoder.config)
    module.load_state_dict(encoder.module.state_dict())
    return SentenceEncoder(
        module, encoder.tokenizer, encoder.config, torch.device("cpu"), torch.bfloat16
    )


@pytest.fixture(scope="module")
def baseline(encoder, tmp_path_factory):
    module = pytest.importorskip("sentence_transformers")
    folder = tmp_path_factory.mktemp("exported") / "model"
    ems_fast.export(encoder, folder, to="sentence-transformers")
    return module.SentenceTransformer(str(folder), device="cpu")


def seconds(call: Callable[..., object], *arguments: object, **options: object) -> float:
    start = time.perf_counter()
    call(*arguments, **options)
    return time.perf_counter() - start


def test_ems_fast(benchmark, encoder, sentences):
    benchmark.pedantic(encoder.encode, (sentences,), rounds=ROUNDS, warmup_rounds=1)


def test_ems_fast_bfloat16(benchmark, bfloat16, sentences):
    benchmark.pedantic(bfloat16.encode, (sentences,), rounds=ROUNDS, warmup_rounds=1)


def test_tokenizer_alone(benchmark, encoder, sentences):
    benchmark.pedantic(encoder.tokenizer.encode_packed, (sentences,), rounds=ROUNDS)


def test_sentence_transformers(benchmark, baseline, sentences):
    benchmark.pedantic(baseline.encode, (sentences,), rounds=ROUNDS, warmup_rounds=1)


def test_against_sentence_transformers(encoder, bfloat16, baseline, sentences):
    expected = baseline.encode(sentences)
    error = np.abs(encoder.encode(sentences) - expected).max() / np.abs(expected).max()
    assert error < 1e-4
    calls = {
        "sentence-transformers, batches of 32": (baseline.encode, {"batch_size": 32}),
        "sentence-transformers, batches of 128": (baseline.encode, {"batch_size": 128}),
        "ems-fast float32": (encoder.encode, {}),
        "ems-fast bfloat16": (bfloat16.encode, {}),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):  # interleaved, so that a busy machine slows all
        for name, (call, options) in calls.items():
            times[name].append(seconds(call, sentences, **options))
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    first = medians["sentence-transformers, batches of 32"]
    print(f"\n{N} sentences, relative error of float32 {error:.1e}")
    for name, median in medians.items():
        print(f"{name:40} {N / median:8.0f} sentences/s, ratio {first / median:5.2f}")
    assert medians["ems-fast float32"] < first


@pytest.fixture(scope="module")
def all_lines() -> list[str]:
    """10,000 sentences of all languages there are, with English."""
    if not TRAIN.is_dir():
        pytest.skip(f"needs the parallel text in {TRAIN}")
    found = []
    for path in sorted(TRAIN.glob("*.tsv.zst")):
        with path.open("rb") as file:
            stream = zstandard.ZstdDecompressor().stream_reader(file)
            text = io.TextIOWrapper(stream, encoding="utf-8")
            found += [next(text).split("\t")[i % 2] for i in range(500)]
    found = [line for line in found if line.strip() and len(line) < 100]
    return [found[i] for i in np.random.default_rng(0).permutation(len(found))[:10_000]]


def test_table_against_others(all_lines, tmp_path):
    library = pytest.importorskip("sentence_transformers")
    model2vec = pytest.importorskip("model2vec", reason="needs the package model2vec")
    whole = ems_fast.load()
    encoder = without_phrases(ems_fast.load())
    folder = ems_fast.export(encoder, tmp_path / "exported", to="sentence-transformers")
    static = library.SentenceTransformer(str(folder), device="cpu")
    other = model2vec.StaticModel.from_pretrained(str(folder))
    expected = encoder.encode(all_lines, progress=False)
    for vectors in (static.encode(all_lines), other.encode(all_lines)):
        differs = np.abs(vectors - expected).max(axis=1) > 1e-5
        assert differs.mean() < 1e-3  # other ids, where docs/export.md says so
    pieces = encoder.tokenizer._processor
    threads = torch.get_num_threads()
    calls: dict[str, tuple[Callable[..., object], dict[str, object]]] = {
        "SentencePiece alone": (pieces.encode, {"num_threads": threads}),
        "ems-fast": (encoder.encode, {"progress": False}),
        "ems-fast, int8": (encoder.encode, {"progress": False, "precision": "int8"}),
        "ems-fast, ubinary": (encoder.encode, {"progress": False, "precision": "ubinary"}),
        "ems-fast with phrases, 4 bits": (whole.encode, {"progress": False}),
        "model2vec": (other.encode, {}),
        "StaticEmbedding, batches of 32": (static.encode, {"batch_size": 32}),
        "StaticEmbedding, batches of 1,024": (static.encode, {"batch_size": 1024}),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, (call, options) in calls.items():
            times[name].append(seconds(call, all_lines, **options))
    best = {name: min(taken) for name, taken in times.items()}
    print(f"\n{len(all_lines)} sentences, {threads} threads, best of {ROUNDS} interleaved rounds")
    for name, taken in best.items():
        rate = len(all_lines) / taken
        print(f"{name:36} {rate:9,.0f} sentences/s, time {taken / best['ems-fast']:5.2f} of ours")


def without_phrases(encoder: SentenceEncoder) -> SentenceEncoder:
    """An encoder of the same tokens' vectors, in float32."""
    config = replace(encoder.config, phrases=0)
    table = encoder.module.tokens.weight[: config.vocab_size].detach().numpy()
    return SentenceEncoder(TokenTable(table), encoder.tokenizer, config)


def test_process_that_encodes_one_sentence():
    code = "import ems_fast; ems_fast.load().encode(['x'])"
    taken, cpu = [], []
    for _ in range(ROUNDS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, check=True)
        taken.append(time.perf_counter() - start)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    # Not that of `resource`, which counts what the process was before it became another program.
    report = "print(*(x for x in open('/proc/self/status') if x.startswith('VmHWM')))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; {report}"], cwd=Path(__file__).parent,
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    folder = Path(ems_fast.__file__).parent / "models" / "multilingual"
    size = sum(os.path.getsize(path) for path in folder.iterdir())
    print(
        f"\nwhole process: {min(taken):.2f} s, of processor {min(cpu):.2f} s; peak memory "
        f"{int(done.stdout.split()[1]) / 1024:.0f} MiB, the model's files {size / 2**20:.0f} MiB"
    )
