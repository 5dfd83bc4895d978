"""The kernel of a token table beside its definition in PyTorch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ems_fast.model.phrases import with_phrases
from ems_fast.model.quantisation import quantise
from ems_fast.model.token_table import TokenTable
from ems_fast.ops.table import table_mean_reference

V = 50
LENGTHS = np.array([3, 0, 1, 120, 7, 0, 64])
STORAGES = ("float32", "bfloat16", "int8", "int4")


def table_of(weight: torch.Tensor, storage: str) -> TokenTable:
    if storage in ("int8", "int4"):
        state = quantise({"encoder.tokens.weight": weight}, 8 if storage == "int8" else 4)
        return TokenTable(*(tensor.numpy() for tensor in state.values()))
    if storage == "bfloat16":
        return TokenTable(weight.bfloat16().view(torch.int16).numpy().view(np.uint16))
    return TokenTable(weight.numpy())


@pytest.fixture
def ids() -> np.ndarray:
    return np.random.default_rng(0).integers(0, V, LENGTHS.sum())


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("D", [1, 7, 16, 67, 256])
@pytest.mark.parametrize("normalize", [False, True])
def test_means_are_those_of_the_definition(
    isa: str, storage: str, D: int, normalize: bool, ids: np.ndarray
) -> None:
    D += D % 2 if storage == "int4" else 0
    table = table_of(torch.randn(V, D, generator=torch.Generator().manual_seed(D)), storage)
    wanted = table_mean_reference(
        torch.from_numpy(table.float32()).double(), torch.from_numpy(ids),
        torch.from_numpy(LENGTHS),
    )  # fmt: skip
    starts = LENGTHS.cumsum() - LENGTHS
    for dim in {1, (D + 1) // 2, D}:
        part = wanted[:, :dim]
        part = torch.nn.functional.normalize(part) if normalize else part
        found = table.means(ids, starts, LENGTHS, dim, normalize=normalize)
        assert found.shape == (len(LENGTHS), dim)
        np.testing.assert_allclose(found, part, atol=1e-6, rtol=0)


@pytest.mark.parametrize("storage", STORAGES)
def test_phrases_are_added_where_their_tokens_stand(isa: str, storage: str) -> None:
    rng = np.random.default_rng(2)
    tokens, D = 6, 10
    keys = np.array([0, 1, 7, 14, 15, 35])  # (0, 0), (0, 1), (1, 1), (2, 2), (2, 3), (5, 5)
    weight = torch.randn(tokens + len(keys), D, generator=torch.Generator().manual_seed(0))
    table = replace(table_of(weight, storage), phrases=keys)
    lengths = rng.integers(0, 12, 700)
    ids = rng.integers(0, tokens, lengths.sum())
    joined, longer = with_phrases(
        torch.from_numpy(ids),
        torch.from_numpy(lengths[lengths > 0]),
        torch.from_numpy(keys),
        tokens,
    )
    assert len(joined) > len(ids)
    wanted = np.zeros((len(lengths), D))
    wanted[lengths > 0] = table_mean_reference(
        torch.from_numpy(table.float32()).double(), joined, longer
    )
    found = table.means(ids, lengths.cumsum() - lengths, lengths, D)
    np.testing.assert_allclose(found, wanted, atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="ids: outside of 0 to 5"):  # the row of a phrase
        table.means(np.array([6]), np.array([0]), np.array([1]), D)


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    table = TokenTable(rng.normal(size=(V, 33)).astype(np.float32))
    lengths = rng.integers(0, 9, 3000)
    ids, starts = rng.integers(0, V, lengths.sum()), lengths.cumsum() - lengths
    found = []
    for threads in (1, 2, 7):
        monkeypatch.setattr("ems_fast.model.token_table.num_threads", lambda n=threads: n)
        found.append(table.means(ids, starts, lengths, 33))
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_array_equal(found[2], found[0])


def test_a_zero_vector_stays_zero() -> None:
    table = TokenTable(np.zeros((2, 5), np.float32))
    one = np.ones(1, np.int64)
    assert not table.means(one, one - 1, one, 5, normalize=True).any()
    assert table.means(one[:0], one[:0], one[:0], 5).shape == (0, 5)


@pytest.mark.parametrize("bad", [-1, V])
def test_an_id_that_is_no_row_is_an_error(bad: int) -> None:
    table = TokenTable(np.zeros((V, 5), np.float32))
    ids = np.array([3, bad, 4])
    with pytest.raises(ValueError, match="ids: outside of 0 to 49"):
        table.means(ids, np.array([0]), np.array([3]), 5)
