"""The page that `export(to="web")` writes: its JavaScript in node, and without a browser."""

from __future__ import annotations

import base64
import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.javascript import run_javascript
from support.synthetic import make_corpus, pairs
from support.tokenizers import MODELS, SENTENCES, sentencepiece_model

import ems_fast
from ems_fast import InputError, ModelConfig
from ems_fast.cli.parser import main
from ems_fast.encoding.shipped import folder_of
from ems_fast.exporting import web
from ems_fast.files.streams import read_lines
from ems_fast.text.tokenizer import Tokenizer

JS = web.SITE / "js"
TOKENIZER = [
    JS / f"{name}.js"
    for name in ("model_file", "trie", "normalizer", "unigram", "bpe", "tokenizer")
]
ENCODE = """
    const tokenizer = new emsFast.Tokenizer(new Uint8Array(Buffer.from(value.model, "base64")));
    return value.sentences.map((sentence) => tokenizer.encode(sentence));
"""


def ids_of_page(tokenizer: Tokenizer, sentences: list[str]) -> list[list[int]]:
    model = base64.b64encode(tokenizer.model).decode("ascii")
    found: list[list[int]] = run_javascript(
        TOKENIZER, ENCODE, {"model": model, "sentences": sentences}
    )
    return found


def assert_same_ids(tokenizer: Tokenizer, sentences: list[str]) -> None:
    for sentence, ids in zip(sentences, ids_of_page(tokenizer, sentences), strict=True):
        assert ids == tokenizer.encode(sentence), repr(sentence)


# -- the tokenizer -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_ids_are_those_of_sentencepiece(name: str) -> None:
    assert_same_ids(sentencepiece_model(**MODELS[name]), SENTENCES)


@pytest.mark.parametrize("name", ["ours", "spaces kept", "no bytes", "unigram"])
def test_ids_of_any_text(name: str) -> None:
    """Letters, marks, spaces and rare characters in any order."""
    alphabet = sorted({*"".join(SENTENCES), "\0", "\U0010ffff", "\u0301", "가", "ﬃ"})
    chosen = random.Random(0)
    texts = ["".join(chosen.choices(alphabet, k=chosen.randrange(30))) for _ in range(1000)]
    texts += ["".join(chosen.choices("ab  ▁\t", k=12)) for _ in range(300)]
    assert_same_ids(sentencepiece_model(**MODELS[name]), texts)


def test_pieces_that_are_not_used_are_not_found() -> None:
    for name in ("ours", "unigram"):
        tokenizer = sentencepiece_model(**MODELS[name])
        longest = sorted(range(tokenizer.vocab_size), key=lambda i: -len(tokenizer.piece(i)))
        assert_same_ids(_without(tokenizer, {*longest[:40]}), SENTENCES)


def _without(tokenizer: Tokenizer, unused: set[int]) -> Tokenizer:
    """The same with some normal pieces marked as unused."""
    pb2 = pytest.importorskip("sentencepiece.sentencepiece_model_pb2", reason="needs protobuf")
    model = pb2.ModelProto.FromString(tokenizer.model)
    for i in unused:
        if model.pieces[i].type == 1:
            model.pieces[i].type = 5
    return Tokenizer(model.SerializeToString())


@pytest.mark.corpora
def test_ids_of_real_sentences_in_all_scripts(corpora: Path) -> None:
    sentences = []
    for path in sorted((corpora / "eval" / "flores200_devtest").glob("*.devtest")):
        sentences += [line for _, line in read_lines(path)][:60]
    assert len(sentences) > 3000
    assert_same_ids(Tokenizer.from_file(folder_of(None)), sentences)


# -- vectors -------------------------------------------------------------------------------------

