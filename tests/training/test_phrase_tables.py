"""Training tables with phrases, from the corpus to a file of vectors."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from support.processes import join, said, start_two
from support.synthetic import ending_after

import ems_fast
from ems_fast import BinaryCorpus, ModelConfig
from ems_fast.corpus import phrases as counting
from ems_fast.corpus.phrases import frequent_phrases
from ems_fast.model.packing import pack
from ems_fast.runs.folder import RunFolder

TABLE = ModelConfig(layers=0, width=32, reconstruction=False, phrases=50)
QUICK = {"batch_pairs": 32, "log_steps": 1, "evaluations": 1}


def fit(corpus: BinaryCorpus, folder: Path, **options: object) -> ems_fast.TrainResult:
    settings = {"model": TABLE, "device": "cpu", "progress": False, **QUICK, **options}
    return ems_fast.train(corpus.path, folder, **settings)


def counted(corpus: BinaryCorpus) -> Counter[int]:
    """Every key of every different sentence."""
    sentences = {
        tuple(map(int, side))
        for shard in corpus.shards
        for i in range(shard.num_pairs)
        for side in shard.pair(i)
    }
    return Counter(a * corpus.vocab_size + b for s in sentences for a, b in pairwise(s))


def test_the_most_frequent_are_chosen(corpus: BinaryCorpus) -> None:
    counts = counted(corpus)
    chosen = frequent_phrases(corpus, 50)
    assert len(chosen) == 50
    assert np.all(np.diff(chosen) > 0)
    assert sorted(counts[int(key)] for key in chosen) == sorted(counts.values())[-50:]
    everything = frequent_phrases(corpus, 10**9, least=3)
    assert set(everything.tolist()) == {key for key, count in counts.items() if count >= 3}


def test_a_large_corpus_is_sampled(corpus: BinaryCorpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "_BLOCK", 16)
    whole = frequent_phrases(corpus, 10**9, least=1)
    monkeypatch.setattr(counting, "SAMPLE_TOKENS", corpus.num_tokens // 3)
    sampled = frequent_phrases(corpus, 10**9, least=1)
    assert len(whole) / 4 < len(sampled) < len(whole)
    assert set(sampled.tolist()) < set(whole.tolist())


def test_order_counts(corpus: BinaryCorpus, tmp_path: Path) -> None:
    result = fit(corpus, tmp_path / "run", max_steps=60)
    assert result.metrics["accuracy"]["held-out"] > 0.8  # chance is 1/20
    encoder = ems_fast.load(tmp_path / "run").module
    V, phrases = corpus.vocab_size, encoder.phrases
    assert phrases is not None
    assert phrases.tolist() == frequent_phrases(corpus, 50).tolist()
    rows = encoder.tokens.weight[V:]
    assert rows.shape == (50, 32)
    assert bool(rows.any())
    known = set(phrases.tolist())
    first, second = next(
        pair for pair in (divmod(key, V) for key in known) if pair[1] * V + pair[0] not in known
    )
    ids = np.array([first, second, second, first])
    one, other = encoder(pack(ids, np.array([0, 2]), np.array([2, 2])))
    assert torch.cosine_similarity(one, other, dim=0) < 0.999


def test_a_vector_is_the_mean_of_tokens_and_phrases(corpus: BinaryCorpus, tmp_path: Path) -> None:
    encoder = fit(corpus, tmp_path / "run", max_steps=3).encoder
    assert encoder.module.phrases is not None
    known, V = encoder.module.phrases.tolist(), corpus.vocab_size
    sentences = [sentence for pair in corpus.shards[0].valid_pairs() for sentence in pair]
    found = 0
    for sentence, vector in zip(sentences, encoder.encode(sentences), strict=True):
        ids = encoder.tokenizer.encode(sentence)
        keys = [a * V + b for a, b in pairwise(ids)]
        phrases = [V + known.index(key) for key in keys if key in known]
        found += len(phrases)
        expected = encoder.module.tokens.weight[ids + phrases].mean(dim=0).detach().numpy()
        np.testing.assert_allclose(vector, expected, atol=1e-6)
    assert found


def test_resuming_is_exact(corpus: BinaryCorpus, tmp_path: Path) -> None:
    fit(corpus, tmp_path / "whole", max_steps=8)
    with ending_after(4):
        fit(corpus, tmp_path / "parts", max_steps=8)
    ems_fast.train(None, tmp_path / "parts", resume=True, device="cpu", progress=False)
    one, other = (
        RunFolder(tmp_path / name).read_checkpoint()["model"] for name in ("whole", "parts")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_killed_before_its_first_checkpoint_has_the_same_phrases(
    corpus: BinaryCorpus, tmp_path: Path
) -> None:
    fit(corpus, tmp_path / "whole", max_steps=3)
    with ending_after(1):
        fit(corpus, tmp_path / "killed", max_steps=3)
    killed = RunFolder(tmp_path / "killed")
    killed.checkpoint.unlink()
    killed.weights.unlink(missing_ok=True)
    ems_fast.train(None, killed.path, resume=True, device="cpu", progress=False)
    one, other = (
        RunFolder(tmp_path / name).read_checkpoint()["model"] for name in ("whole", "killed")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_two_ranks_equal_one(corpus: BinaryCorpus, tmp_path: Path) -> None:
    fit(corpus, tmp_path / "one", max_steps=3)
    run, options = tmp_path / "two", {**QUICK, "model": TABLE, "batch_pairs": 16}
    codes = join(*start_two(corpus.path, run, max_steps=3, **options))
    assert codes == [0, 0], said(run, 0).read_text() + said(run, 1).read_text()
    other = RunFolder(run).read_checkpoint()["model"]
    for name, weight in RunFolder(tmp_path / "one").read_checkpoint()["model"].items():
        np.testing.assert_allclose(other[name], weight, atol=1e-4, err_msg=name)


def test_phrases_that_the_corpus_lacks(corpus: BinaryCorpus, tmp_path: Path) -> None:
    model = ModelConfig(layers=0, width=8, reconstruction=False, phrases=10**6)
    encoder = fit(corpus, tmp_path / "run", model=model, max_steps=1).encoder
    assert encoder.config.phrases == len(frequent_phrases(corpus, 10**6))


def test_export(corpus: BinaryCorpus, tmp_path: Path) -> None:
    encoder = fit(corpus, tmp_path / "run", max_steps=20).encoder
    sentences = [pair[1] for pair in corpus.shards[0].valid_pairs()]
    wanted = encoder.encode(sentences, normalize=True)
    for bits, nearest in ((32, 0.99999), (8, 0.999), (4, 0.98)):
        folder = ems_fast.export(encoder, tmp_path / f"{bits}", to="ems-fast", bits=bits)
        small = ems_fast.load(folder)
        assert (small.encode(sentences, normalize=True) * wanted).sum(axis=1).min() > nearest
        vectors, fingerprint = small.encode(sentences), small.fingerprint()
        ems_fast.export(small, tmp_path / f"{bits} again", to="ems-fast")
        assert small.fingerprint() == fingerprint  # it is as it was loaded
        assert small.module.phrases is not None  # from here on in torch
        np.testing.assert_allclose(small.encode(sentences), vectors, atol=1e-6)
    hub = ems_fast.export(encoder, tmp_path / "hub", to="hub")
    np.testing.assert_allclose(
        ems_fast.load(hub).encode(sentences, normalize=True), wanted, atol=1e-6
    )
    assert "TokenTableModule" in (hub / "modules.json").read_text()
    assert "trust_remote_code=True" in (hub / "README.md").read_text()
    assert "| phrases | 50 |" in (hub / "README.md").read_text()
