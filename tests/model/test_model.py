"""The model against the plainest possible writing of its formulas, and its invariances."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.plain_ems import plain_embedding, plain_losses
from support.synthetic import TINY

from ems_fast.errors import InputError
from ems_fast.model.config import ModelConfig, preset
from ems_fast.model.ems import EMSModel
from ems_fast.model.encoder import SHORT
from ems_fast.model.packing import Packed, pack
from ems_fast.ops.bag_of_words import BagOfWords
from ems_fast.training.batches.batch import Batch
from ems_fast.training.objective import Objective, ObjectiveConfig


def random_sentences(
    rng: np.random.Generator, count: int, longest: int = 9, vocab_size: int = 50
) -> list[list[int]]:
    return [
        rng.integers(2, vocab_size, rng.integers(1, longest + 1)).tolist() for _ in range(count)
    ]


def packed(sentences: list[list[int]]) -> Packed:
    offsets = np.cumsum([0, *map(len, sentences)]).astype(np.int64)
    return pack(np.concatenate(sentences).astype(np.int64), offsets[:-1], np.diff(offsets))


def make_batch(sources: list[list[int]], targets: list[list[int]], weighting: str) -> Batch:
    B = len(sources)
    swapped = [*targets, *sources]
    bags = BagOfWords.from_packed(
        torch.tensor([token for sentence in swapped for token in sentence]),
        torch.tensor(np.cumsum([0, *map(len, swapped)])),
        weighting=weighting,
    )
    languages = torch.tensor([i % 3 for i in range(2 * B)])
    return Batch(packed([*sources, *targets]), bags, languages, torch.arange(B), torch.arange(B))


@pytest.fixture
def model() -> EMSModel:
    torch.manual_seed(1)
    model = EMSModel(ModelConfig(**{**TINY, "layers": 2}, vocab_size=50, languages=("a", "b", "c")))
    for parameter in model.parameters():  # biases and norms away from their trivial start
        torch.nn.init.normal_(parameter, std=0.3)
    return model.double()


@pytest.mark.parametrize("impl", ["reference", "fused"])
@pytest.mark.parametrize("weighting", ["count", "distinct", "released"])
@pytest.mark.parametrize("tied", [False, True])
def test_losses_and_gradients_follow_the_formulas(impl: str, weighting: str, tied: bool) -> None:
    torch.manual_seed(2)
    sizes = {**TINY, "layers": 2, "tied": tied}
    config = ModelConfig(**sizes, vocab_size=50, languages=("a", "b", "c"))
    model = EMSModel(config).double()
    rng = np.random.default_rng(0)
    sources, targets = random_sentences(rng, 6), random_sentences(rng, 6)
    sources[2] = targets[3] = [7, 7, 7, 9]  # repeated tokens
    batch = make_batch(sources, targets, weighting)
    losses = Objective(model, ObjectiveConfig(impl=impl))(batch)
    xtr, contrastive = plain_losses(
        model, sources, targets, batch.target_languages.tolist(), weighting
    )
    # BagOfWords keeps its weights in float32.
    torch.testing.assert_close(losses.xtr, xtr, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(losses.contrastive, contrastive)
    torch.testing.assert_close(losses.total, losses.xtr + 2 * losses.contrastive)
    parameters = dict(model.named_parameters())
    actual = torch.autograd.grad(losses.total, parameters.values())
    expected = torch.autograd.grad(xtr + 2 * contrastive, parameters.values())
    for name, one, other in zip(parameters, actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6, msg=name)


def test_a_sentence_does_not_depend_on_its_batch(model: EMSModel) -> None:
    sentences = random_sentences(np.random.default_rng(3), 20)
    together = model.encoder(packed(sentences))
    for sentence, vector in zip(sentences, together, strict=True):
        alone = model.encoder(packed([sentence]))[0]
        torch.testing.assert_close(vector, alone, rtol=0, atol=1e-6)
        torch.testing.assert_close(vector, plain_embedding(model, sentence))


@pytest.mark.parametrize("lengths", [[1], [3, 3, 3], [1, 2, SHORT, SHORT + 1, 100], [120, 5, 120]])
def test_attention_in_groups_equals_padded_attention(model: EMSModel, lengths: list[int]) -> None:
    rng = np.random.default_rng(4)
    batch = packed([rng.integers(2, 50, n).tolist() for n in lengths])
    attention = model.encoder.layers[0].attention
    qkv = torch.randn(batch.ids.numel(), 3 * 32, dtype=torch.float64)
    torch.testing.assert_close(
        attention._attend_groups(qkv, batch), attention._attend_padded(qkv, batch)
    )


def test_dropout_only_in_training() -> None:
    config = ModelConfig(**{**TINY, "dropout": 0.5}, vocab_size=50)
    model = EMSModel(config)
    batch = packed(random_sentences(np.random.default_rng(5), 4))
    assert not torch.equal(model.encoder(batch), model.encoder(batch))
    model.eval()
    assert torch.equal(model.encoder(batch), model.encoder(batch))


def test_presets_have_the_sizes_of_the_paper() -> None:
    ems = preset("ems")
    assert (ems.layers, ems.width, ems.heads, ems.ffn_width) == (6, 1024, 16, 4096)
    assert (ems.vocab_size, ems.language_width, ems.projection_width) == (60_000, 128, 128)
    assert ems.max_tokens == 120
    assert ems.head_width == 1152


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 3}, "heads: 3 does not divide width 256"),
        ({"layers": -1}, "layers: got -1"),
        ({"dropout": 1.0}, "dropout: got 1.0"),
    ],
)
def test_bad_sizes(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        preset("mini", **changes)


def test_unknown_preset() -> None:
    with pytest.raises(InputError, match="model: got 'large', expected one of 'static'"):
        preset("large")
