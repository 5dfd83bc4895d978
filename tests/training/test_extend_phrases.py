"""Tables with phrases that are gone on from and extended."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.processes import join, said, start_two
from support.synthetic import ending_after, pairs, write_text
from support.word_teacher import WordTeacher

import ems_fast
from ems_fast import BinaryCorpus, InputError, ModelConfig
from ems_fast.runs.folder import RunFolder
from ems_fast.training.start import PHRASES, TOKENS, Start

MODEL = ModelConfig(layers=0, width=32, reconstruction=False, phrases=60)
QUICK = {
    "batch_pairs": 32, "log_steps": 1, "evaluations": 1, "device": "cpu", "progress": False,
}  # fmt: skip
STILL = {"learning_rate": 1e-12, "max_steps": 1}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return RunFolder(folder).read_checkpoint()["model"]


def texts_of_phrases(folder: Path) -> dict[tuple[str, str], np.ndarray]:
    """The row of every phrase, by its pieces."""
    encoder = ems_fast.load(folder)
    assert encoder.module.phrases is not None
    V, table = encoder.config.vocab_size, encoder.module.tokens.weight.detach().numpy()
    piece = encoder.tokenizer.piece
    return {
        (piece(key // V), piece(key % V)): table[V + k]
        for k, key in enumerate(encoder.module.phrases.tolist())
    }


@pytest.fixture(scope="module")
def first(corpus: BinaryCorpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phrases") / "first"
    ems_fast.train(corpus.path, folder, model=MODEL, max_steps=40, **QUICK)
    return folder


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language in letters that the first ones do not have."""
    greek = str.maketrans("abdefgiklmnoprstuv", "αβδεφγικλμνοπρστυω")
    folder = tmp_path_factory.mktemp("greek")
    lines = "".join(f"{a}\t{b.translate(greek)}\n" for a, b in pairs("el", 400))
    (folder / "en-el.tsv").write_text(lines, encoding="utf-8")
    return folder


def test_a_run_goes_on_with_its_phrases(corpus: BinaryCorpus, first: Path, tmp_path: Path) -> None:
    ems_fast.train(corpus.path, tmp_path / "second", init=first, **QUICK, **STILL)
    before, after = RunFolder(first).read_weights(), weights(tmp_path / "second")
    assert torch.equal(before[PHRASES], after[PHRASES])
    assert torch.allclose(before[TOKENS], after[TOKENS], atol=1e-8)
    assert RunFolder(tmp_path / "second").read_model_config().phrases == 60


def test_other_text_does_not_change_the_phrases(first: Path, tmp_path: Path) -> None:
    ems_fast.train(
        write_text(tmp_path / "text", ("nl",), 200), tmp_path / "second", init=first, **QUICK,
        **STILL,
    )  # fmt: skip
    assert texts_of_phrases(tmp_path / "second").keys() == texts_of_phrases(first).keys()


def test_a_table_gets_phrases_and_loses_them(
    corpus: BinaryCorpus, table_run: Path, first: Path, tmp_path: Path
) -> None:
    options = {**QUICK, **STILL}
    ems_fast.train(corpus.path, tmp_path / "with", model=MODEL, init=table_run, **options)
    V, given = corpus.vocab_size, weights(tmp_path / "with")
    assert torch.allclose(given[TOKENS][:V], RunFolder(table_run).read_weights()[TOKENS], atol=1e-8)
    assert float(given[TOKENS][V:].abs().max()) < 1e-8  # they begin at zero
    plain = ModelConfig(layers=0, width=32, reconstruction=False)
    ems_fast.train(corpus.path, tmp_path / "without", model=plain, init=first, **options)
    left = weights(tmp_path / "without")
    assert PHRASES not in left
    assert torch.allclose(left[TOKENS], RunFolder(first).read_weights()[TOKENS][:V], atol=1e-8)


def test_a_run_from_phrases_resumes_exactly(
    corpus: BinaryCorpus, first: Path, tmp_path: Path
) -> None:
    options = {**QUICK, "init": first, "teacher": WordTeacher(20), "max_steps": 8}
    ems_fast.train(corpus.path, tmp_path / "whole", **options)
    with ending_after(4):
        ems_fast.train(corpus.path, tmp_path / "parts", **options)
    ems_fast.train(None, tmp_path / "parts", resume=True, device="cpu", progress=False)
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_new_phrases_are_those_of_the_new_language(first: Path, text: Path, tmp_path: Path) -> None:
    ems_fast.extend(first, text, tmp_path / "second", new_pieces=100, new_phrases=40, **QUICK,
                    **STILL)  # fmt: skip
    before, after = texts_of_phrases(first), texts_of_phrases(tmp_path / "second")
    assert len(after) == 100
    for pieces, row in before.items():  # each is where its key is now
        np.testing.assert_allclose(after[pieces], row, atol=1e-6)
    added = after.keys() - before.keys()
    assert len(added) == 40
    assert all(any("α" <= letter <= "ω" for piece in pair for letter in piece) for pair in added)
    assert all(np.abs(after[pieces]).max() < 1e-6 for pieces in added)
    keys = weights(tmp_path / "second")[PHRASES]
    assert bool((keys.diff() > 0).all())