MEANS = """
    const buffers = {};
    for (const [name, parts] of Object.entries(value.parts)) {
      const bytes = Buffer.concat(parts.map((part) => Buffer.from(part, "base64")));
      buffers[name] = new Uint8Array(bytes).buffer;
    }
    const about = emsFast.about;
    const words = (name) => (buffers[name] ? new Uint32Array(buffers[name]) : null);
    const table = new emsFast.TokenTable({
      ...about,
      rows: new (about.bits === 8 ? Int8Array : Uint8Array)(buffers.rows),
      scales: new Float32Array(buffers.scales),
      begins: words("begins"),
      seconds: words("seconds"),
    });
    const tokenizer = new emsFast.Tokenizer(new Uint8Array(buffers.tokenizer));
    return value.sentences.map((text) => Array.from(table.mean(tokenizer.encode(text))));
"""


def vectors_of_page(site: Path, sentences: list[str]) -> npt.NDArray[np.float32]:
    """What the page would compute, from its own data."""
    files = about_of(site)["files"]
    parts = {
        file["name"]: [
            re.fullmatch(r'emsFast.part\("(.*)"\);\n', script.read_text())[1]
            for script in (site / "data" / f"{file['name']}.{i}.js" for i in range(file["parts"]))
        ]
        for file in files
    }
    scripts = [*TOKENIZER, JS / "table.js", site / "data" / "about.js"]
    found = run_javascript(scripts, MEANS, {"parts": parts, "sentences": sentences})
    return np.array(found, np.float32)


def about_of(site: Path) -> Any:
    script = (site / "data" / "about.js").read_text(encoding="utf-8")
    return json.loads(script.removeprefix("emsFast.about = ").removesuffix(";\n"))


def lines_of(site: Path) -> Any:
    script = (site / "data" / "lines.js").read_text(encoding="utf-8")
    return json.loads(script.removeprefix("emsFast.lines = ").removesuffix(";\n"))


HELD_OUT = [sentence for pair in pairs("de", 60) for sentence in pair]


