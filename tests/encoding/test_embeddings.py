from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ems_fast import Embeddings, InputError, open_embeddings

SIZES = st.lists(st.integers(0, 4), min_size=1, max_size=5).filter(any)


def split(sizes: list[int], D: int = 3) -> tuple[np.ndarray, Embeddings]:
    whole = np.arange(sum(sizes) * D, dtype=np.float32).reshape(-1, D)
    return whole, Embeddings.of(np.split(whole, np.cumsum(sizes)[:-1]))


@given(SIZES, st.data())
def test_indexing_is_that_of_one_array(sizes, data):
    whole, view = split(sizes)
    n = len(whole)
    assert (len(view), view.shape, view.ndim, view.dtype) == (n, whole.shape, 2, whole.dtype)
    rows = st.integers(-n, n - 1)
    row, many = data.draw(rows), data.draw(st.lists(rows))
    bound = st.none() | st.integers(-n - 2, n + 2)
    part = slice(data.draw(bound), data.draw(bound), data.draw(st.sampled_from([None, 1, 2, -1])))
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    assert np.array_equal(view[row], whole[row])
    assert np.array_equal(view[part], whole[part])
    assert np.array_equal(view[mask], whole[mask])
    assert np.array_equal(view[np.array(many, dtype=np.int64)], whole[np.array(many, np.int64)])
    assert np.array_equal(np.asarray(view), whole)
    assert np.asarray(view, dtype=np.float64).dtype == np.float64


@pytest.mark.parametrize("key", [5, -6, [0, 5], "a", [0.5], (0, 1, 2.5), np.zeros((2, 2), int)])
def test_what_is_not_there(key):
    _, view = split([2, 3])
    with pytest.raises(IndexError):
        view[key]


def write(folder: Path, sizes: list[int]) -> tuple[np.ndarray, Path]:
    whole, view = split(sizes)
    shards = []
    for i, part in enumerate(view.parts):
        np.save(folder / f"x.{i}.npy", part)
        shards.append({"file": f"x.{i}.npy", "rows": len(part)})
    manifest = {"format": 1, "rows": len(whole), "dimension": 3, "shards": shards}
    (folder / "x.npy.json").write_text(json.dumps(manifest))
    return whole, folder / "x.npy.json"


@pytest.mark.parametrize("name", ["x.npy.json", "x.npy"])
def test_shards(tmp_path, name):
    whole, _ = write(tmp_path, [2, 0, 3])
    view = open_embeddings(tmp_path / name)
    assert isinstance(view, Embeddings)
    assert np.array_equal(view[1:4], whole[1:4])


def test_a_single_file(tmp_path):
    whole, _ = split([4])
    np.save(tmp_path / "x.npy", whole)
    array = open_embeddings(tmp_path / "x.npy")
    assert isinstance(array, np.memmap)
    assert not array.flags.writeable
    assert np.array_equal(array, whole)


def damage(manifest: Path, **changes: object) -> None:
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **changes}))


def test_damaged_files(tmp_path):
    _, manifest = write(tmp_path, [2, 3])
    np.save(tmp_path / "x.1.npy", np.zeros((1, 3), np.float32))
    with pytest.raises(InputError, match=r"x\.1\.npy: has shape \(1, 3\), but x\.npy\.json says"):
        open_embeddings(manifest)
    (tmp_path / "x.1.npy").unlink()
    with pytest.raises(InputError, match=r"x\.1\.npy: cannot be read as a \.npy array \(No such"):
        open_embeddings(manifest)
    damage(manifest, shards=[{"file": "x.0.npy", "rows": 2}])
    with pytest.raises(InputError, match="do not add up to 5 rows"):
        open_embeddings(manifest)
    damage(manifest, format=7)
    with pytest.raises(InputError, match="has format 7, this version reads 1"):
        open_embeddings(manifest)
    manifest.write_text("[1]")
    with pytest.raises(InputError, match="is no manifest of embeddings"):
        open_embeddings(manifest)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(3, np.float32), r"holds no array \[n, D\]"),
        (np.zeros((3, 2), np.int64), "has dtype int64"),
        (np.array([[None]], dtype=object), "cannot be read as a .npy array"),
    ],
)
def test_arrays_that_are_no_vectors(tmp_path, array, message):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(InputError, match=message):
        open_embeddings(tmp_path / "x.npy")


def test_no_array_at_all(tmp_path):
    (tmp_path / "x.npy").write_text("text")
    with pytest.raises(InputError, match=r"x\.npy: cannot be read as a \.npy array"):
        open_embeddings(tmp_path / "x.npy")
    with pytest.raises(InputError, match=r"nowhere\.npy: cannot be read .*No such file"):
        open_embeddings(tmp_path / "nowhere.npy")
