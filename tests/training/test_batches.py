from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ems_fast._batching import PairReader, permuted_rows
from ems_fast.corpus import BinaryCorpus
from ems_fast.distributed.ranks import Ranks
from ems_fast.errors import InputError
from ems_fast.training import TrainOptions, split_options
from ems_fast.training.batches import BatchConfig, batch_stream
from ems_fast.training.batches.builder import BatchBuilder
from ems_fast.training.batches.config import GlobalBatch
from ems_fast.training.batches.sampler import PairSampler, Rows

ALONE = Ranks(0, 1, torch.device("cpu"))


@given(st.integers(1, 300), st.integers(0, 2**31), st.integers(0, 1000))
def test_every_row_once_before_any_twice(n: int, seed: int, epoch: int) -> None:
    rows = np.empty(2 * n, dtype=np.int64)
    permuted_rows(epoch * n, n, seed, rows)
    assert sorted(rows[:n]) == list(range(n))
    assert sorted(rows[n:]) == list(range(n))


def test_epochs_and_seeds_differ() -> None:
    n = 1000
    orders = []
    for seed in (1, 2):
        rows = np.empty(2 * n, dtype=np.int64)
        permuted_rows(0, n, seed, rows)
        orders += [rows[:n].tolist(), rows[n:].tolist()]
    for one, other in itertools.combinations(orders, 2):
        assert sum(a == b for a, b in zip(one, other, strict=True)) < 20


def test_rows_are_spread_evenly() -> None:
    """A walk through a large shard does not linger in one place."""
    rows = np.empty(10_000, dtype=np.int64)
    permuted_rows(0, 143_000_000, 7, rows)
    counts = np.histogram(rows, bins=10, range=(0, 143_000_000))[0]
    assert counts.min() > 850
    assert counts.max() < 1150


def sampler(corpus: BinaryCorpus, config: BatchConfig, **state: object) -> PairSampler:
    builder = BatchBuilder(corpus, config.weighting)
    batch = config.global_batch(1)
    return PairSampler(builder.reader, builder.sizes, builder.tokens, batch, config, **state)


@pytest.mark.parametrize(
    ("size", "drawn_batches", "states"),
    [
        ({"batch_pairs": 10}, 250, (0, 30, 63, 64, 110, 111, 112, 200)),
        ({"batch_tokens": 2000}, 90, (0, 20, 40, 70)),
    ],
)
def test_a_sampler_continues_from_any_state(
    corpus: BinaryCorpus, size: dict[str, int], drawn_batches: int, states: tuple[int, ...]
) -> None:
    config = BatchConfig(seed=3, **size)
    drawn = list(itertools.islice(sampler(corpus, config), drawn_batches))
    assert drawn[-1][1]["pool"] >= 2
    for at in states:
        continued = itertools.islice(sampler(corpus, config, state=drawn[at][1]), 40)
        for (rows, state), (expected, expected_state) in zip(
            continued, drawn[at + 1 :], strict=False
        ):
            assert np.array_equal(rows.shard, expected.shard)
            assert np.array_equal(rows.row, expected.row)
            assert state == expected_state


def test_an_exponent_of_one_sees_every_pair_about_once_an_epoch(corpus: BinaryCorpus) -> None:
    config = BatchConfig(batch_pairs=50, sampling_exponent=1.0)
    steps = corpus.num_pairs // 50
    seen = [rows for rows, _ in itertools.islice(sampler(corpus, config), steps)]
    distinct = {
        (s, r) for rows in seen for s, r in zip(rows.shard.tolist(), rows.row.tolist(), strict=True)
    }
    assert len(distinct) > 0.9 * 50 * steps


@pytest.mark.parametrize(("exponent", "share"), [(1.0, 0.9), (0.5, 0.75), (0.0, 0.5)])
def test_language_pairs_are_drawn_by_the_power_of_their_size(exponent: float, share: float) -> None:
    offsets = np.arange(2 * 900 + 1, dtype=np.int64)
    shard = (np.zeros(2 * 900, dtype=np.uint16), offsets, np.zeros(2 * 900, dtype=np.int64))
    config = BatchConfig(batch_pairs=100, sampling_exponent=exponent)
    drawn = PairSampler(
        PairReader([shard, shard], 1), [900, 100], [1800, 200], config.global_batch(1), config
    )
    rows = [rows for rows, _ in itertools.islice(drawn, 64)]
    assert np.mean([(r.shard == 0).mean() for r in rows]) == pytest.approx(share, abs=0.02)


