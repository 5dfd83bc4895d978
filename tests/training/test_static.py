"""Training token tables: models without layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.processes import join, said, start_two
from support.synthetic import TINY, ending_after, write_text

import ems_fast
from ems_fast import BinaryCorpus, InputError, ModelConfig
from ems_fast.model.config import PRESETS, preset, preset_name
from ems_fast.model.ems import EMSModel
from ems_fast.runs.folder import RunFolder
from ems_fast.training.adagrad import RowwiseAdagrad
from ems_fast.training.clipping import clip_gradients

TABLE = ModelConfig(layers=0, width=32, projection_width=0, reconstruction=False)
QUICK = {"batch_pairs": 32, "log_steps": 1, "evaluations": 1}


def fit(corpus: BinaryCorpus, folder: Path, **options: object) -> ems_fast.TrainResult:
    settings = {"model": TABLE, "device": "cpu", "progress": False, **QUICK, **options}
    return ems_fast.train(corpus.path, folder, **settings)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return RunFolder(folder).read_checkpoint()["model"]


# -- the model -----------------------------------------------------------------------------------


def test_a_table_has_nothing_but_its_table() -> None:
    model = EMSModel(preset("static", vocab_size=300))
    assert {name: tuple(p.shape) for name, p in model.named_parameters()} == {
        "encoder.tokens.weight": (300, 256)
    }


def test_presets_are_called_by_their_name() -> None:
    for name, config in PRESETS.items():
        assert preset_name(preset(name, vocab_size=500, languages=("de", "en"))) == name
        assert preset_name(preset(name, width=2 * config.width)) == "custom"


# -- the optimiser -------------------------------------------------------------------------------


def plain_adagrad(
    weight: np.ndarray, gradients: list[np.ndarray], lr: float, decay: float
) -> np.ndarray:
    """The definition, one row after another."""
    weight, total = weight.copy(), np.zeros(len(weight))
    for gradient in gradients:
        for row, g in enumerate(gradient):
            if np.any(g):
                total[row] += np.mean(g**2)
                weight[row] -= lr * (g / (np.sqrt(total[row]) + 1e-10) + decay * weight[row])
    return weight


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("shape", [(7, 3), (7,)])
def test_rowwise_adagrad_is_its_definition(shape: tuple[int, ...], sparse: bool) -> None:
    rng = np.random.default_rng(0)
    start = rng.standard_normal(shape)
    gradients = []
    for _ in range(5):
        gradient = rng.standard_normal(shape)
        gradient[rng.integers(0, 7, 4)] = 0.0
        gradients.append(gradient)
    weight = torch.tensor(start, dtype=torch.float32, requires_grad=True)
    optimizer = RowwiseAdagrad([weight], lr=0.1, weight_decay=0.01)
    for gradient in gradients:
        dense = torch.tensor(gradient, dtype=torch.float32)
        if sparse:
            rows = torch.tensor(gradient.reshape(7, -1).any(axis=1)).nonzero()[:, 0]
            dense = torch.sparse_coo_tensor(rows[None], dense[rows], shape, check_invariants=True)
        weight.grad = dense
        optimizer.step()
    expected = plain_adagrad(start.reshape(7, -1), [g.reshape(7, -1) for g in gradients], 0.1, 0.01)
    np.testing.assert_allclose(weight.detach().numpy().reshape(7, -1), expected, rtol=1e-5)


def test_a_bad_step_is_left_out() -> None:
    weight = torch.ones(3, 2, requires_grad=True)
    optimizer = RowwiseAdagrad([weight], lr=0.1)
    weight.grad = torch.full((3, 2), torch.nan)
    optimizer.found_inf = torch.tensor(1.0)
    optimizer.step()
    assert torch.equal(weight.detach(), torch.ones(3, 2))


@pytest.mark.parametrize("max_norm", [0.1, 1e9])
def test_sparse_gradients_are_clipped_as_dense_ones(max_norm: float) -> None:
    torch.manual_seed(0)
    rows, values = torch.tensor([[1, 4]]), torch.randn(2, 3)
    dense = torch.zeros(6, 3, requires_grad=True)
    mixed = [torch.zeros(6, 3, requires_grad=True), torch.zeros(4, requires_grad=True)]
    other = torch.zeros(4, requires_grad=True)
    mixed[0].grad = torch.sparse_coo_tensor(rows, values, (6, 3), check_invariants=True)
    dense.grad = mixed[0].grad.to_dense()
    mixed[1].grad = torch.randn(4)
    other.grad = mixed[1].grad.clone()
    norm = clip_gradients(mixed, max_norm)
    wanted = torch.nn.utils.clip_grad_norm_([dense, other], max_norm)
    torch.testing.assert_close(norm, wanted)
    torch.testing.assert_close(mixed[0].grad.to_dense(), dense.grad)
    torch.testing.assert_close(mixed[1].grad, other.grad)


# -- training ------------------------------------------------------------------------------------


def test_a_table_learns_to_translate(corpus: BinaryCorpus, tmp_path: Path) -> None:
    result = fit(corpus, tmp_path / "run", max_steps=60)
    assert result.metrics["accuracy"]["held-out"] > 0.8  # chance is 1/20
    encoder = ems_fast.load(tmp_path / "run")
    sentences = ["babo dede", "", "dede babo babo"]
    together = encoder.encode(sentences[:1] + sentences[2:])
    np.testing.assert_allclose(together[0], encoder.encode(sentences[:1])[0], atol=1e-6)
    half = ems_fast.load(tmp_path / "run", dtype="bfloat16").encode(sentences[:1])
    np.testing.assert_allclose(half, together[:1], rtol=0.02, atol=0.02)


def test_the_recommended_options_are_written_and_can_be_replaced(
    corpus: BinaryCorpus, tmp_path: Path
) -> None:
    fit(corpus, tmp_path / "run", max_steps=1, temperature=0.2, learning_rate=0.3)
    config = RunFolder(tmp_path / "run").read_config()
    assert config["optimizer"]["optimizer"] == "rowwise-adagrad"
    assert config["optimizer"]["learning_rate"] == 0.3
    assert config["objective"]["xtr_weight"] == 0.0
    assert config["objective"]["temperature"] == 0.2
    assert config["batches"]["sort_by_length"] is False


@pytest.mark.parametrize("optimizer", ["rowwise-adagrad", "adamw"])
def test_resuming_is_exact(corpus: BinaryCorpus, tmp_path: Path, optimizer: str) -> None:
    options = {"optimizer": optimizer, "max_steps": 12}
    fit(corpus, tmp_path / "whole", **options)
    with ending_after(6):
        fit(corpus, tmp_path / "parts", **options)
    ems_fast.train(None, tmp_path / "parts", resume=True, device="cpu", progress=False)
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_slices_change_nothing(corpus: BinaryCorpus, tmp_path: Path) -> None:
    fit(corpus, tmp_path / "whole", max_steps=4)
    fit(corpus, tmp_path / "slices", max_steps=4, slice_tokens=100)
    for name, weight in weights(tmp_path / "whole").items():
        torch.testing.assert_close(weights(tmp_path / "slices")[name], weight, atol=1e-5, rtol=1e-5)


def test_two_ranks_equal_one(corpus: BinaryCorpus, tmp_path: Path) -> None:
    fit(corpus, tmp_path / "one", max_steps=4)
    run, options = tmp_path / "two", {**QUICK, "model": TABLE, "batch_pairs": 16}
    codes = join(*start_two(corpus.path, run, max_steps=4, **options))
    assert codes == [0, 0], said(run, 0).read_text() + said(run, 1).read_text()
    for name, weight in weights(tmp_path / "one").items():
        np.testing.assert_allclose(weights(run)[name], weight, atol=1e-4, err_msg=name)


def test_a_table_with_xtr(corpus: BinaryCorpus, tmp_path: Path) -> None:
    model = ModelConfig(layers=0, width=32, projection_width=16, language_width=8)
    result = fit(corpus, tmp_path / "run", model=model, max_steps=3)
    config = RunFolder(result.output_dir).read_config()
    assert config["objective"]["xtr_weight"] == 1.0
    lines = RunFolder(result.output_dir).read_metrics()
    assert all(line["xtr"] > 0 for line in lines if line["event"] == "train")


def test_layers_without_a_projection(corpus: BinaryCorpus, tmp_path: Path) -> None:
    model = ModelConfig(**{**TINY, "projection_width": 0})
    result = fit(corpus, tmp_path / "run", model=model, max_steps=3, precision="fp32")
    assert result.encoder.encode(["babo"]).shape == (1, 32)


def test_a_small_corpus_gets_small_batches(tmp_path: Path) -> None:
    text = write_text(tmp_path / "text", languages=("de",), n=200)
    result = ems_fast.train(text, tmp_path / "run", max_steps=2, device="cpu", progress=False)
    config = RunFolder(result.output_dir).read_config()
    assert config["batches"]["batch_pairs"] == result.corpus.num_pairs // 8
    assert config["model"]["layers"] == 0


# -- bad input -----------------------------------------------------------------------------------


def test_xtr_needs_its_head(corpus: BinaryCorpus, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"xtr_weight: got 0\.5, but the model has no XTR head"):
        fit(corpus, tmp_path / "run", xtr_weight=0.5)
    assert not (tmp_path / "run").exists()


def test_nothing_to_prepare(corpus: BinaryCorpus, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"prepare_options: got \{'tags'.* is prepared already"):
        fit(corpus, tmp_path / "run", prepare_options={"tags": ["tat"]})
    fit(corpus, tmp_path / "run", max_steps=1)
    with pytest.raises(InputError, match=r"prepare_options: .*a run is resumed with the corpus"):
        ems_fast.train(None, tmp_path / "run", resume=True, prepare_options={"seed": 1})


def test_an_unknown_kind_of_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="tokenizer_type: got 'wordpiece', expected one of"):
        ems_fast.prepare(
            write_text(tmp_path / "text", n=20), tmp_path / "corpus", tokenizer_type="wordpiece"
        )


def test_a_run_of_another_version(corpus: BinaryCorpus, tmp_path: Path) -> None:
    fit(corpus, tmp_path / "run", max_steps=1)
    path = tmp_path / "run" / "config.toml"
    path.write_text(path.read_text().replace("[objective]\n", "[objective]\nolder = 1\n"))
    with pytest.raises(InputError, match=r"\[objective\] has older, which this version does not"):
        ems_fast.train(None, tmp_path / "run", resume=True)
