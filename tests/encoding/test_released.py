"""Loading checkpoints in the format that the authors of EMS released."""

from __future__ import annotations

import pickle
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ems_fast
from ems_fast import InputError, ModelConfig
from ems_fast.encoding.released.text import preprocess_released
from ems_fast.model.ems import EMSModel
from ems_fast.text.tokenizer import Tokenizer

SMALL = {"layers": 2, "width": 32, "heads": 4, "ffn_width": 64, "language_width": 8,
         "projection_width": 16}  # fmt: skip
# Ours → theirs.
NAMES = [
    (r"encoder\.tokens", "model.bert.embedding.word_embedding.embedding"),
    (r"encoder\.positions", "model.bert.embedding.position_embedding.position_embeddings"),
    (r"encoder\.norm", "model.bert.embedding.layer_norm"),
    (
        r"encoder\.layers\.(\d+)\.attention\.out",
        r"model.bert.encoder.layer.\1.attention.output.dense",
    ),
    (
        r"encoder\.layers\.(\d+)\.attention_norm",
        r"model.bert.encoder.layer.\1.attention.output.LayerNorm",
    ),
    (r"encoder\.layers\.(\d+)\.ffn_in", r"model.bert.encoder.layer.\1.intermediate.dense"),
    (r"encoder\.layers\.(\d+)\.ffn_out", r"model.bert.encoder.layer.\1.output.dense"),
    (r"encoder\.layers\.(\d+)\.ffn_norm", r"model.bert.encoder.layer.\1.output.LayerNorm"),
    (r"xtr_head\.languages", "model.la_tag_linear.embedding"),
    (r"xtr_head\.language_norm", "model.la_tag_linear.layer_norm"),
    (r"xtr_head\.dense", "model.transform.dense"),
    (r"xtr_head\.norm", "model.transform.LayerNorm"),
    (r"output$", "model.decoder.decoder.weight"),
    (r"contrastive_head\.inner", "alignproj.0"),
    (r"contrastive_head\.outer", "alignproj.3"),
]  # fmt: skip


def released_state(model: EMSModel) -> dict[str, torch.Tensor]:
    """The model's weights under the names of the released checkpoint."""
    state: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        if match := re.fullmatch(r"encoder\.layers\.(\d+)\.attention\.qkv\.(\w+)", name):
            for part, chunk in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                layer, kind = match.groups()
                state[
                    f"model.bert.encoder.layer.{layer}.attention.self_attention.{part}.{kind}"
                ] = chunk.clone()
            continue
        ours, theirs = next((o, t) for o, t in NAMES if re.match(o, name))
        state[re.sub(f"^{ours}", theirs, name)] = tensor
    return state


def write_checkpoint(path: Path, state: dict[str, torch.Tensor], **other: Any) -> Path:
    content = {"state_dict": state, "best_loss": 1.5, "step": 7, "epoch": 1, "model_name": "EMS",
               "optimizer": {"state": {}}, "valid_loss": [1.5]}  # fmt: skip
    torch.save({**content, **other}, path)
    return path


@pytest.fixture(scope="module")
def tokenizer_file(run: Path) -> Path:
    return run / "tokenizer.model"


@pytest.fixture(scope="module")
def model(tokenizer_file: Path) -> EMSModel:
    torch.manual_seed(0)
    vocab_size = Tokenizer.from_file(tokenizer_file).vocab_size
    languages = ("a", "b", "c")
    return EMSModel(ModelConfig(vocab_size=vocab_size, languages=languages, **SMALL)).eval()


