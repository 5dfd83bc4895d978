"""XTR on some steps and some sentences: an estimate of the whole loss without bias."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support.processes import join, said, start_two
from support.synthetic import TINY, ending_after

import ems_fast
from ems_fast import BinaryCorpus, InputError, ModelConfig
from ems_fast.distributed.ranks import Ranks
from ems_fast.model.ems import EMSModel
from ems_fast.runs.folder import RunFolder
from ems_fast.training.batch_file import load_batch, save_batch
from ems_fast.training.batches import BatchConfig
from ems_fast.training.batches.batch import Batch
from ems_fast.training.batches.builder import BatchBuilder
from ems_fast.training.batches.sampler import PairSampler, Rows
from ems_fast.training.batches.stream import batch_stream
from ems_fast.training.objective import Objective, ObjectiveConfig

ALONE = Ranks(0, 1, torch.device("cpu"))
TABLE = ModelConfig(layers=0, width=32, language_width=8)
QUICK = {"batch_pairs": 16, "log_steps": 1, "evaluations": 1, "precision": "fp32"}


def fit(corpus: BinaryCorpus, folder: Path, **options: Any) -> ems_fast.TrainResult:
    settings = {"model": TABLE, "device": "cpu", "progress": False, **QUICK, **options}
    return ems_fast.train(corpus.path, folder, **settings)


def rows(builder: BatchBuilder, B: int) -> Rows:
    config = BatchConfig(batch_pairs=B)
    drawn = PairSampler(
        builder.reader, builder.sizes, builder.tokens, config.global_batch(1), config
    )
    return next(iter(drawn))[0]


@pytest.mark.parametrize("impl", ["reference", "fused"])
@pytest.mark.parametrize(("every", "one_in"), [(1, 1), (3, 1), (1, 4), (2, 3), (2, 50)])
@pytest.mark.parametrize("config", [TABLE, ModelConfig(**TINY)], ids=["table", "layers"])
def test_the_mean_over_all_turns_is_the_whole_loss(
    corpus: BinaryCorpus, config: ModelConfig, every: int, one_in: int, impl: Any
) -> None:
    """Loss and gradient of one batch, over as many steps as there are turns."""
    torch.manual_seed(0)
    languages = tuple(corpus.languages)
    sizes = {**vars(config), "vocab_size": corpus.vocab_size, "languages": languages}
    model = EMSModel(ModelConfig(**sizes)).double()
    builder = BatchBuilder(corpus, "count")
    drawn = rows(builder, 10)

    def losses(options: ObjectiveConfig, steps: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
        objective, total = Objective(model, options), torch.zeros((), dtype=torch.float64)
        for step in range(steps):
            found = objective(builder.build(drawn, options.reconstructed(step)))
            total = total + found.total / steps
        gradients = torch.autograd.grad(total, [*model.parameters()], allow_unused=True)
        return total, [g for g in gradients if g is not None]

    whole = losses(ObjectiveConfig(impl=impl), 1)
    parts = losses(ObjectiveConfig(impl=impl, xtr_every=every, xtr_one_in=one_in), every * one_in)
    torch.testing.assert_close(parts[0], whole[0])
    torch.testing.assert_close(parts[1], whole[1])


def test_bags_are_those_of_the_chosen_sentences(corpus: BinaryCorpus) -> None:
    builder = BatchBuilder(corpus, "count")
    drawn = rows(builder, 9)
    whole, some = builder.build(drawn), builder.build(drawn, slice(2, None, 5))
    assert whole.target_rows is None
    assert some.target_rows is not None
    assert some.target_rows.tolist() == [2, 7, 12, 17]
    assert len(some.targets) == 4
    for k, row in enumerate(some.target_rows.tolist()):
        for bags in ("indices", "weights"):
            ours, theirs = getattr(some.targets, bags), getattr(whole.targets, bags)
            mine = slice(*some.targets.indptr[k : k + 2].tolist())
            of_whole = slice(*whole.targets.indptr[row : row + 2].tolist())
            assert torch.equal(ours[mine], theirs[of_whole])
    none = builder.build(drawn, slice(0))
    assert len(none.targets) == 0
    assert none.num_pairs == 9


def test_a_batch_s_file_knows_them(corpus: BinaryCorpus, tmp_path: Path) -> None:
    builder = BatchBuilder(corpus, "count")
    for chosen in (slice(None), slice(1, None, 3), slice(0)):
        batch = builder.build(rows(builder, 6), chosen)
        save_batch(tmp_path / "batch.safetensors", batch, corpus, "note")
        found = load_batch(tmp_path / "batch.safetensors")
        assert torch.equal(found.targets.indices, batch.targets.indices)
        if batch.target_rows is None:
            assert found.target_rows is None
        else:
            assert found.target_rows is not None
            assert torch.equal(found.target_rows, batch.target_rows)


def test_a_stream_asks_for_each_batch(corpus: BinaryCorpus) -> None:
    stream = batch_stream(
        corpus, BatchConfig(batch_pairs=8), ALONE, targets=lambda number: slice(number)
    )
    found: list[Batch] = [next(stream)[0] for _ in range(4)]
    stream.close()
    assert [len(batch.targets) for batch in found] == [0, 1, 2, 3]


OPTIONS = {"xtr_every": 2, "xtr_one_in": 3}


def xtr(folder: Path) -> list[float]:
    return [line["xtr"] for line in RunFolder(folder).read_metrics() if line["event"] == "train"]


def test_some_steps_reconstruct(corpus: BinaryCorpus, tmp_path: Path) -> None:
    fit(corpus, tmp_path / "whole", max_steps=4)
    fit(corpus, tmp_path / "run", max_steps=4, **OPTIONS)
    found = xtr(tmp_path / "run")
    assert found[1::2] == [0.0, 0.0]
    assert found[0] == pytest.approx(2 * xtr(tmp_path / "whole")[0], rel=0.2)


def test_resuming_is_exact(corpus: BinaryCorpus, tmp_path: Path) -> None:
    fit(corpus, tmp_path / "whole", max_steps=10, **OPTIONS)
    with ending_after(5):
        fit(corpus, tmp_path / "parts", max_steps=10, **OPTIONS)
    ems_fast.train(None, tmp_path / "parts", resume=True, device="cpu", progress=False)
    assert xtr(tmp_path / "parts") == xtr(tmp_path / "whole")
    one, other = (RunFolder(tmp_path / n).read_checkpoint()["model"] for n in ("whole", "parts"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_on_two_ranks(corpus: BinaryCorpus, tmp_path: Path) -> None:
    """On some steps only, two ranks equal one; with some sentences they only finish."""
    for name, options in (("every", {"xtr_every": 2}), ("both", OPTIONS)):
        run = tmp_path / name
        given = {**QUICK, "model": TABLE, "batch_pairs": 8, **options}
        codes = join(*start_two(corpus.path, run, max_steps=4, **given))
        assert codes == [0, 0], said(run, 0).read_text() + said(run, 1).read_text()
    fit(corpus, tmp_path / "one", max_steps=4, xtr_every=2)
    one, two = (RunFolder(tmp_path / n).read_checkpoint()["model"] for n in ("one", "every"))
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, atol=1e-4, rtol=0, msg=name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"xtr_every": 0}, "xtr_every: got 0, expected at least 1"),
        ({"xtr_one_in": -1}, "xtr_one_in: got -1, expected at least 1"),
        ({"xtr_weight": 0.0, "xtr_every": 2}, "xtr_every: got 2, but xtr_weight is 0"),
        ({"contrastive_weight": 0.0, "xtr_one_in": 2}, "xtr_one_in: .* contrastive_weight is 0"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ObjectiveConfig(**options)
