from __future__ import annotations

from pathlib import Path

import pytest

from ems_fast.errors import InputError
from ems_fast.evaluation import EvalSet, read_eval_sets
from ems_fast.text.languages import is_language, normalize_language


def write(folder: Path, **files: str) -> Path:
    """Create files; `__` in a name stands for a dot and `_to_` for a hyphen."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / name.replace("_to_", "-").replace("__", ".")
        path.write_text(content, encoding="utf-8", newline="")
    return folder


@pytest.mark.parametrize(
    ("code", "language"),
    [
        ("de", "de"),
        ("deu", "de"),
        ("ger", "de"),
        ("DE-at", "de"),
        ("deu_Latn", "de"),
        ("cmn", "zh"),
        ("zho_Hans", "zh"),
        ("zh-CN", "zh"),
        ("zsm", "ms"),
        ("nob", "nb"),
        ("nno", "nn"),
        ("pes", "fa"),
        ("arb", "ar"),
        ("ara", "ar"),
        ("arz", "arz"),
        ("als", "sq"),
        ("sqi", "sq"),
        ("lvs", "lv"),
        ("khk", "mn"),
        ("mon", "mn"),
        ("swh", "sw"),
        ("kmr", "ku"),
        ("kur", "ku"),
        ("tgl", "tl"),
        ("iw", "he"),
        ("ceb", "ceb"),
        ("qqq", "qqq"),
    ],
)
def test_normalize_language(code, language):
    assert normalize_language(code) == language
    assert normalize_language(language) == language


def test_is_language():
    assert is_language("de")
    assert is_language("deu")
    assert not is_language("deu_Latn")
    assert not is_language("qqq")
    assert not is_language("md")


@pytest.mark.parametrize("code", ["", "d", "xx", "german", "de en", "d1", "_Latn"])
def test_codes_that_are_none(code):
    with pytest.raises(InputError, match="expected an ISO 639-1 or 639-3 code"):
        normalize_language(code)


def test_pairs_named_after_both_languages(tmp_path):
    write(
        tmp_path / "tatoeba",
        tatoeba__deu_to_eng__deu="Hallo\nWelt\n",
        tatoeba__deu_to_eng__eng="hello\nworld\n",
        tatoeba__eng_to_cmn__cmn="你好",
        tatoeba__eng_to_cmn__eng="hi",
    )
    assert read_eval_sets(tmp_path / "tatoeba") == [
        EvalSet("tatoeba", "de", "en", ("Hallo", "Welt"), ("hello", "world")),
        EvalSet("tatoeba", "zh", "en", ("你好",), ("hi",)),
    ]


def test_moses_pairs(tmp_path):
    write(tmp_path, news__en="a\r\nb\r\n", news__de="x\ny", talks__pt="u", talks__fr="v")
    assert read_eval_sets(tmp_path) == [
        EvalSet("news", "de", "en", ("x", "y"), ("a", "b")),
        EvalSet("talks", "fr", "pt", ("v",), ("u",)),
    ]


def test_one_file_a_language(tmp_path):
    write(
        tmp_path / "flores",
        eng_Latn__devtest="one\ntwo\n",
        fra_Latn__devtest="un\ndeux\n",
        zho_Hans__devtest="一\n二\n",
        zho_Hant__devtest="壹\n貳\n",
    )
    sets = read_eval_sets(tmp_path / "flores")
    assert [(s.name, s.source_lang, s.target_lang) for s in sets] == [
        ("flores", "fr", "en"),
        ("flores", "zh_Hans", "en"),
        ("flores", "zh_Hant", "en"),
    ]
    assert sets[0].source == ("un", "deux")
    assert all(s.target is sets[0].target for s in sets)  # English is read once
    chinese = read_eval_sets(tmp_path / "flores", languages=["cmn"])
    assert [s.source_lang for s in chinese] == ["zh_Hans", "zh_Hant"]
    write(tmp_path / "flores", eng_Latn__dev="one", fra_Latn__dev="un")
    names = {s.name for s in read_eval_sets(tmp_path / "flores")}
    assert names == {"flores.dev", "flores.devtest"}
    write(tmp_path / "plain", test__en="one", test__de="eins", test__fr="un")
    assert [s.source_lang for s in read_eval_sets(tmp_path / "plain")] == ["de", "fr"]


def test_tsv(tmp_path):
    write(tmp_path, dev__en_to_fr__tsv="one\tun\ntwo\tdeux\tnote\n", dev__fr_to_de__tsv="un\teins")
    assert read_eval_sets(tmp_path) == [
        EvalSet("dev", "de", "fr", ("eins",), ("un",)),
        EvalSet("dev", "fr", "en", ("un", "deux"), ("one", "two")),
    ]


def test_subfolders_and_files_with_other_names(tmp_path):
    write(tmp_path / "a", x__de="1", x__en="2")
    write(tmp_path / "b" / "c", y__fr_to_en__tsv="1\t2")
    write(tmp_path, README__md="read me", notes__txt="notes", LICENSE="mine")
    assert [s.name for s in read_eval_sets(tmp_path)] == ["x", "y"]


def test_a_file_stands_for_the_sets_it_is_part_of(tmp_path):
    write(tmp_path, x__de="1", x__en="2", y__fr_to_en__tsv="1\t2", z__de="3")
    assert [s.name for s in read_eval_sets(tmp_path / "x.en")] == ["x"]
    assert [s.name for s in read_eval_sets(str(tmp_path / "y.fr-en.tsv"))] == ["y"]
    with pytest.raises(InputError, match=r"z\.de: there is no file of the same name"):
        read_eval_sets(tmp_path / "z.de")


def test_languages_filter(tmp_path):
    write(tmp_path, a__de_to_en__tsv="1\t2", a__fr_to_en__tsv="1\t2", a__de_to_fr__tsv="1\t2")

    def pairs(languages):
        sets = read_eval_sets(tmp_path, languages=languages)
        return [(s.source_lang, s.target_lang) for s in sets]

    assert pairs(["deu"]) == [("de", "en")]
    assert pairs(["fr", "de", "ja"]) == [("de", "en"), ("de", "fr"), ("fr", "en")]
    with pytest.raises(InputError, match="has no set for ja; it has de, en, fr"):
        pairs(["ja"])
    with pytest.raises(InputError, match="languages: got the string 'de'"):
        pairs("de")
    with pytest.raises(InputError, match="language: got 'german'"):
        pairs(["german"])


def test_line_separators_inside_of_sentences_do_not_break_lines(tmp_path):
    write(tmp_path, x__de="\ufeffa\u2028b\x85c\n\nd\n", x__en="1\n\n3\n")
    (read,) = read_eval_sets(tmp_path)
    assert read.source == ("a\u2028b\x85c", "", "d")
    assert len(read) == 3


def test_bad_files(tmp_path):
    cases = {
        "length": (
            {"x__de": "1\n2\n", "x__en": "1\n"},
            r"x\.de and .*x\.en: have 2 and 1 sentences",
        ),
        "partner": (
            {"t__deu_to_eng__deu": "1\n"},
            r"t\.deu-eng\.deu: its translations t\.deu-eng\.eng are missing",
        ),
        "alone": ({"x__de": "1\n"}, r"x\.de: there is no file of the same name"),
        "columns": ({"x__de_to_en__tsv": "1\t2\n3\n"}, r"x\.de-en\.tsv:2: has one column"),
        "empty": ({"x__de": "1\n", "x__en": "\n"}, r"x\.en: is empty"),
        "pivot": ({"x__de": "1", "x__fr": "1", "x__it": "1"}, r"English is not one of them"),
        "twice": (
            {"x__de": "1", "x__deu": "1", "x__en": "1"},
            r"x\.de, x\.deu are all of language 'de'",
        ),
        "same": (
            {"x__zho_to_cmn__zho": "1", "x__zho_to_cmn__cmn": "1"},
            r"x\.zho-cmn\.cmn, x\.zho-cmn\.zho are all of language 'zh'",
        ),
        "none": ({"notes__txt": "1"}, r"holds no evaluation set that can be recognised"),
    }
    for name, (files, message) in cases.items():
        with pytest.raises(InputError, match=message):
            read_eval_sets(write(tmp_path / name, **files))
    with pytest.raises(InputError, match="no such file or folder"):
        read_eval_sets(tmp_path / "missing")
    folder = write(tmp_path / "latin", x__en="1\n2\n")
    (folder / "x.de").write_bytes("eins\nfünf\n".encode("latin-1"))
    with pytest.raises(
        InputError, match=r"x\.de, line 2: is not UTF-8 \(byte 0xfc at position 2\)"
    ):
        read_eval_sets(folder)


@pytest.mark.corpora
def test_the_sets_beside_the_checkout(corpora):
    tatoeba = read_eval_sets(corpora / "eval" / "tatoeba")
    assert len(tatoeba) == 112
    assert {s.name for s in tatoeba} == {"tatoeba"}
    flores = read_eval_sets(corpora / "eval" / "flores200_devtest")
    assert len(flores) == 61
    assert {len(s) for s in flores} == {1012}
    assert {s.target_lang for s in tatoeba + flores} == {"en"}
    german = read_eval_sets(corpora / "eval", languages=["deu"])
    assert [(s.name, s.source_lang) for s in german] == [
        ("flores200_devtest", "de"),
        ("tatoeba", "de"),
    ]