@pytest.fixture(scope="module")
def checkpoint(model: EMSModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("released") / "EMS_model.pt"
    return write_checkpoint(path, released_state(model))


def load(checkpoint: Path, tokenizer: Path, **options: Any) -> ems_fast.SentenceEncoder:
    options = {"preprocessing": None, "heads": 4, "device": "cpu", **options}
    return ems_fast.load_released(checkpoint, tokenizer, **options)


def expected(model: EMSModel, tokenizer: Path, sentences: list[str]) -> np.ndarray:
    ours = ems_fast.SentenceEncoder(
        model.encoder, Tokenizer.from_file(tokenizer), model.config, torch.device("cpu")
    )
    return ours.encode(sentences)


SENTENCES = ["bade gi ko", "gi", "ko lu ma bade"]


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("older", [False, True])
def test_sizes_and_weights(
    model: EMSModel, tokenizer_file: Path, tmp_path: Path, prefix: str, older: bool
) -> None:
    state = {
        prefix + (name.replace("model.transform", "model.decoder.transform") if older else name): v
        for name, v in released_state(model).items()
    }
    path = write_checkpoint(tmp_path / "model.pt", state, best_loss=np.float64(1.5))
    encoder = load(path, tokenizer_file)
    sizes = {name: getattr(encoder.config, name) for name in SMALL}
    assert sizes == SMALL
    assert encoder.config.max_tokens == 120
    assert not encoder.config.tied
    assert encoder.languages == ()  # this tokenizer has no symbols for them
    assert np.array_equal(encoder.encode(SENTENCES), expected(model, tokenizer_file, SENTENCES))


def test_the_old_file_format(model: EMSModel, tokenizer_file: Path, tmp_path: Path) -> None:
    torch.save(
        {"state_dict": released_state(model)}, tmp_path / "old.pt",
        _use_new_zipfile_serialization=False,
    )  # fmt: skip
    vectors = load(tmp_path / "old.pt", tokenizer_file).encode(SENTENCES)
    assert np.array_equal(vectors, expected(model, tokenizer_file, SENTENCES))


@pytest.mark.slow
def test_the_full_size(shared: Path, tmp_path: Path) -> None:
    tokenizer = shared / "fixtures" / "62languages_bpe_60000.model"
    torch.manual_seed(0)
    config = ems_fast.model.preset("ems", languages=tuple(f"l{i}" for i in range(62)))
    model = EMSModel(config).eval()
    path = write_checkpoint(tmp_path / "EMS_model.pt", released_state(model))
    encoder = ems_fast.load_released(path, tokenizer, device="cpu")
    assert (encoder.config.layers, encoder.config.width, encoder.config.vocab_size) == (
        6, 1024, 60_000,
    )  # fmt: skip
    assert len(encoder.languages) == 62
    assert encoder.languages[:3] == ("en", "af", "ar")
    pytest.importorskip("sacremoses")
    vectors = encoder.encode(["Hello, World!"], language="en")
    np.testing.assert_allclose(
        vectors, expected(model, tokenizer, ["hello , world !"]), rtol=0, atol=1e-5
    )


def test_the_released_tokenizer_names_the_languages(shared: Path, tmp_path: Path) -> None:
    tokenizer = shared / "fixtures" / "62languages_bpe_60000.model"
    sizes = {**SMALL, "width": 8, "ffn_width": 8}
    config = ModelConfig(vocab_size=60_000, languages=tuple(map(str, range(62))), **sizes)
    path = write_checkpoint(tmp_path / "model.pt", released_state(EMSModel(config)))
    encoder = load(path, tokenizer)
    assert len(encoder.languages) == 62
    assert encoder.languages[0] == "en"
    assert encoder.languages[-1] == "zh"


# -- preprocessing -------------------------------------------------------------------------------


def test_a_language_is_needed(checkpoint: Path, tokenizer_file: Path) -> None:
    encoder = load(checkpoint, tokenizer_file, preprocessing="released")
    with pytest.raises(InputError, match="language: got None, but the released checkpoint"):
        encoder.encode(SENTENCES)


def test_a_function_of_the_callers(model: EMSModel, checkpoint: Path, tokenizer_file: Path) -> None:
    asked = []

    def split(sentences: Any, language: str | None) -> list[str]:
        asked.append(language)
        return [s.replace("_", " ") for s in sentences]

    encoder = load(checkpoint, tokenizer_file, preprocessing=split)
    vectors = encoder.encode(["bade_gi_ko"], language="xx")
    assert asked == ["xx"]
    assert np.array_equal(vectors, expected(model, tokenizer_file, ["bade gi ko"]))


def reverse(sentences: Any, language: str | None) -> list[str]:
    """A preprocessing that can be sent to other processes."""
    return [sentence[::-1] for sentence in sentences]


def test_preprocessing_is_pickled(checkpoint: Path, tokenizer_file: Path) -> None:
    encoder = load(checkpoint, tokenizer_file, preprocessing=reverse)
    copy = pickle.loads(pickle.dumps(encoder))
    assert copy.preprocessing is reverse
    assert np.array_equal(copy.encode(["bade gi"]), encoder.encode(["bade gi"]))


def test_preprocessing_that_returns_no_sentences(checkpoint: Path, tokenizer_file: Path) -> None:
    encoder = load(checkpoint, tokenizer_file, preprocessing=lambda sentences, language: [["a"]])
    with pytest.raises(InputError, match="preprocessing: item 0 is of type list"):
        encoder.encode(["a"])


def test_moses() -> None:
    pytest.importorskip("sacremoses")
    found = preprocess_released([" Hello, World! It's 5 & more.", "", "a-b"], "eng")
    assert found == ["hello , world ! it 's 5 & more .", "", "a-b"]
    # A language that Moses has no list of abbreviations for is split by its general rules.
    assert preprocess_released(["Habari, dunia."], "sw") == ["habari , dunia ."]


@pytest.mark.filterwarnings("ignore")
def test_jieba() -> None:
    pytest.importorskip("jieba")
    assert preprocess_released(["我来到北京清华大学 OK"], "zh")[0].split() == [
        "我", "来到", "北京", "清华大学", "ok",
    ]  # fmt: skip


@pytest.fixture
def juman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for Juman++ in PATH, of its output format: characters are morphemes."""
    program = tmp_path / "bin" / "jumanpp"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\n"
        "import sys\n"
        "for line in sys.stdin.read().splitlines():\n"
        "    if line.startswith('#'):\n"
        "        continue\n"
        "    for c in line:\n"
        "        print('\\\\  \\\\  \\\\  特殊 1' if c == ' ' else f'{c} {c} {c} 名詞 6')\n"
        "        print(f'@ {c} {c} {c} 動詞 2')\n"
        "    print('EOS')\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    monkeypatch.setenv("PYTHONUTF8", "1")
    return program


def test_jumanpp(juman: Path) -> None:
    found = preprocess_released(["猫だ", "", "A 犬", "#犬"], "ja")
    assert found == ["猫 だ", "", "a 犬", "＃ 犬"]


def test_jumanpp_fails(juman: Path) -> None:
    juman.write_text(f"#!{sys.executable}\nimport sys; sys.exit('no dictionary')\n")
    with pytest.raises(InputError, match=r"jumanpp failed \(no dictionary; 0 of 1 sentences\)"):
        preprocess_released(["猫だ"], "ja")


@pytest.mark.parametrize(
    ("language", "module", "message"),
    [
        ("de", "sacremoses", r"language: 'de' needs the package sacremoses, .*\[released\]"),
        ("zh", "jieba", r"language: 'zh' needs the package jieba"),
        ("ja", "none", r"language: 'ja' needs Juman\+\+, and there is no program jumanpp"),
    ],
)
def test_what_is_missing_is_named(
    language: str, module: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=message):
        preprocess_released(["x"], language)


# -- saving --------------------------------------------------------------------------------------


def test_saved_and_loaded(checkpoint: Path, tokenizer_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("sacremoses")
    encoder = load(checkpoint, tokenizer_file, preprocessing="released")
    saved = ems_fast.load(ems_fast.export(encoder, tmp_path / "saved", to="ems-fast"), device="cpu")
    assert saved.preprocessing is preprocess_released
    vectors = saved.encode(["Bade gi, ko!"], language="de")
    assert np.array_equal(vectors, encoder.encode(["Bade gi, ko!"], language="de"))
    assert "split by a tool for its language" in (tmp_path / "saved" / "README.md").read_text()


def test_a_function_is_not_saved(checkpoint: Path, tokenizer_file: Path, tmp_path: Path) -> None:
    encoder = load(checkpoint, tokenizer_file, preprocessing=lambda sentences, language: sentences)
    with pytest.raises(InputError, match="encoder: its preprocessing is a function"):
        ems_fast.export(encoder, tmp_path / "saved", to="ems-fast")
    assert not (tmp_path / "saved").exists()


# -- what is not such a checkpoint ---------------------------------------------------------------


class Trap:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


def test_a_pickle_is_not_run(tokenizer_file: Path, tmp_path: Path) -> None:
    torch.save({"state_dict": Trap(tmp_path / "trapped")}, tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"model\.pt: is not a checkpoint of tensors"):
        load(tmp_path / "model.pt", tokenizer_file)
    assert not (tmp_path / "trapped").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "has no 'state_dict' of tensors"),
        ({"state_dict": {"a": 1}}, "has no 'state_dict' of tensors"),
        ({"state_dict": {"a": torch.ones(1)}}, r"not those of a released EMS checkpoint \(a\)"),
        ({"state_dict": {}}, r"lacks the weights that are encoder\.tokens\.weight here"),
    ],
)
def test_other_files(content: Any, message: str, tokenizer_file: Path, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(InputError, match=message):
        load(tmp_path / "model.pt", tokenizer_file)


def test_no_file_and_no_checkpoint(tokenizer_file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.pt: cannot be read \(No such file"):
        load(tmp_path / "none.pt", tokenizer_file)
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(InputError, match=r"text\.pt: is not a checkpoint of tensors"):
        load(tmp_path / "text.pt", tokenizer_file)


def test_a_weight_is_missing(model: EMSModel, tokenizer_file: Path, tmp_path: Path) -> None:
    state = released_state(model)
    del state["model.bert.embedding.layer_norm.bias"]
    with pytest.raises(InputError, match=r"is not a whole EMS checkpoint .*norm\.bias"):
        load(write_checkpoint(tmp_path / "model.pt", state), tokenizer_file)


def test_another_tokenizer(checkpoint: Path, shared: Path) -> None:
    other = shared / "fixtures" / "62languages_bpe_60000.model"
    with pytest.raises(InputError, match=r"tokenizer: has 60000 pieces, but .* was made for"):
        load(checkpoint, other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 5}, "heads: 5 does not divide width 32"),
        ({"preprocessing": "moses"}, "preprocessing: got 'moses', expected 'released'"),
    ],
)
def test_bad_arguments(
    checkpoint: Path, tokenizer_file: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        load(checkpoint, tokenizer_file, **options)