def test_a_batch_holds_what_the_corpus_has(corpus: BinaryCorpus) -> None:
    builder = BatchBuilder(corpus, "count")
    rows = Rows(np.array([0, 1, 0, 1], np.int32), np.array([5, 0, 17, 3], np.int64))
    batch = builder.build(rows)
    tokens = []
    for side in (0, 1):
        for shard, row in zip(rows.shard, rows.row, strict=True):
            tokens.append(corpus.shards[shard].pair(row)[side].tolist())
    starts = np.cumsum([0] + [n_T for n, T in batch.sentences.groups for n_T in [T] * n])
    for k, expected in enumerate(tokens):
        place = batch.sentences.order[k]
        assert batch.sentences.ids[starts[place] : starts[place + 1]].tolist() == expected
        # The target of sentence k is the other side of its pair.
        other = tokens[(k + 4) % 8]
        entries = slice(*batch.targets.indptr[k : k + 2].tolist())
        assert batch.targets.indices[entries].tolist() == sorted(set(other))
        counts = [other.count(token) / len(other) for token in sorted(set(other))]
        torch.testing.assert_close(batch.targets.weights[entries], torch.tensor(counts))
    languages = [corpus.languages[i] for i in batch.target_languages.tolist()]
    shards = [corpus.shards[s] for s in rows.shard]
    assert languages == [s.target for s in shards] + [s.source for s in shards]
    assert batch.source_hashes.tolist() == [
        s.hashes[2 * r] for s, r in zip(shards, rows.row, strict=True)
    ]
    assert batch.target_hashes.tolist() == [
        s.hashes[2 * r + 1] for s, r in zip(shards, rows.row, strict=True)
    ]


def test_sentences_of_a_batch_are_about_equally_long(corpus: BinaryCorpus) -> None:
    stream = batch_stream(corpus, BatchConfig(batch_pairs=16), ALONE)
    padded = tokens = 0
    for batch, _ in itertools.islice(stream, 64):
        padded += batch.sentences.groups[-1][1] * batch.sentences.num_sentences
        tokens += batch.num_tokens
    stream.close()
    assert padded / tokens < 1.5  # of random batches of this text: about 1.9


@pytest.mark.parametrize(("size", "n"), [("batch_pairs", 4), ("batch_tokens", 2000)])
def test_ranks_share_a_global_batch(corpus: BinaryCorpus, size: str, n: int) -> None:
    whole = batch_stream(corpus, BatchConfig(**{size: 2 * n}), ALONE)
    parts = [
        batch_stream(corpus, BatchConfig(**{size: n}), Ranks(rank, 2, torch.device("cpu")))
        for rank in (0, 1)
    ]
    for (batch, state), *halves in itertools.islice(zip(whole, *parts, strict=False), 5):
        ids = torch.stack([half.source_hashes for half, _ in halves], dim=1).ravel()
        assert torch.equal(ids, batch.source_hashes)
        assert all(half_state == state for _, half_state in halves)
    for stream in (whole, *parts):
        stream.close()


