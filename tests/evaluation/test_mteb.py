from __future__ import annotations

import sys
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from support.synthetic import pairs

import ems_fast
from ems_fast.encoding.encoder import SentenceEncoder
from ems_fast.errors import BackendError, InputError
from ems_fast.evaluation import spearman
from ems_fast.evaluation.mteb import MtebEncoder
from ems_fast.text.tokenizer import train_tokenizer

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of mteb's dependencies, on import
    mteb = pytest.importorskip("mteb", minversion="2")
    datasets = pytest.importorskip("datasets")
    from mteb.abstasks import AbsTaskSTS
    from mteb.abstasks.task_metadata import TaskMetadata


ROWS = [(a, b, float(i % 6)) for i, (a, b) in enumerate(pairs("de", 12))]


class ToySts(AbsTaskSTS):
    metadata = TaskMetadata(
        name="ToySts", description="A dozen pairs.", type="STS", main_score="cosine_spearman",
        eval_langs=["eng-Latn"], dataset={"path": "none", "revision": "1"},
    )  # fmt: skip

    def load_data(self, **kwargs):
        first, second, score = zip(*ROWS, strict=True)
        columns = {"sentence1": first, "sentence2": second, "score": score}
        self.dataset = {
            "test": datasets.Dataset.from_dict({k: list(v) for k, v in columns.items()})
        }
        self.data_loaded = True


@pytest.mark.filterwarnings("ignore")  # mteb's own
def test_mteb_runs_the_model(run: Path) -> None:
    encoder = ems_fast.load(run)
    model = MtebEncoder(encoder, "toys/first")
    result = mteb.evaluate(model, ToySts(), cache=None, show_progress_bar=False, co2_tracker=False)
    (task,) = result.task_results
    first, second, score = zip(*ROWS, strict=True)
    a, b = (encoder.encode(side, normalize=True) for side in (first, second))
    assert task.get_score() == pytest.approx(spearman((a * b).sum(axis=1), score), abs=1e-6)
    assert result.model_name == "toys/first"
    assert result.model_revision == model.mteb_model_meta.revision


def test_is_an_encoder_of_mteb(run: Path) -> None:
    model = MtebEncoder(ems_fast.load(run))
    assert isinstance(model, mteb.EncoderProtocol)
    assert model.mteb_model_meta.embed_dim == model.encoder.dimension
    assert (
        model.mteb_model_meta.revision == MtebEncoder(ems_fast.load(run)).mteb_model_meta.revision
    )
    x, y = np.random.default_rng(0).standard_normal((2, 3, 5)).astype(np.float32)
    cosines = model.similarity(x, y)
    assert cosines.shape == (3, 3)
    assert model.similarity(x[0], y).shape == (1, 3)
    np.testing.assert_allclose(model.similarity_pairwise(x, y), cosines.diagonal(), atol=1e-6)
    np.testing.assert_allclose(
        cosines[1, 2], x[1] @ y[2] / np.linalg.norm(x[1]) / np.linalg.norm(y[2]), atol=1e-6
    )


def test_the_revision_covers_tokenizer_and_sizes(run: Path) -> None:
    encoder = ems_fast.load(run, device="cpu")
    sizes = replace(encoder.config, max_tokens=encoder.config.max_tokens - 1)
    tokenizer = train_tokenizer(["other text has other pieces"], 280)
    models = [
        encoder,
        SentenceEncoder(encoder.module, encoder.tokenizer, sizes, encoder.device),
        SentenceEncoder(encoder.module, tokenizer, encoder.config, encoder.device),
    ]
    assert len({MtebEncoder(model).mteb_model_meta.revision for model in models}) == 3


def test_what_it_cannot_do(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = ems_fast.load(run)
    with pytest.raises(InputError, match="name: got 'mine', expected 'organisation/model'"):
        MtebEncoder(encoder, "mine")
    task = SimpleNamespace(name="Photos")
    with pytest.raises(InputError, match="Photos gives image, but this model reads text only"):
        MtebEncoder(encoder).encode([{"image": [None]}], task_metadata=task)
    monkeypatch.setitem(sys.modules, "mteb.models", None)
    with pytest.raises(BackendError, match=r"pip install 'ems-fast\[mteb\]'"):
        MtebEncoder(encoder)
