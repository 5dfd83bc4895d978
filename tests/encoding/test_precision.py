"""Small vectors: of fewer dimensions, in bytes, in bits; encoded, written and searched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import ems_fast
from ems_fast import InputError, SentenceEncoder
from ems_fast.cli import main
from ems_fast.encoding.precision import VectorForm
from ems_fast.mining.exact import nearest
from ems_fast.mining.search import mine_vectors

SENTENCES = ["Guten Morgen!", "wo ist der Bahnhof", "good morning", "日本語の文", "x"]


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    return ems_fast.load()


@pytest.fixture(params=["table", "layers"])
def either(request: pytest.FixtureRequest, encoder: SentenceEncoder, run: Path) -> SentenceEncoder:
    return encoder if request.param == "table" else ems_fast.load(run)


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.mark.parametrize("dim", [None, 1, 24, 32])
def test_fewer_dimensions_are_the_first_ones(either: SentenceEncoder, dim: int | None) -> None:
    whole = either.encode(SENTENCES)[:, :dim]
    np.testing.assert_array_equal(either.encode(SENTENCES, dim=dim), whole)
    unit = either.encode(SENTENCES, dim=dim, normalize=True)
    norms = np.linalg.norm(whole, axis=1, keepdims=True)
    wanted = np.divide(whole, norms, out=np.zeros_like(whole), where=norms > 0)
    np.testing.assert_allclose(unit, wanted, atol=1e-6)


def test_bytes_keep_cosines(either: SentenceEncoder) -> None:
    whole, small = either.encode(SENTENCES), either.encode(SENTENCES, precision="int8")
    assert (small.dtype, small.shape) == (np.int8, whole.shape)
    assert (np.abs(small.astype(int)).max(axis=1) == 127).all()
    assert cosines(whole, small).min() > 0.9999


def test_bits_are_signs(either: SentenceEncoder) -> None:
    whole = either.encode(SENTENCES, dim=16)
    bits = either.encode(SENTENCES, dim=16, precision="ubinary", normalize=True)
    assert (bits.dtype, bits.shape) == (np.uint8, (len(SENTENCES), 2))
    np.testing.assert_array_equal(np.unpackbits(bits, axis=1), whole > 0)


def test_zero_vectors_stay_zero(encoder: SentenceEncoder) -> None:
    with pytest.warns(ems_fast.EncodingWarning, match="without a token"):
        assert not encoder.encode([""], precision="int8").any()
    assert encoder.encode([], precision="ubinary").shape == (0, encoder.dimension // 8)
    tiny = VectorForm(3, "int8").stored(np.array([[1e-38, 0, 0], [0, -0.0, 0]], np.float32))
    assert not tiny.any()


def test_what_cannot_be_is_named(encoder: SentenceEncoder, tmp_path: Path) -> None:
    text = tmp_path / "lines.txt"
    text.write_text("a\n", encoding="utf-8")
    for options, complaint in (
        ({"precision": "int4"}, "precision: got 'int4', expected one of 'float32', 'int8'"),
        ({"dim": 257}, "dim: got 257, expected None or a whole number from 1 to 256"),
        ({"dim": 0}, "dim: got 0"),
        ({"dim": 2.5}, "dim: got 2.5"),
        ({"dim": True}, "dim: got True"),
        ({"dim": 12, "precision": "ubinary"}, "dim: got 12 .*multiple of 8"),
    ):
        with pytest.raises(InputError, match=complaint):
            encoder.encode(["a"], **options)
        with pytest.raises(InputError, match=complaint):
            ems_fast.encode_file(encoder, text, tmp_path / "x.npy", progress=False, **options)
    assert {path.name for path in tmp_path.iterdir()} == {"lines.txt"}


@pytest.mark.parametrize("precision", ["float32", "int8", "ubinary"])
@pytest.mark.parametrize("shards", [None, 2])
def test_files_hold_what_encode_gives(
    encoder: SentenceEncoder, tmp_path: Path, precision: str, shards: int | None
) -> None:
    text, output = tmp_path / "lines.txt", tmp_path / "vectors.npy"
    text.write_text("\n".join(SENTENCES), encoding="utf-8")
    for shard in [(rank, shards) for rank in range(shards)] if shards else [None]:
        done = ems_fast.encode_file(
            encoder, text, output, precision=precision, dim=64, shard=shard, progress=False
        )
        assert done.dimension == 64
    found = ems_fast.open_embeddings(output)
    wanted = encoder.encode(SENTENCES, precision=precision, dim=64)
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(np.asarray(found), wanted)


def test_progress_in_another_form_does_not_count(encoder: SentenceEncoder, tmp_path: Path) -> None:
    text, output = tmp_path / "lines.txt", tmp_path / "vectors.npy"
    text.write_text("\n".join(SENTENCES), encoding="utf-8")
    for precision in ("int8", "float32"):
        ems_fast.encode_file(encoder, text, output, precision=precision, progress=False)
        assert np.load(output).dtype == precision


def test_the_command_line_has_both(encoder: SentenceEncoder, tmp_path: Path) -> None:
    text, output = tmp_path / "lines.txt", tmp_path / "vectors.npy"
    text.write_text("\n".join(SENTENCES), encoding="utf-8")
    options = ["--precision", "ubinary", "--dim", "128", "--quiet"]
    assert main(["encode", str(text), str(output), *options]) == 0
    wanted = encoder.encode(SENTENCES, precision="ubinary", dim=128)
    np.testing.assert_array_equal(np.load(output), wanted)


@pytest.fixture(scope="module")
def sides() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    source = rng.normal(size=(500, 64)).astype(np.float32)
    return source, source + 0.3 * rng.normal(size=source.shape).astype(np.float32)


@pytest.mark.parametrize("index", ["exact", "faiss", "binary"])
@pytest.mark.parametrize("ours", ["float32", "int8", "ubinary"])
@pytest.mark.parametrize("theirs", ["float32", "int8", "ubinary"])
def test_all_forms_are_searched(
    sides: tuple[np.ndarray, np.ndarray], index: str, ours: str, theirs: str
) -> None:
    if index != "exact":
        pytest.importorskip("faiss")
    source, target = (
        VectorForm(64, form).stored(side) for form, side in zip((ours, theirs), sides, strict=True)
    )
    found = nearest(source, target, 3, index=index)
    assert (found.indices[:, 0] == np.arange(500)).mean() > 0.98
    mined = mine_vectors(source, target, index=index)
    assert (mined.source_indices == mined.target_indices).mean() > 0.95


def test_bits_have_the_cosines_of_their_signs(sides: tuple[np.ndarray, np.ndarray]) -> None:
    bits = [VectorForm(64, "ubinary").stored(side) for side in sides]
    found = nearest(*bits, 5)
    signs = [np.where(side > 0, 1.0, -1.0) for side in sides]
    wanted = np.sort(signs[0] @ signs[1].T / 64, axis=1)[:, ::-1][:, :5]
    np.testing.assert_allclose(found.scores, wanted, atol=1e-6)


@pytest.mark.parametrize("most", [1_000_000, 100])
def test_the_binary_index_ranks_by_exact_cosines(
    sides: tuple[np.ndarray, np.ndarray], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faiss")
    monkeypatch.setattr("ems_fast.mining.faiss.FLAT_ITEMS", most)  # beyond it, clusters
    source, target = (side[:, :61] for side in sides)  # a width that fills no byte
    exact, found = nearest(source, target, 4), nearest(source, target, 4, index="binary")
    same = exact.indices[:, 0] == found.indices[:, 0]
    assert same.mean() > 0.98
    np.testing.assert_allclose(found.scores[same, 0], exact.scores[same, 0], atol=1e-6)
    assert np.isfinite(found.scores).all()
    assert nearest(source, target, 500, index="binary").indices.min() == 0


def test_widths_that_differ_are_named(sides: tuple[np.ndarray, np.ndarray]) -> None:
    bits = VectorForm(32, "ubinary").stored(sides[0][:, :32])
    with pytest.raises(InputError, match="have 64 and 32 dimensions"):
        nearest(sides[0], bits, 1)
    with pytest.raises(InputError, match="got dtype int16, expected a float array"):
        nearest(sides[0], sides[1].astype(np.int16), 1)