@given(
    st.lists(st.integers(2, 240), min_size=1, max_size=400),
    st.sampled_from([1, 2, 8]),
    st.integers(240 * 8, 6000),
)
def test_a_token_budget_is_kept(lengths: list[int], multiple: int, budget: int) -> None:
    lengths = sorted(lengths)[: len(lengths) // multiple * multiple]
    if not lengths:
        return
    tokens = np.array(lengths, dtype=np.int64)
    cuts = GlobalBatch(None, budget, multiple).cut(tokens)
    assert [i for cut in cuts for i in range(cut.start, cut.stop)] == list(range(len(tokens)))
    sums = [int(tokens[cut].sum()) for cut in cuts]
    assert max(sums) <= budget
    assert all((cut.stop - cut.start) % multiple == 0 for cut in cuts)
    # No more batches than filling each as far as it goes takes.
    greedy, spent = 1, 0
    for unit in tokens.reshape(-1, multiple).sum(axis=1).tolist():
        if spent + unit > budget:
            greedy, spent = greedy + 1, 0
        spent += unit
    assert len(cuts) == greedy


def test_batches_by_tokens(corpus: BinaryCorpus) -> None:
    """They hold the budget, differ in pairs, and see every pair about once an epoch."""
    config = BatchConfig(batch_tokens=2400, sampling_exponent=1.0)
    stream = batch_stream(corpus, config, ALONE)
    sizes, tokens = [], []
    for batch, _ in itertools.islice(stream, 100):
        sizes.append(batch.num_pairs)
        tokens.append(batch.num_tokens)
    stream.close()
    assert max(tokens) <= 2400
    assert np.mean(tokens) > 0.9 * 2400
    assert all(size % 8 == 0 for size in sizes)
    assert max(sizes) > 1.5 * min(sizes)


def test_batches_of_another_size_go_on_with_the_next_pool(corpus: BinaryCorpus) -> None:
    """What was seen is not seen again in the same epoch."""
    before = BatchConfig(batch_pairs=4, sampling_exponent=1.0)
    drawn = list(itertools.islice(sampler(corpus, before), 10))
    seen = {
        (int(s), int(r)) for rows, _ in drawn for s, r in zip(rows.shard, rows.row, strict=True)
    }
    for after in (BatchConfig(batch_pairs=6, sampling_exponent=1.0),
                  BatchConfig(batch_tokens=2000, sampling_exponent=1.0)):  # fmt: skip
        continued = sampler(corpus, after, state=drawn[-1][1])
        rows, state = next(iter(continued))
        assert state["pool"] == 1
        assert sum(state["consumed"]) == 64 * 4
        if after.batch_pairs:  # the other's pools are an epoch long
            again = {(int(s), int(r)) for s, r in zip(rows.shard, rows.row, strict=True)}
            assert not seen & again


def test_a_state_of_an_earlier_version_continues(corpus: BinaryCorpus) -> None:
    """Before batches could be cut in other ways, the state did not say how they were."""
    config = BatchConfig(batch_pairs=10)
    (_, state), (expected, _) = itertools.islice(sampler(corpus, config), 2)
    del state["cuts"]
    rows, _ = next(iter(sampler(corpus, config, state=state)))
    assert np.array_equal(rows.row, expected.row)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_pairs": 8, "batch_tokens": 4000}, "batch_pairs, batch_tokens: got 8 and 4000; gi"),
        ({"batch_tokens": 0}, "batch_tokens: got 0, expected at least 1"),
        ({"batch_tokens": 1000}, "batch_tokens: got 1000, expected at least 1920: a step has a mu"),
    ],
)
def test_bad_sizes(corpus: BinaryCorpus, options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        BatchConfig(**options).require_enough_pairs(corpus, world=1)


def test_one_size_replaces_the_other() -> None:
    """A resumed run takes either, whichever it had before."""
    tokens = split_options({"batch_tokens": 4000})
    assert (tokens.batches.batch_pairs, tokens.batches.batch_tokens) == (None, 4000)
    pairs = split_options({"batch_pairs": 8}, tokens)
    assert (pairs.batches.batch_pairs, pairs.batches.batch_tokens) == (8, None)
    assert split_options({}, tokens).batches == tokens.batches
    assert split_options({}).batches.batch_pairs == 256
    assert TrainOptions.from_sections(tokens.sections()) == tokens
    with pytest.raises(InputError, match="give one of them"):
        split_options({"batch_pairs": 8, "batch_tokens": 4000})


def test_a_batch_larger_than_the_corpus(corpus: BinaryCorpus) -> None:
    with pytest.raises(
        InputError, match=r"batch_pairs: 100000 pairs a step, but the corpus has only"
    ):
        BatchConfig(batch_pairs=100_000).require_enough_pairs(corpus, world=1)


def test_an_error_in_the_thread_reaches_the_trainer(
    corpus: BinaryCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: BatchBuilder, rows: Rows, targets: slice) -> None:
        raise OSError("the disk went away")

    monkeypatch.setattr(BatchBuilder, "build", fail)
    stream = batch_stream(corpus, BatchConfig(batch_pairs=8), ALONE)
    with pytest.raises(OSError, match="the disk went away"):
        next(iter(stream))
    stream.close()
