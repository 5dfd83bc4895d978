from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from ems_fast.demo import corpus as demo_corpus
from ems_fast.demo.corpus import collect, is_sentence_pair
from ems_fast.errors import InputError

HEADER = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n\n'


def write_catalogue(path: Path, messages: dict[str, str], extra: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    entries = (f'msgid "{source}"\nmsgstr "{target}"\n' for source, target in messages.items())
    path.write_text(HEADER + "\n".join(entries) + extra, encoding="utf-8")


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """Two packages in the two layouts that installed packages have."""
    root = tmp_path / "packages"
    write_catalogue(
        root / "shop/locale/de/LC_MESSAGES/django.po",
        {
            "The order was paid.": "Die Bestellung wurde bezahlt.",
            "Save": "Speichern",
            "Delete the selected files": "Die gewählten Dateien löschen",
        },
        '\nmsgid "%d ticket was sold"\nmsgid_plural "%d tickets were sold"\n'
        'msgstr[0] "%d Karte wurde verkauft"\nmsgstr[1] "%d Karten wurden verkauft"\n'
        '\n#, fuzzy\nmsgid "You cannot pay now"\nmsgstr "Nicht geprüfter Text hier"\n',
    )
    write_catalogue(
        root / "share/locale/pt_BR/LC_MESSAGES/tree.po",
        {"The order was paid.": "O pedido foi pago agora."},
    )
    write_catalogue(
        root / "shop/locale/pt/LC_MESSAGES/django.po",
        {"The order was paid.": "A encomenda foi paga."},
    )
    write_catalogue(
        root / "shop/locale/zh_Hant/LC_MESSAGES/django.po",
        {"The order was paid.": "訂單已付款。"},
    )
    return root


def read(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]


def test_collect_writes_one_file_per_language(packages: Path, tmp_path: Path) -> None:
    counts = collect(packages, tmp_path / "out", ["de", "pt"])
    assert counts == {"de": 2, "pt": 1}
    assert read(tmp_path / "out/en-de.tsv") == [
        ["The order was paid.", "Die Bestellung wurde bezahlt."],
        ["Delete the selected files", "Die gewählten Dateien löschen"],
    ]


def test_lines_join_and_invisible_characters_go(tmp_path: Path) -> None:
    messages = {"\u200eOpen the\\tfile\\nnow": "افتح الملف\u200f الآن"}
    write_catalogue(tmp_path / "p/locale/ar/LC_MESSAGES/x.po", messages)
    collect(tmp_path / "p", tmp_path / "out", ["ar"])
    assert read(tmp_path / "out/en-ar.tsv") == [["Open the file now", "افتح الملف الآن"]]


def test_translations_in_another_script_are_left_out(tmp_path: Path) -> None:
    messages = {
        "Open the settings": "Открыть настройки",
        "Close the settings now": "Zakryt nastavení of app",
        "Save the settings": "Сохранить настройки",
    }
    write_catalogue(tmp_path / "p/locale/ru/LC_MESSAGES/x.po", messages)
    assert collect(tmp_path / "p", tmp_path / "out", ["ru"]) == {"ru": 2}


def test_own_catalogues_go_before_regional_ones(packages: Path, tmp_path: Path) -> None:
    collect(packages, tmp_path / "out", ["pt"])
    assert read(tmp_path / "out/en-pt.tsv") == [["The order was paid.", "A encomenda foi paga."]]


def test_the_same_packages_give_the_same_files(packages: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        collect(packages, tmp_path / name, ["de", "pt"])
    for file in ("en-de.tsv", "en-pt.tsv"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_compiled_catalogue_stands_for_its_source(packages: Path, tmp_path: Path) -> None:
    folder = packages / "shop/locale/de/LC_MESSAGES"
    compiled = {
        "": "Content-Type: text/plain; charset=UTF-8\n",
        "Go to page one": "Zur ersten Seite",
    }
    (folder / "django.mo").write_bytes(mo_bytes(compiled))
    assert collect(packages, tmp_path / "out", ["de"]) == {"de": 1}
    assert read(tmp_path / "out/en-de.tsv") == [["Go to page one", "Zur ersten Seite"]]


def mo_bytes(messages: dict[str, str]) -> bytes:
    pairs = [(source.encode(), target.encode()) for source, target in sorted(messages.items())]
    start = 28 + 16 * len(pairs)
    tables: list[list[int]] = [[], []]
    texts = b""
    for side, table in enumerate(tables):
        for pair in pairs:
            table += [len(pair[side]), start + len(texts)]
            texts += pair[side] + b"\0"
    numbers = [0x950412DE, 0, len(pairs), 28, 28 + 8 * len(pairs), 0, 0, *tables[0], *tables[1]]
    return b"".join(number.to_bytes(4, "little") for number in numbers) + texts


def test_a_damaged_catalogue_is_named_and_left_out(packages: Path, tmp_path: Path) -> None:
    damaged = packages / "other/locale/de/LC_MESSAGES/other.mo"
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(mo_bytes({"One two three": "Eins zwei drei"})[:-9])
    with pytest.warns(UserWarning, match=r"other\.mo"):
        assert collect(packages, tmp_path / "out", ["de"]) == {"de": 2}


def test_installed_packages_are_found_without_a_folder(
    packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = packages / "trac-1.6.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: trac\nVersion: 1.6\n")
    (info / "RECORD").write_text("shop/locale/de/LC_MESSAGES/django.po,,\ntrac/env.py,,\n")
    monkeypatch.setattr(sys, "path", [str(packages), *sys.path])
    importlib.invalidate_caches()
    assert collect(None, tmp_path / "out", ["de"]) == {"de": 2}


def test_absent_packages_are_one_sentence_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is no folder; .*pip install --no-deps .* pretix"):
        collect(tmp_path / "absent", tmp_path / "out", ["de"])
    with pytest.raises(InputError, match=r"no gettext catalogues for de; .*pip install --no-deps"):
        collect(tmp_path, tmp_path / "out", ["de"])
    assert not (tmp_path / "out").exists()


def test_a_language_of_labels_only_is_an_error(tmp_path: Path) -> None:
    write_catalogue(tmp_path / "p/locale/de/LC_MESSAGES/x.po", {"Save": "Speichern"})
    with pytest.raises(InputError, match=r"for 'de' hold no sentence"):
        collect(tmp_path / "p", tmp_path / "out", ["de"])


@pytest.mark.parametrize("languages", [["en"], ["pt_BR"], ["German"], []])
def test_bad_languages_are_named(packages: Path, tmp_path: Path, languages: list[str]) -> None:
    with pytest.raises(InputError, match="languages: "):
        collect(packages, tmp_path / "out", languages)


@pytest.mark.parametrize(
    ("source", "target", "language"),
    [
        ("Delete the selected item?", "Soll der Eintrag gelöscht werden?", "de"),
        ("Only 5 % of it is left", "Nur 5 % davon sind übrig", "de"),
        ("The order was paid.", "注文は支払われました。", "ja"),
        ("We are closed. Come back later.", "Geschlossen, kommen Sie später wieder.", "de"),
        ("Open the file now", "अब फ़ाइल खोलें", "hi"),
    ],
)  # fmt: skip
def test_sentences(source: str, target: str, language: str) -> None:
    assert is_sentence_pair(source, target, language)


@pytest.mark.parametrize(
    ("source", "target", "language"),
    [
        # Placeholders, markup and accelerators.
        ("Remove %(user)s from the team", "Aus dem Team wird %(user)s entfernt", "de"),
        ("Remove %s from the team", "Aus dem Team wird %s entfernt", "de"),
        ("Delete the item {name}?", "Soll {name} gelöscht werden?", "de"),
        ("Only 5%% of it is left", "Nur 5 %% davon sind übrig", "de"),
        ("See <b>the notes</b> and more", "Siehe <b>Hinweise</b> und anderes", "de"),
        ("See the manual &amp; the notes", "Siehe Handbuch &amp; Hinweise", "de"),
        ("See the `manual` for more", "Mehr steht im `Handbuch`", "de"),
        ("Open a new file", "新しいファイルを開く(_N)", "ja"),
        # What is no translated sentence.
        ("Save as", "Speichern unter", "de"),
        ("This is a test", "This is a test", "de"),
        ("This is the last test", "This is the letzte test", "de"),
        ("Run foo --bar now please", "Starte jetzt foo --bar bitte", "de"),
        ("See https://example.org for more", "Mehr unter https://example.org lesen", "de"),
        ("One two three", "Eins " * 20, "de"),
        ("One two three", "1. 2. 3. (4) 5!", "de"),
        ("Один два три", "Eins zwei drei", "de"),
    ],
)  # fmt: skip
def test_what_is_no_sentence(source: str, target: str, language: str) -> None:
    assert not is_sentence_pair(source, target, language)


def test_requirements_list_the_same_packages() -> None:
    file = Path(__file__).resolve().parents[2] / "demo/requirements.txt"
    if not file.is_file():
        pytest.skip("the tests run outside a checkout")
    lines = file.read_text(encoding="utf-8").splitlines()
    named = [line for line in lines if line and line[0] not in "#-"]
    assert tuple(named) == demo_corpus.PACKAGES
    assert all(name in demo_corpus.INSTALL_COMMAND for name in named)
