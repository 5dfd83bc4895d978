from __future__ import annotations

import io
import json
import struct
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import zstandard

RECIPE = Path(__file__).resolve().parents[2] / "pretrained"
sys.path.append(str(RECIPE))

import cleaning  # noqa: E402
import collect  # noqa: E402
import fetching  # noqa: E402
import formats  # noqa: E402
import languages  # noqa: E402
import sources  # noqa: E402


def pack(texts: dict[int, str]) -> bytes:
    """A Chromium data pack."""
    header = struct.pack("<IB3xHH", 5, 1, len(texts), 0)
    start = len(header) + 6 * (len(texts) + 1)
    entries, body = b"", b""
    for number, text in texts.items():
        entries += struct.pack("<HI", number, start + len(body))
        body += text.encode()
    return header + entries + struct.pack("<HI", 0, start + len(body)) + body


def tgz(path: Path, files: dict[str, str]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return path


def tsv(path: Path, rows: list[tuple[str, ...]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join("\t".join(row) + "\n" for row in rows)
    path.write_bytes(zstandard.compress(lines.encode()))


def read(path: Path) -> list[list[str]]:
    text = zstandard.decompress(path.read_bytes()).decode()
    return [line.split("\t") for line in text.splitlines()]


@pytest.mark.parametrize(
    ("locale", "language"),
    [
        ("pt_BR", "pt"), ("zh-Hans", "zh"), ("zh_TW", None), ("sr@latin", None), ("sr-Cyrl", "sr"),
        ("fil", "tl"), ("kmr-Latn", "ku"), ("nn", None), ("es-419", "es"), ("ca-valencia", None),
        ("no", "nb"), ("en-GB", None),
    ],
)  # fmt: skip
def test_a_locale_is_one_of_the_languages_or_none(locale: str, language: str | None) -> None:
    assert languages.language_of(locale) == language


def test_text_in_another_script_is_not_of_the_language() -> None:
    assert languages.in_script("Это предложение", "ru")
    assert not languages.in_script("This is English", "ru")
    assert not languages.in_script("これは日本語です", "zh")
    assert languages.in_script("这是中文", "zh")
    assert not languages.in_script("123", "de")


def test_data_packs_and_catalogues_are_read_by_key() -> None:
    assert formats.read_pak(pack({7: "Close the tab", 9: "Ŝlosu"})) == {
        "7": "Close the tab", "9": "Ŝlosu",
    }  # fmt: skip
    with pytest.raises(ValueError, match="version 5"):
        formats.read_pak(struct.pack("<IB3xHH", 4, 1, 0, 0))
    fluent = (
        "# a comment\n-brand = Firefox\nhello = Good\n    morning\n    .title = To you\n\n# no\n"
    )
    assert formats.read_fluent(fluent) == {"hello": "Good morning", "hello.title": "To you"}
    properties = "# no\nfirst = One \\\n   more\nsecond=caf\\u00e9\n"
    assert formats.read_properties(properties) == {"first": "One more", "second": "café"}
    assert formats.read_json(b'{"a": {"b": "x"}, "c": ["y"], "@metadata": {"d": "z"}}') == {
        "/a/b": "x", "/c/0": "y",
    }  # fmt: skip


def test_pages_pair_when_their_structure_is_the_same() -> None:
    page = "<page><info><credit><name>{}</name></credit></info><title>{}</title><p>{}</p>{}</page>"
    english = formats.read_mallard(page.format("Ann", "Help", "Press <b>it</b>", "").encode())
    credited = page.format("B</name><email>e</email><name>C", "Hilfe", "Drücken", "")
    german = formats.read_mallard(credited.encode())
    other = formats.read_mallard(page.format("B", "Hilfe", "Drücken", "<p>Mehr</p>").encode())
    assert set(english.values()) == {"Help", "Press it"}
    assert english.keys() == german.keys()
    assert not english.keys() & other.keys()
    assert formats.read_mallard(b"<page>") == {}


def test_articles_of_the_declaration_pair_by_their_paragraphs() -> None:
    page = (
        '<html data-code="{}"><body><article data-number="1"><h2>1</h2>{}</article></body></html>'
    )
    code, english = formats.read_declaration(page.format("eng", "<p>All</p><p>are</p>").encode())
    _, same = formats.read_declaration(page.format("afr", "<p>Alle</p><p>is</p>").encode())
    _, joined = formats.read_declaration(page.format("afr", "<p>Alle is</p>").encode())
    assert code == "eng"
    assert list(english.values()) == ["All", "are"]
    assert english.keys() == same.keys()
    assert not english.keys() & joined.keys()


def test_markup_and_keyboard_marks_are_removed_and_joiners_stay() -> None:
    assert formats.plain("<b>Save</b> &amp; ~close\n now") == "Save & close now"
    assert formats.plain("می\u200cخواهم\u2069") == "می\u200cخواهم"


def test_archives_give_the_wanted_files(tmp_path: Path) -> None:
    archive = tgz(tmp_path / "a.tgz", {"package/en.json": "1", "package/README": "2"})
    assert list(formats.members(archive, lambda name: name.endswith(".json"))) == [
        ("package/en.json", b"1")
    ]
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel:
        wheel.writestr("b/en.json", "3")
        wheel.writestr("a/en.json", "4")
    assert [name for name, _ in formats.members(tmp_path / "a.whl", bool)] == [
        "a/en.json", "b/en.json",
    ]  # fmt: skip


def test_sentences_and_names_are_told_from_code() -> None:
    assert cleaning.is_sentence("Turn off the device", "Zima kifaa hiki sasa", "sw")
    assert not cleaning.is_sentence("Turn off {device} now", "Zima {device} sasa", "sw")
    assert not cleaning.is_sentence("Turn off the device", "Turn off the device", "sw")
    assert cleaning.is_name("police car", "motokari", "sw")
    assert not cleaning.is_name("OK", "OK", "sw")
    assert not cleaning.is_name("50% off", "punguzo", "sw")


@pytest.fixture
def evaluation_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "corpora" / "eval"
    texts = {
        "tatoeba/tatoeba.swh-eng.eng": "How are you?\n",
        "flores200_devtest/eng_Latn.devtest": "The sun rose.\n",
        "sib200/eng_Latn/test.tsv": "index_id\tcategory\ttext\n1\ttravel\tThe sun rose.\n",
        "stsb_multi/stsb-en-dev.csv": '"A man, dancing.",Two dogs run.,2.0\n',
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_evaluation_text_is_found_whatever_its_case_and_punctuation(
    evaluation_folder: Path,
) -> None:
    evaluation = cleaning.Evaluation(evaluation_folder)
    assert evaluation.sizes == {
        "tatoeba": 1, "flores200_devtest": 1, "sib200": 1, "stsb_multi": 2,
    }  # fmt: skip
    assert evaluation.sets_with("HOW are you", "") == ["tatoeba"]
    assert evaluation.sets_with("x", "the sun rose") == ["flores200_devtest", "sib200"]
    assert evaluation.sets_with("A man dancing") == ["stsb_multi"]
    assert evaluation.sets_with("Category", "text", "!") == []


def test_a_missing_evaluation_set_is_an_error(evaluation_folder: Path) -> None:
    (evaluation_folder / "stsb_multi" / "stsb-en-dev.csv").unlink()
    with pytest.raises(FileNotFoundError, match="stsb_multi"):
        cleaning.Evaluation(evaluation_folder)


@pytest.fixture
def one_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Nothing is downloaded: one package of catalogues in two languages stands for all."""
    english = {
        "a": "Turn off the device",
        "b": "Close",
        "c": "The sun rose.",
        "d": "{n} files left",
    }
    swahili = {"a": "Zima kifaa hiki sasa", "b": "Funga", "c": "Jua lilichomoza leo", "d": "{n}"}
    turkish = {"a": "Bu cihazı şimdi kapatın", "b": "Kapat", "c": "Güneş doğdu", "d": "{n}"}
    files = {"en": english, "sw": swahili, "tr": turkish}
    archive = tgz(
        tmp_path / "given.tgz",
        {f"package/www/x/{code}.json": json.dumps(texts) for code, texts in files.items()},
    )
    source = next(source for source in sources.SOURCES if source.name == "scratch")
    asked: list[Path] = []

    def fetch(source: sources.Source, cache: Path, pins: object) -> list[fetching.Download]:
        asked.append(cache)
        return [fetching.Download("scratch-l10n", "1.0", archive, "digest")]

    monkeypatch.setattr(collect, "SOURCES", (source,))
    monkeypatch.setattr(collect, "fetch", fetch)
    return asked


def test_the_text_is_collected_once(
    tmp_path: Path,
    evaluation_folder: Path,
    one_source: list[Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    corpora = tmp_path / "corpora"
    rows = [
        ("Good night.", "İyi geceler.", "tat"), ("Good night.", "İyi geceler.", "tat"),
        ("How are you?", "Nasılsın?", "tat"), ("And he said", "Ve dedi", "bib"),
        ("A novel", "Bir roman", "nar"),
    ]  # fmt: skip
    tsv(corpora / "train" / "tr.tsv.zst", rows)
    tsv(corpora / "train_xy" / "all.tsv.zst", [("Guten Tag", "Bonjour", "de-fr")])
    output = tmp_path / "text"
    arguments = ["--corpora", str(corpora), "--work", str(tmp_path / "w"), "--output", str(output)]
    collect.main(arguments)

    # Where there are corpora, the tags with a clear licence are taken and no single words.
    assert sorted(read(output / "en-tr.tsv.zst")) == [
        ["Good night.", "İyi geceler.", "tat"],
        ["Turn off the device", "Bu cihazı şimdi kapatın", "scratch"],
    ]
    assert sorted(read(output / "en-sw.tsv.zst")) == [
        ["Close", "Funga", "scratch.short"],
        ["Turn off the device", "Zima kifaa hiki sasa", "scratch"],
    ]
    assert read(output / "xx-yy.tsv.zst") == [["Guten Tag", "Bonjour", "de-fr"]]
    summary = json.loads((output / "sources.json").read_text())
    assert summary["sources"]["scratch"]["pairs"] == 3
    assert summary["sources"]["scratch"]["packages"][0]["sha256"] == "digest"
    assert summary["languages"]["tr"]["dropped"] == {
        "double": 1,
        "in evaluation": {"any": 2, "flores200_devtest": 1, "sib200": 1, "tatoeba": 1},
    }  # fmt: skip
    assert summary["languages"]["sw"]["dropped"]["in evaluation"]["sib200"] == 1

    capsys.readouterr()
    before = {path: path.read_bytes() for path in output.iterdir()}
    (output / "en-sw.tsv.zst").unlink()
    collect.main(arguments)
    assert capsys.readouterr().err.split("\n") == ["writing en-sw.tsv.zst", ""]
    assert {path: path.read_bytes() for path in output.iterdir()} == before


def test_a_cap_takes_from_everywhere_and_one_translation_of_a_text() -> None:
    rows = [(f"Sentence number {i}", f"Satz {i}", "firefox") for i in range(30_000)]
    twice = [(f"Sentence number {i}", f"Noch ein Satz {i}", "firefox") for i in range(100)]
    kept = list(collect._capped(iter(rows + twice), True))
    assert len(kept) == len({row[0] for row in kept}) == collect.CAP_BESIDE_CORPORA
    first_half = set(rows[:15_000])
    assert 0.4 < sum(row in first_half for row in kept) / len(kept) < 0.6


def test_every_package_is_pinned() -> None:
    pins = fetching.read_pins()
    wanted = {(s.registry, package) for s in sources.SOURCES for package in s.packages}
    assert set(pins) == wanted
    assert all(len(digest) == 64 for _, digest in pins.values())


def test_what_is_in_the_cache_is_not_fetched_again(tmp_path: Path) -> None:
    source = next(source for source in sources.SOURCES if source.name == "scratch")
    folder = tmp_path / "packages" / "scratch"
    folder.mkdir(parents=True)
    path = tgz(folder / "scratch-l10n-3.1.0.tgz", {"package/x": "1"})
    (download,) = fetching.fetch(source, tmp_path, {})
    assert (download.path, download.version) == (path, "3.1.0")
    with pytest.raises(RuntimeError, match="digest"):
        fetching.fetch(source, tmp_path, {("npm", "scratch-l10n"): ("3.1.0", "0" * 64)})


def test_another_version_is_fetched_when_that_one_is_pinned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = next(source for source in sources.SOURCES if source.name == "scratch")
    folder = tmp_path / "packages" / "scratch"
    folder.mkdir(parents=True)
    tgz(folder / "scratch-l10n-3.1.0.tgz", {"package/x": "1"})

    def run(command: list[str], folder: Path) -> str:
        assert command[:2] == ["npm", "pack"]
        assert command[-1] == "scratch-l10n@3.2.0"
        tgz(folder / "scratch-l10n-3.2.0.tgz", {"package/x": "2"})
        return ""

    monkeypatch.setattr(fetching, "_run", run)
    with pytest.raises(RuntimeError, match="digest"):
        fetching.fetch(source, tmp_path, {("npm", "scratch-l10n"): ("3.2.0", "0" * 64)})
    (download,) = fetching.fetch(source, tmp_path, {("npm", "scratch-l10n"): ("3.2.0", "")})
    assert download.version == "3.2.0"