def test_phrases_keep_their_accumulators(first: Path, corpus: BinaryCorpus) -> None:
    start = Start.of(first)
    V, known = start.config.vocab_size, torch.arange(float(len(start.weights[TOKENS])))
    options = {"accumulators": known, "new_phrases": 7}
    grown = Start(
        start.name, start.config, start.tokenizer, start.weights, **options
    ).with_phrases_of(corpus)  # fmt: skip
    assert grown.phrases is not None
    assert grown.accumulators is not None
    assert grown.config.phrases == len(grown.phrases) == 67
    old = torch.isin(grown.phrases, start.weights[PHRASES])
    assert torch.equal(grown.accumulators[V:][old], known[V:])
    assert not grown.accumulators[V:][~old].any()


def test_new_phrases_are_learnt_as_many_as_a_language_has(
    first: Path, text: Path, tmp_path: Path
) -> None:
    result = ems_fast.extend(
        first, text, tmp_path / "second", new_pieces=100, max_steps=60, **QUICK
    )
    assert result.encoder.config.phrases == 60 + 60 // 3
    added = texts_of_phrases(tmp_path / "second").keys() - texts_of_phrases(first).keys()
    after = texts_of_phrases(tmp_path / "second")
    assert all(after[pieces].any() for pieces in added)
    again = ems_fast.load(ems_fast.export(result.encoder, tmp_path / "4", to="ems-fast", bits=4))
    sentences = [side for pair in pairs("el", 40) for side in pair]
    ours = result.encoder.encode(sentences, normalize=True)
    assert (ours * again.encode(sentences, normalize=True)).sum(axis=1).min() > 0.95


def test_none_are_added_where_none_are_wanted(first: Path, text: Path, tmp_path: Path) -> None:
    result = ems_fast.extend(first, text, tmp_path / "second", new_phrases=0, **QUICK, **STILL)
    assert result.encoder.config.phrases == 60


def test_a_table_without_phrases_gets_none(table_run: Path, text: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"new_phrases: got 5, but .* has none"):
        ems_fast.extend(table_run, text, tmp_path / "no", new_phrases=5, **QUICK)
    assert not (tmp_path / "no").exists()


def test_a_further_domain_gets_phrases_of_all_its_languages(first: Path, tmp_path: Path) -> None:
    text = write_text(tmp_path / "text", ("de",), 900)
    ems_fast.extend(first, text, tmp_path / "second", new_pieces=0, new_phrases=10, **QUICK,
                    **STILL)  # fmt: skip
    assert len(texts_of_phrases(tmp_path / "second")) == 70


def test_the_shipped_model_is_extended(text: Path, tmp_path: Path) -> None:
    """Its rows have 4 bits; here they become float32."""
    shipped = ems_fast.load()
    lines = (text / "en-el.tsv").read_text(encoding="utf-8").translate({ord("ω"): "ⴰ"})
    (tmp_path / "en-xx.tsv").write_text(lines, encoding="utf-8")
    result = ems_fast.extend(
        "multilingual", tmp_path / "en-xx.tsv", tmp_path / "run", new_pieces=50, new_phrases=20,
        prepare_options={"languages": "en-xx"}, **QUICK, **STILL,
    )  # fmt: skip
    config = shipped.config
    assert result.encoder.config.phrases == config.phrases + 20
    assert config.vocab_size < result.encoder.config.vocab_size <= config.vocab_size + 50
    sentence = ["Good morning, dear people of this town!", "Guten Morgen!"]
    np.testing.assert_allclose(
        result.encoder.encode(sentence, normalize=True), shipped.encode(sentence, normalize=True),
        atol=1e-4,
    )  # fmt: skip


def test_two_ranks_extend_as_one_does(first: Path, text: Path, tmp_path: Path) -> None:
    options = {**QUICK, "max_steps": 4, "new_pieces": 100, "new_phrases": 30}
    one = ems_fast.extend(first, text, tmp_path / "one", **options)
    run = tmp_path / "two"
    codes = join(*start_two(text, run, extends=first, **{**options, "batch_pairs": 16}))
    assert codes == [0, 0], said(run, 0).read_text() + said(run, 1).read_text()
    other = weights(run)
    for name, weight in weights(tmp_path / "one").items():
        np.testing.assert_allclose(other[name], weight, atol=1e-4, err_msg=name)
    lines = RunFolder(run).read_metrics()
    [certificate] = [line for line in lines if line["event"] == "certificate"]
    assert len(certificate["rows"]) == len(one.certificate.rows)


def test_two_ranks_go_on_and_are_taught_as_one(
    corpus: BinaryCorpus, first: Path, tmp_path: Path
) -> None:
    options = {**QUICK, "max_steps": 3, "model": None, "init": first, "teacher": WordTeacher(20)}
    ems_fast.train(corpus.path, tmp_path / "one", **options)
    run = tmp_path / "two"
    codes = join(*start_two(corpus.path, run, **{**options, "batch_pairs": 16}))
    assert codes == [0, 0], said(run, 0).read_text() + said(run, 1).read_text()
    other = weights(run)
    for name, weight in weights(tmp_path / "one").items():
        # A row's first step is its gradient scaled to 0.1, small ones with their rounding.
        np.testing.assert_allclose(other[name], weight, atol=1e-3, err_msg=name)
