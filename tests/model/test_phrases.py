"""Phrases against a dictionary."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ems_fast.errors import InputError
from ems_fast.model.config import preset
from ems_fast.model.phrases import find_phrases, phrase_keys, with_phrases

V = 5
KEYS = [(0, 1), (1, 1), (1, 2), (4, 0), (4, 4)]  # in the order of their keys
sentences = st.lists(st.lists(st.integers(0, V - 1), min_size=1, max_size=6), min_size=1)


def table(keys: list[tuple[int, int]]) -> torch.Tensor:
    first, second = torch.tensor(keys).unbind(1)
    return phrase_keys(first, second, V)


@given(sentences, st.integers(1, len(KEYS)))
def test_phrases_are_found_within_sentences(text: list[list[int]], count: int) -> None:
    known = KEYS[:count]
    expected = []
    for sentence in text:
        row = sentence[:1]
        for pair in pairwise(sentence):
            row.append(pair[1])
            row += [V + known.index(pair)] if pair in known else []
        expected.append(row)
    ids, lengths = with_phrases(
        torch.tensor([token for sentence in text for token in sentence]),
        torch.tensor([len(sentence) for sentence in text]),
        table(known),
        V,
    )
    assert lengths.tolist() == [len(row) for row in expected]
    assert ids.tolist() == [token for row in expected for token in row]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_bisection_finds_the_same(count: int) -> None:
    keys, phrases = torch.arange(V * V).view(V, V), table(KEYS[:count])
    place, there = find_phrases(keys, phrases)
    assert torch.equal(there, torch.isin(keys, phrases))
    assert torch.equal(phrases[place[there]], keys[there])


@pytest.mark.parametrize("changes", [{"layers": 1}, {"tied": True}])
def test_only_a_table_has_phrases(changes: dict[str, object]) -> None:
    with pytest.raises(InputError, match="phrases: got 131072, but only a token table has them"):
        preset("phrases", **changes)