@pytest.fixture(scope="module")
def phrases_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run of a token table with phrases."""
    folder = tmp_path_factory.mktemp("phrases")
    config = ModelConfig(layers=0, width=32, reconstruction=False, phrases=64)
    ems_fast.train(
        make_corpus(folder).path, folder / "run", model=config, max_steps=20, batch_pairs=32,
        device="cpu", progress=False,
    )  # fmt: skip
    return folder / "run"


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "lines.txt"
    path.write_text("one\ntwo\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("kind", ["phrases", "static"])
def test_vectors_are_those_of_the_same_bits(
    request: pytest.FixtureRequest, tmp_path: Path, lines: Path, kind: str, bits: Any
) -> None:
    run = request.getfixturevalue("phrases_run" if kind == "phrases" else "table_run")
    site = ems_fast.export(run, tmp_path / "site", to="web", text=[lines], bits=bits)
    stored = ems_fast.export(run, tmp_path / "stored", to="ems-fast", bits=bits)
    sentences = ["", *HELD_OUT, "x " * 500]
    found = vectors_of_page(site, sentences)
    with pytest.warns(ems_fast.EncodingWarning):  # of the empty and of the long one
        expected, exact = (ems_fast.load(folder).encode(sentences) for folder in (stored, run))
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert (about_of(site)["phrases"] > 0) == (kind == "phrases")
    if bits == 8:  # half a step of the largest number
        largest = np.abs(ems_fast.load(run).as_table().float32()).max()
        assert np.abs(found - exact).max() <= largest / 127 / 2 + 1e-6


def test_a_table_stays_in_the_bits_it_has(phrases_run: Path, tmp_path: Path, lines: Path) -> None:
    stored = ems_fast.export(phrases_run, tmp_path / "stored", to="ems-fast", bits=4)
    site = ems_fast.export(stored, tmp_path / "site", to="web", text=[lines])
    assert about_of(site)["bits"] == 4
    wider = ems_fast.export(stored, tmp_path / "wider", to="web", text=[lines], bits=8)
    assert about_of(wider)["bits"] == 8
    sentences = HELD_OUT
    np.testing.assert_allclose(
        vectors_of_page(site, sentences), ems_fast.load(stored).encode(sentences), atol=2e-6
    )


# -- what is written -----------------------------------------------------------------------------


def test_lines_have_the_language_of_their_file(table_run: Path, tmp_path: Path) -> None:
    contents = {
        "news.de.txt": "eins\r\n\n zwei \neins\n", "pt-BR.txt": "um\n",
        "lines.txt": "a\u2028b\n</script>\n",
        "more.de.txt": "drei\nzwei\n", "empty.fr.txt": " \n",
    }  # fmt: skip
    paths = [tmp_path / name for name in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        path.write_bytes(content.encode())
    site = ems_fast.export(table_run, tmp_path / "site", to="web", text=paths)
    assert lines_of(site) == [
        {"language": "de", "lines": ["eins", "zwei", "drei"]},
        {"language": "pt-br", "lines": ["um"]},
        {"language": None, "lines": ["a\u2028b", "</script>"]},
    ]


def test_the_command_writes_a_site(table_run: Path, tmp_path: Path, lines: Path) -> None:
    site = tmp_path / "site"
    main(["export", str(table_run), "--to", "web", "--output", str(site), "--text", str(lines),
          "--licence", "cc0-1.0"])  # fmt: skip
    about = about_of(site)
    assert (about["name"], about["licence"], about["bits"]) == (table_run.name, "cc0-1.0", 8)
    assert about["languages"] == list(ems_fast.load(table_run).languages)
    named = re.findall(r'(?:src|href)="([^":]*)"', (site / "index.html").read_text("utf-8"))
    assert len(named) > 10
    for name in named:
        assert (site / name).is_file(), name
    assert not (site / "README.md").exists()


def test_an_encoder_is_written_too(phrases_run: Path, tmp_path: Path, lines: Path) -> None:
    encoder = ems_fast.load(phrases_run)
    site = ems_fast.export(encoder, tmp_path / "site", to="web", text=str(lines))
    np.testing.assert_allclose(vectors_of_page(site, HELD_OUT), encoder.encode(HELD_OUT), atol=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "web"}, "text: to='web' needs lines"),
        ({"to": "web", "text": ["missing.txt"]}, "missing.txt"),
        ({"to": "web", "text": ["blank.txt"]}, "text: there is no line with text in blank.txt"),
        ({"to": "web", "text": ["lines.txt"], "bits": 32}, "bits: got 32 with to='web'"),
        ({"to": "web", "text": ["lines.txt"], "with_onnx": True}, "with_onnx: got True"),
        ({"to": "ems-fast", "text": ["lines.txt"]}, "text: got .* with to='ems-fast'"),
    ],
)
def test_what_cannot_be_written_is_refused(
    table_run: Path, tmp_path: Path, lines: Path, monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any], message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("blank.txt").write_text(" \n\n")
    with pytest.raises(InputError, match=message):
        ems_fast.export(table_run, "site", **options)
    assert not Path("site").exists()


def test_too_many_lines_are_refused(
    table_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "MAX_LINES", 3)
    paths = [tmp_path / name for name in ("lines.txt", "more.txt")]
    paths[0].write_text("a\nb\na\nc\n")
    paths[1].write_text("c\nd\ne\n")
    with pytest.raises(
        InputError, match=r"text: has more lines than the 3 .*, from line 2 of .*more"
    ):
        ems_fast.export(table_run, tmp_path / "site", to="web", text=paths)


def test_a_model_with_layers_is_refused(run: Path, tmp_path: Path, lines: Path) -> None:
    with pytest.raises(InputError, match="to: got 'web' for a model with layers, but the page"):
        ems_fast.export(run, tmp_path / "site", to="web", text=[lines])


def test_an_unknown_kind_of_tokenizer_is_refused(
    table_run: Path, tmp_path: Path, lines: Path
) -> None:
    encoder = ems_fast.load(table_run)
    encoder.tokenizer = sentencepiece_model(**MODELS["ours"], user_defined_symbols=["<user>"])
    with pytest.raises(InputError, match="tokenizer: has user-defined symbols"):
        ems_fast.export(encoder, tmp_path / "site", to="web", text=[lines])
