from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ems_fast.corpus import BinaryCorpus, Tsv, prepare
from ems_fast.corpus.binary import ShardWriter, token_dtype
from ems_fast.errors import InputError


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("binary")
    lines = [f"sentence number {i} here\tSatz Nummer {i} hier\n" for i in range(60)]
    (folder / "x.tsv").write_text("".join(lines))
    prepare(Tsv(folder / "x.tsv", "en", "de"), folder / "corpus", vocab_size=300, progress=False)
    return folder / "corpus"


@pytest.fixture
def prepared(pristine, tmp_path) -> Path:
    """A copy to do damage to."""
    return Path(shutil.copytree(pristine, tmp_path / "corpus"))


def test_open(pristine):
    corpus = BinaryCorpus.open(str(pristine))
    [shard] = corpus.shards
    assert corpus.languages == ["de", "en"]
    assert (shard.name, shard.num_pairs, shard.num_valid) == ("en-de", 57, 3)
    assert corpus.num_pairs == 57
    assert corpus.num_tokens == shard.num_tokens == len(shard.tokens)
    assert (shard.tokens.dtype, shard.offsets.dtype) == (np.uint16, np.int64)
    assert (shard.hashes.dtype, shard.hashes.shape) == (np.int64, (114,))
    assert shard.offsets.shape == (115,)
    assert isinstance(shard.tokens, np.memmap)
    assert len(shard.valid_pairs()) == 3
    source, target = shard.pair(5)
    assert corpus.tokenizer.decode(source.tolist()).startswith("sentence number")
    assert corpus.tokenizer.decode(target.tolist()).startswith("satz nummer")
    with pytest.raises(ValueError, match="read-only"):
        shard.tokens[0] = 1


def test_manifest_round_trip(pristine):
    corpus = BinaryCorpus.open(pristine)
    assert corpus.to_json() == json.loads((pristine / "corpus.json").read_text())


@pytest.mark.parametrize("name", ["tokens.bin", "offsets.bin", "hashes.bin"])
def test_damaged_file(prepared, name):
    path = prepared / "shards" / "en-de" / name
    data = path.read_bytes()
    path.write_bytes(data[:-8])
    with pytest.raises(InputError, match=rf"{name}: has [\d,]+ bytes, expected {len(data):,}"):
        BinaryCorpus.open(prepared)
    path.unlink()
    with pytest.raises(InputError, match=rf"{name}: cannot be opened"):
        BinaryCorpus.open(prepared)


def test_damaged_valid_pairs(prepared):
    (prepared / "shards" / "en-de" / "valid.tsv").write_text("a\tb\n")
    [shard] = BinaryCorpus.open(prepared).shards
    with pytest.raises(InputError, match=r"valid\.tsv: has 1 lines, expected 3"):
        shard.valid_pairs()


def test_other_tokenizer(prepared, tmp_path):
    lines = [f"other words {i} entirely\tganz andere Worte {i}\n" for i in range(60)]
    (tmp_path / "en-de.tsv").write_text("".join(lines))
    prepare(tmp_path / "en-de.tsv", tmp_path / "other", vocab_size=290, progress=False)
    shutil.copy(tmp_path / "other" / "tokenizer.model", prepared / "tokenizer.model")
    with pytest.raises(InputError, match="is not the tokenizer that made this corpus"):
        BinaryCorpus.open(prepared)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace('"format_version": 1', '"format_version": 9'), "version 9"),
        (lambda text: "[]", "format version None"),
        (lambda text: text[:100], "is damaged"),
        (lambda text: text.replace('"pairs"', '"pears"'), r"is damaged \(KeyError\('pairs'\)"),
        (lambda text: text.replace("uint16", "uint7"), "is damaged .*uint7"),
    ],
)
def test_damaged_manifest(prepared, change, message):
    manifest = prepared / "corpus.json"
    manifest.write_text(change(manifest.read_text()))
    with pytest.raises(InputError, match=rf"corpus\.json: .*{message}"):
        BinaryCorpus.open(prepared)


def test_no_corpus(tmp_path):
    with pytest.raises(
        InputError, match=r"is not a prepared corpus .* make one with `ems-fast prep"
    ):
        BinaryCorpus.open(tmp_path)
    with pytest.raises(InputError, match="is not a prepared corpus"):
        BinaryCorpus.open(tmp_path / "missing")


def test_token_dtype():
    assert [token_dtype(v) for v in (300, 65536, 65537)] == ["uint16", "uint16", "uint32"]


@pytest.mark.parametrize("vocab_size", [300, 100_000])
@given(data=st.data())
def test_writer_round_trip(tmp_path_factory, vocab_size, data):
    sentence = st.lists(st.integers(0, vocab_size - 1), min_size=1, max_size=9)
    sides = st.tuples(sentence, sentence)
    blocks = data.draw(st.lists(st.lists(sides, min_size=1, max_size=5), min_size=1, max_size=4))
    path = tmp_path_factory.mktemp("writer") / "en-de"
    written = [side for block in blocks for pair in block for side in pair]
    with ShardWriter(path, "en", "de", vocab_size) as writer:
        for block in blocks:
            flat = [side for pair in block for side in pair]
            writer.add_pairs(
                np.concatenate([np.array(side, dtype=np.int64) for side in flat]),
                np.array([len(side) for side in flat]),
                np.array([hash(tuple(side)) for side in flat]),
            )
        writer.add_valid("a\tb\nc", "d\r\ne")
    shard = writer.shard()
    shard.check()
    assert shard.valid_pairs() == [("a b c", "d e")]
    assert shard.hashes.tolist() == [hash(tuple(side)) for side in written]
    found = [side.tolist() for i in range(shard.num_pairs) for side in shard.pair(i)]
    assert found == written


def test_opening_does_not_depend_on_the_size(tmp_path, pristine):
    """A terabyte of (sparse) tokens opens as fast as a kilobyte."""
    big = Path(shutil.copytree(pristine, tmp_path / "corpus"))
    manifest = json.loads((big / "corpus.json").read_text())
    entry = manifest["shards"][0]
    entry["pairs"], entry["tokens"] = 10**9, 10**11
    (big / "corpus.json").write_text(json.dumps(manifest))
    sizes = {"tokens.bin": 2 * 10**11, "offsets.bin": 8 * (2 * 10**9 + 1), "hashes.bin": 16 * 10**9}
    for name, size in sizes.items():
        with (big / "shards" / "en-de" / name).open("r+b") as file:
            file.truncate(size)
    began = time.perf_counter()
    corpus = BinaryCorpus.open(big)
    assert int(corpus.shards[0].tokens[-1]) == 0
    assert time.perf_counter() - began < 0.5
