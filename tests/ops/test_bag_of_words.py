from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ems_fast import BagOfWords, InputError, xtr_loss
from ems_fast.ops.bag_of_words import WEIGHTINGS

SENTENCES = [[3, 1, 3, 3], [], [0], [5, 4, 3, 2, 1, 0], [7, 7]]


def expected(sentence: list[int], weighting: str) -> dict[int, float]:
    counts = Counter(sentence)
    if weighting == "count":
        return {word: n / len(sentence) for word, n in counts.items()}
    if weighting == "distinct":
        return {word: 1 / len(counts) for word in counts}
    return {word: 1 / len(sentence) for word in counts}


def packed(sentences: list[list[int]], dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    offsets = torch.tensor([0, *(len(s) for s in sentences)]).cumsum(0)
    return torch.tensor([w for s in sentences for w in s], dtype=dtype), offsets


def padded(sentences: list[list[int]], dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    T = max((len(s) for s in sentences), default=0) + 1
    # Padding with an id that would be noticed if it were counted.
    rows = [s + [2] * (T - len(s)) for s in sentences]
    lengths = torch.tensor([len(s) for s in sentences], dtype=torch.int64)
    return torch.tensor(rows, dtype=dtype).view(len(sentences), T), lengths


def assert_bags(bags: BagOfWords, sentences: list[list[int]], weighting: str) -> None:
    assert len(bags) == len(sentences)
    for row, sentence in enumerate(sentences):
        entries = slice(int(bags.indptr[row]), int(bags.indptr[row + 1]))
        words, weights = bags.indices[entries].tolist(), bags.weights[entries]
        want = expected(sentence, weighting)
        assert words == sorted(want)
        torch.testing.assert_close(
            weights, torch.tensor([want[w] for w in words], dtype=torch.float32)
        )


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_counts_distinct_sorted_ids(weighting: str, dtype: torch.dtype) -> None:
    assert_bags(
        BagOfWords.from_packed(*packed(SENTENCES, dtype), weighting, vocab_size=8),
        SENTENCES,
        weighting,
    )
    assert_bags(
        BagOfWords.from_padded(*padded(SENTENCES, dtype), weighting, vocab_size=8),
        SENTENCES,
        weighting,
    )


@settings(deadline=None, max_examples=60)
@given(
    sentences=st.lists(st.lists(st.integers(0, 40), max_size=12), max_size=6),
    weighting=st.sampled_from(WEIGHTINGS),
    wide=st.booleans(),
)
def test_matches_the_definition(sentences: list[list[int]], weighting: str, wide: bool) -> None:
    dtype = torch.int64 if wide else torch.int32
    assert_bags(BagOfWords.from_packed(*packed(sentences, dtype), weighting), sentences, weighting)
    assert_bags(BagOfWords.from_padded(*padded(sentences, dtype), weighting), sentences, weighting)


def test_rows_sum_to_one_unless_released_repeats() -> None:
    ids, offsets = packed([[1, 1, 2]], torch.int64)
    sums = {w: float(BagOfWords.from_packed(ids, offsets, w).weights.sum()) for w in WEIGHTINGS}
    assert sums == pytest.approx({"count": 1, "distinct": 1, "released": 2 / 3})


def test_non_contiguous_ids_and_a_slice_of_offsets() -> None:
    ids = torch.arange(12).view(3, 4).T  # (4, 3), columns are contiguous
    bags = BagOfWords.from_padded(ids, torch.tensor([3, 0, 1, 2]))
    assert_bags(bags, [[0, 4, 8], [], [2], [3, 7]], "count")
    tokens, offsets = packed([[9], [8, 8], [7]], torch.int64)
    assert_bags(BagOfWords.from_packed(tokens, offsets[1:]), [[8, 8], [7]], "count")


def test_arguments_are_not_modified() -> None:
    ids, offsets = packed(SENTENCES, torch.int64)
    before = ids.clone(), offsets.clone()
    BagOfWords.from_packed(ids, offsets)
    assert torch.equal(ids, before[0])
    assert torch.equal(offsets, before[1])


@pytest.mark.parametrize(
    ("ids", "offsets", "keywords", "message"),
    [
        (
            [1, 9],
            [0, 1, 2],
            {"vocab_size": 9},
            "sentence 1 has id 9 at position 0, expected 0 to 8",
        ),
        ([1, -4], [0, 2], {}, "sentence 0 has id -4 at position 1, expected 0 or more"),
        ([1], [0, 2], {}, "offsets: must ascend"),
        ([1, 2], [0, 2, 1], {}, "not ascending"),
        ([1, 2], [0, (1 << 63) - 1, -2, 2], {}, "not ascending"),
        ([1], [], {}, "offsets: shape"),
        ([[1]], [0, 1], {}, "ids: shape"),
        ([1.5], [0, 1], {}, "ids: dtype float32"),
        ([1], [0, 1], {"weighting": "tfidf"}, "weighting: got 'tfidf'"),
        ([1], [0, 1], {"vocab_size": 0}, "vocab_size: got 0"),
    ],
)
def test_bad_packed_input(ids: list, offsets: list, keywords: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        BagOfWords.from_packed(
            torch.tensor(ids), torch.tensor(offsets, dtype=torch.int64), **keywords
        )


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([1, 3], "row 1 has length 3, expected 0 to T = 2"),
        ([-1, 0], "row 0 has length -1"),
        ([1], "lengths: shape"),
        ([1.0, 1.0], "lengths: dtype float32"),
    ],
)
def test_bad_padded_input(lengths: list, message: str) -> None:
    with pytest.raises(InputError, match=message):
        BagOfWords.from_padded(torch.zeros(2, 2, dtype=torch.int64), torch.tensor(lengths))


@pytest.mark.parametrize(
    ("indptr", "indices", "weights", "message"),
    [
        ([0, 2], [1, 5], [0.5, 0.5], "id 5 is outside of the vocabulary, expected 0 to 4"),
        ([0, 2], [-1, 3], [0.5, 0.5], "id -1 is outside"),
        ([0, 1], [1, 2], [0.5, 0.5], "indptr: must ascend from 0 to the 2 entries"),
        ([0, 2, 1, 2], [1, 2], [0.5, 0.5], "indptr: must ascend"),
        ([0, 2], [1, 2], [0.5], "targets.weights: 1 for 2 indices"),
        ([0, 2], [1, 2], [0.5, -0.5], "targets.weights: -0.5"),
        ([0, 2], [1, 2], [0.5, float("nan")], "targets.weights: nan"),
        ([0, 2], [1, 2], [0.5, float("inf")], "targets.weights: inf"),
        ([], [], [], "indptr: empty"),
    ],
)
def test_check_names_what_is_wrong(
    indptr: list, indices: list, weights: list, message: str
) -> None:
    bags = BagOfWords(
        torch.tensor(indptr, dtype=torch.int64),
        torch.tensor(indices, dtype=torch.int64),
        torch.tensor(weights, dtype=torch.float32),
    )
    with pytest.raises(InputError, match=message):
        bags.check(5)


def test_check_wants_the_documented_dtypes() -> None:
    bags = BagOfWords.from_packed(*packed(SENTENCES, torch.int64))
    bags.check(8)
    with pytest.raises(InputError, match=r"targets\.weights: float64"):
        BagOfWords(bags.indptr, bags.indices, bags.weights.double()).check(8)


def test_entries_by_word() -> None:
    ids, offsets = packed(SENTENCES, torch.int64)
    bags = BagOfWords.from_packed(ids, offsets)
    assert bags.by_word is None
    words, ends, rows, order = bags.sorted_by_word().to("cpu").by_word.tolist()
    row_of = [row for row in range(len(bags)) for _ in range(*bags.indptr[row : row + 2].tolist())]
    assert list(zip(words, rows, strict=True)) == sorted(
        zip(bags.indices.tolist(), row_of, strict=True)
    )
    assert words == bags.indices[order].tolist()
    assert ends == [len(words) - words[::-1].index(word) for word in words]


def test_entries_by_word_of_nothing() -> None:
    bags = BagOfWords.from_packed(torch.empty(0, dtype=torch.int64), torch.tensor([0, 0]))
    assert bags.sorted_by_word().by_word.shape == (4, 0)


@pytest.mark.parametrize("wrong", [torch.zeros(4, 1, dtype=torch.int64), torch.zeros(4, 3)])
def test_wrong_entries_by_word(wrong: torch.Tensor) -> None:
    bags = BagOfWords(
        torch.tensor([0, 3]), torch.tensor([0, 1, 2]), torch.full((3,), 0.2), by_word=wrong
    )
    with pytest.raises(InputError, match=r"targets\.by_word: .*expected int64 \[4, 3\]"):
        xtr_loss(torch.zeros(1, 2), torch.zeros(5, 2), bags)
