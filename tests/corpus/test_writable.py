"""A tokenizer that cannot write the text it is given."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import sentencepiece
from support.synthetic import pairs, write_text

import ems_fast
from ems_fast import InputError
from ems_fast.text.tokenizer import Tokenizer

LATIN = [side for pair in pairs("de", 300) for side in pair]


def without_bytes() -> Tokenizer:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LATIN), model_writer=model, vocab_size=120, pad_id=0, unk_id=1,
        bos_id=-1, eos_id=-1, minloglevel=2,
    )  # fmt: skip
    return Tokenizer(model.getvalue())


def write_greek(folder: Path, n: int) -> Path:
    greek = str.maketrans("abdefgiklmnoprstuv", "αβδεφγικλμνοπρστυω")
    folder.mkdir()
    lines = "".join(f"{a}\t{b.translate(greek)}\n" for a, b in pairs("el", n))
    (folder / "en-el.tsv").write_text(lines, encoding="utf-8")
    return folder


def test_the_share_of_unknown_characters() -> None:
    tokenizer = without_bytes()
    assert tokenizer.unknown_share([]) == 0.0
    assert tokenizer.unknown_share([" "]) == 0.0
    assert tokenizer.unknown_share(LATIN[:50]) == 0.0
    assert tokenizer.unknown_share(["βγδ ζηθ"]) == 1.0
    word = LATIN[0].split()[0]
    assert tokenizer.unknown_share([f"{word} {'β' * len(word)}"]) == 0.5


@pytest.mark.parametrize("n", [50, 1500])
def test_what_cannot_be_written_is_refused(tmp_path: Path, n: int) -> None:
    text = write_greek(tmp_path / "text", n)
    with pytest.raises(
        InputError, match=r"tokenizer: cannot write 100 % of the characters of language el, exp"
    ):
        ems_fast.prepare(text, tmp_path / "corpus", tokenizer=without_bytes(), progress=False)
    assert not (tmp_path / "corpus").exists()


def test_a_little_may_be_unknown(tmp_path: Path) -> None:
    text = write_text(tmp_path / "text", ("de",), 300)
    (text / "en-fr.tsv").write_text(f"{LATIN[0]} {LATIN[1]} {LATIN[2]} €\tkakada\n")
    ems_fast.prepare(text, tmp_path / "corpus", tokenizer=without_bytes(), progress=False)


def test_bytes_write_everything(tmp_path: Path, run: Path) -> None:
    text = write_greek(tmp_path / "text", 100)
    ems_fast.prepare(text, tmp_path / "corpus", tokenizer=run, progress=False)


def test_training_says_so_and_extending_appends_pieces(tmp_path: Path) -> None:
    text, greek = write_text(tmp_path / "text", ("de",), 300), write_greek(tmp_path / "greek", 300)
    options = {"batch_pairs": 16, "max_steps": 2, "device": "cpu", "progress": False}
    corpus = ems_fast.prepare(text, tmp_path / "corpus", tokenizer=without_bytes(), progress=False)
    first = tmp_path / "first"
    ems_fast.train(corpus.path, first, **options)
    for begin in (
        lambda: ems_fast.train(greek, tmp_path / "second", init=first, **options),
        lambda: ems_fast.extend(first, greek, tmp_path / "second", new_pieces=0, **options),
    ):
        with pytest.raises(InputError, match=r"language el.*new_pieces above 0"):
            begin()
        assert not (tmp_path / "second").exists()
    result = ems_fast.extend(first, greek, tmp_path / "second", **options)
    assert result.encoder.tokenizer.unknown_share(["βεγο"]) < 0.05
