"""The options of the contrastive loss, from the keyword of `train` to the weights of a run."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.processes import join, said, start_two
from support.synthetic import TINY, ending_after, tiny_options

import ems_fast
from ems_fast import BinaryCorpus, InputError, ModelConfig
from ems_fast.cli.parser import build_parser
from ems_fast.distributed.ranks import Ranks
from ems_fast.model.ems import EMSModel
from ems_fast.runs.folder import RunFolder
from ems_fast.training import split_options
from ems_fast.training.batches import batch_stream
from ems_fast.training.objective import Objective, ObjectiveConfig, learnt_temperature

QUICK: dict[str, Any] = {
    "batch_pairs": 16, "precision": "fp32", "log_steps": 1, "evaluations": 1, "max_steps": 4
}  # fmt: skip
OPTIONS: dict[str, Any] = {
    "contrastive_margin": 0.2, "hardness": 3.0, "learn_temperature": True,
    "several_positives": True, "matryoshka": (8, 16),
}  # fmt: skip
MODEL = ModelConfig(**{**TINY, "projection_width": 0})


def fit(corpus: BinaryCorpus, folder: Path, **options: Any) -> ems_fast.TrainResult:
    settings = {"model": MODEL, "device": "cpu", "progress": False, **QUICK, **OPTIONS, **options}
    return ems_fast.train(corpus.path, folder, **settings)


def checkpoint(folder: Path) -> dict[str, torch.Tensor]:
    model: dict[str, torch.Tensor] = RunFolder(folder).read_checkpoint()["model"]
    return model


@pytest.mark.parametrize("optimizer", ["adamw", "rowwise-adagrad"])
def test_a_run_with_all_of_them_resumes_exactly(
    corpus: BinaryCorpus, tmp_path: Path, optimizer: str
) -> None:
    options = {"optimizer": optimizer, "warmup_steps": 1, "max_steps": 6}
    fit(corpus, tmp_path / "whole", **options)
    with ending_after(3):
        fit(corpus, tmp_path / "parts", **options)
    ems_fast.train(None, tmp_path / "parts", resume=True, device="cpu", progress=False)
    whole, parts = checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert ems_fast.load(tmp_path / "whole").encode(["ba"]).shape == (1, 32)
    lines = RunFolder(tmp_path / "whole").read_metrics()
    temperatures = [line["temperature"] for line in lines if line["event"] == "train"]
    assert len(set(temperatures)) == 6
    assert all(0.01 < value < 1 for value in temperatures)


def test_two_ranks_equal_one(corpus: BinaryCorpus, tmp_path: Path) -> None:
    fit(corpus, tmp_path / "one")
    options = {**QUICK, **OPTIONS, "batch_pairs": 8, "model": MODEL}
    codes = join(*start_two(corpus.path, tmp_path / "two", **options))
    assert codes == [0, 0], said(tmp_path / "two", 0).read_text()
    one, two = checkpoint(tmp_path / "one"), checkpoint(tmp_path / "two")
    for name, weight in one.items():
        np.testing.assert_allclose(two[name].numpy(), weight.numpy(), atol=1e-5, err_msg=name)


@pytest.mark.parametrize("impl", ["fused", "reference"])
def test_a_learnt_temperature_begins_where_it_is_told(corpus: BinaryCorpus, impl: Any) -> None:
    stream = batch_stream(corpus, tiny_options().batches, Ranks(0, 1, torch.device("cpu")))
    batch = next(batch for batch, _ in islice(stream, 1))
    stream.close()
    totals = []
    for learn in (False, True):
        torch.manual_seed(0)
        model = EMSModel(ModelConfig(**TINY, vocab_size=600, languages=("de", "en", "fr")))
        config = ObjectiveConfig(temperature=0.07, learn_temperature=learn, impl=impl)
        objective = Objective(model.eval(), config)
        losses = objective(batch)
        losses.total.backward()
        totals.append(losses.total.item())
    assert totals[0] == pytest.approx(totals[1], rel=1e-5)
    temperature = learnt_temperature(model)
    assert temperature is not None
    assert temperature.item() == pytest.approx(0.07)
    assert model.log_temperature.grad.abs().item() > 0


def test_the_command_line_has_them() -> None:
    given = ["--matryoshka", "8", "16", "--several-positives", "--hardness", "2"]
    parsed = vars(build_parser().parse_args(["train", "x.tsv", "--output", "out", *given]))
    options = split_options(
        {name: parsed[name] for name in ("matryoshka", "several_positives", "hardness")}
    )
    assert options.objective.matryoshka == (8, 16)
    assert options.objective.several_positives
    assert options.objective.hardness == 2.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hardness": -1.0}, "hardness: got -1.0, expected 0 or more"),
        ({"matryoshka": (16, 8)}, r"matryoshka: got \(16, 8\), expected ascending widths"),
        ({"matryoshka_weight": 0}, "matryoshka_weight: got 0.0, expected more than 0 and finite"),
        ({"matryoshka": (0,)}, r"matryoshka: got \(0,\), expected ascending widths of 1"),
        ({"matryoshka": 64}, "matryoshka: got 64, expected several numbers of type int"),
        ({"matryoshka": "64"}, "matryoshka: got '64', expected several numbers"),
        ({"matryoshka": [1.5]}, r"matryoshka: got 1\.5, expected int"),
        ({"hardness": 1.0, "contrastive_weight": 0.0}, "hardness: got 1.0, an option of the"),
        (
            {"several_positives": True, "mask_duplicates": False},
            "several_positives: got True with mask_duplicates=False",
        ),
        (
            {"learn_temperature": True, "temperature": 0.01},
            "temperature: got 0.01, expected more than 0.01 where it is learnt",
        ),
    ],
)
def test_bad_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        split_options(options)


@pytest.mark.parametrize(
    ("changes", "widths", "message"),
    [
        ({"projection_width": 8}, (8,), "contrastive loss on a projection"),
        ({}, (8, 32), r"matryoshka: got \(8, 32\), expected less than the model's width 32"),
    ],
)
def test_a_model_that_does_not_fit(
    changes: dict[str, Any], widths: tuple[int, ...], message: str
) -> None:
    sizes = {**TINY, "projection_width": 0, **changes}
    model = ModelConfig(**sizes, vocab_size=600, languages=("de", "en"))
    with pytest.raises(InputError, match=message):
        ObjectiveConfig(matryoshka=widths).check_model(model)
