from __future__ import annotations

import gzip
import lzma
import struct

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from support.readers import languages, texts, write

from ems_fast.corpus import Gettext, Moses, RawPair, Tmx, Tsv, open_corpora
from ems_fast.errors import InputError
from ems_fast.text.languages import canonical_order, pair_from_file_name, spell_code


class TestLanguages:
    @pytest.mark.parametrize(
        ("code", "expected"),
        [
            ("DE", "de"),
            ("pt_BR", "pt-br"),
            ("pt-BR", "pt-br"),
            ("zh-Hans-CN", "zh_hans-cn"),
            ("eng_Latn", "eng_latn"),
            ("sr@latin", "sr_latn"),
            ("ca@valencia", "ca"),
            ("de_DE.UTF-8", "de-de"),
            ("es_419", "es-419"),
        ],
    )
    def test_one_spelling(self, code, expected):
        assert spell_code(code) == expected
        assert spell_code(expected) == expected

    @pytest.mark.parametrize("code", ["", "d", "german", "de-fr-it-es", "d3", "xx yy"])
    def test_no_code(self, code):
        with pytest.raises(InputError, match="is not a language code"):
            spell_code(code)

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("en-de.tsv", ("en", "de")),
            ("corpus.en-de.tsv.gz", ("en", "de")),
            ("news_v2_fr-ja.tsv", ("fr", "ja")),
            ("zh_Hans-pt-BR.tsv", ("zh_hans", "pt-br")),
            ("eng-fra.tmx", ("eng", "fra")),
            ("my-own.tsv", None),
            ("xx-yy.tsv", None),
            ("corpus.tsv", None),
        ],
    )
    def test_file_names(self, name, expected):
        assert pair_from_file_name(name) == expected

    def test_english_first_then_alphabetical(self):
        assert canonical_order("de", "en") == canonical_order("en", "de") == ("en", "de")
        assert canonical_order("ja", "de") == ("de", "ja")
        assert canonical_order("en-gb", "af") == ("en-gb", "af")


class TestTsv:
    def test_file_name_gives_the_languages(self, tmp_path):
        path = write(tmp_path / "en-de.tsv", "Hello\tHallo\nBye\tTschüss\n")
        assert list(Tsv(path)) == [
            RawPair("Hello", "Hallo", "en", "de", 1),
            RawPair("Bye", "Tschüss", "en", "de", 2),
        ]

    @pytest.mark.parametrize("suffix", [".gz", ".zst", ".xz"])
    def test_compressed(self, tmp_path, suffix):
        compress = {
            ".gz": gzip.compress,
            ".xz": lzma.compress,
            ".zst": zstandard.ZstdCompressor().compress,
        }[suffix]
        # Two frames one after another, as parallel compressors write them.
        data = compress(b"a\tb\n" * 5000) + compress("ü\tß\n".encode())
        reader = Tsv(write(tmp_path / f"news.en-de.tsv{suffix}", data))
        assert len(texts(reader)) == 5001
        assert texts(reader)[-1] == ("ü", "ß")

    @pytest.mark.parametrize("suffix", [".gz", ".zst", ".xz"])
    def test_cut_off(self, tmp_path, suffix):
        compress = {
            ".gz": gzip.compress,
            ".xz": lzma.compress,
            ".zst": zstandard.ZstdCompressor().compress,
        }[suffix]
        lines = "".join(f"{i * 7919 % 10007}\t{i * 104729 % 10007}\n" for i in range(20000))
        data = compress(lines.encode())
        path = write(tmp_path / f"en-de.tsv{suffix}", data[: len(data) // 2])
        with pytest.raises(InputError, match=rf"en-de\.tsv{suffix}: the compressed file is damag"):
            list(Tsv(path))

    def test_not_compressed_at_all(self, tmp_path):
        for suffix in (".gz", ".zst", ".xz"):
            with pytest.raises(InputError, match="the compressed file is damaged"):
                Tsv(write(tmp_path / f"en-de.tsv{suffix}", "a\tb\n")).check()

    def test_byte_order_mark_crlf_blank_lines_and_no_last_line_end(self, tmp_path):
        path = write(tmp_path / "en-de.tsv", "\ufeffa\tb\r\n\r\n  \r\nc\td")
        assert [tuple(p) for p in Tsv(path)] == [
            ("a", "b", "en", "de", 1),
            ("c", "d", "en", "de", 4),
        ]

    def test_mixed_scripts_quotes_and_odd_line_ends_are_text(self, tmp_path):
        text = 'He said "日本語" и  שלום\u2028x\x0by'
        path = write(tmp_path / "en-de.tsv", f"{text}\t'b\n")
        assert texts(Tsv(path)) == [(text, "'b")]

    def test_long_sentence(self, tmp_path):
        path = write(tmp_path / "en-de.tsv", "x" * 100_000 + "\tb\n")
        assert len(texts(Tsv(path))[0][0]) == 100_000

    def test_line_without_end(self, tmp_path, monkeypatch):
        monkeypatch.setattr("ems_fast.files.streams.MAX_LINE_BYTES", 1000)
        path = write(tmp_path / "en-de.tsv", "a\tb\n" + "x" * 5000)
        with pytest.raises(InputError, match="line 2: has more than 1,000 bytes"):
            list(Tsv(path))

    def test_not_utf8(self, tmp_path):
        path = write(tmp_path / "en-de.tsv", b"a\tb\nHello\tGr\xfc\xdfe\n")
        with pytest.raises(InputError, match=r"en-de\.tsv, line 2: is not UTF-8 \(byte 0xfc at p"):
            list(Tsv(path))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("a\tb\nc\n", "line 2: has 1 tab-separated column, expected 2"),
            ("a\tb\nc\td\te\n", "line 2: has 3 tab-separated columns, expected 2"),
            ("a\nb\n", "line 1: has 1 tab-separated column, expected 2 or more"),
        ],
    )
    def test_wrong_column_count(self, tmp_path, text, message):
        with pytest.raises(InputError, match=message):
            Tsv(write(tmp_path / "en-de.tsv", text)).check()

    def test_wrong_column_count_beyond_the_sample(self, tmp_path):
        path = write(tmp_path / "en-de.tsv", "a\tb\n" * 5000 + "c\n")
        reader = Tsv(path)
        reader.check()
        with pytest.raises(InputError, match="line 5001: has 1 tab-separated column, expected 2"):
            list(reader)

    def test_header_of_languages(self, tmp_path):
        path = write(tmp_path / "corpus.tsv", "nr\tde\ten\n1\tHallo Welt\tHello world\n")
        expected = [RawPair("Hallo Welt", "Hello world", "de", "en", 2)]
        assert list(Tsv(path, "de", "en")) == expected
        path = write(tmp_path / "corpus.tsv", "x\tde\ten\n1\tHallo Welt\tHello world\n")
        assert list(Tsv(path)) == expected
        path = write(tmp_path / "corpus.tsv", "id\tde\ten\n1\tHallo Welt\tHello world\n")
        assert list(Tsv(path, columns=("de", "en"))) == expected
        assert list(Tsv(path, "de", "en")) == expected
        assert list(Tsv(path, "de", "en", columns=(1, 2))) == expected
        with pytest.raises(InputError, match=r"not clear|not known"):
            Tsv(path).check()

    def test_first_line_that_only_looks_like_a_header(self, tmp_path):
        path = write(tmp_path / "en-de.tsv", "no\tja\nyes\tdoch\n")
        assert texts(Tsv(path)) == [("no", "ja"), ("yes", "doch")]
        path = write(tmp_path / "de-en.tsv", "en\tde\nHello\tHallo\n")
        assert list(Tsv(path)) == [RawPair("Hello", "Hallo", "en", "de", 2)]

    def test_header_follows_the_order_of_the_arguments(self, tmp_path):
        path = write(tmp_path / "x.tsv", "en\tde\nHello\tHallo\n")
        assert list(Tsv(path, "de", "en")) == [RawPair("Hallo", "Hello", "de", "en", 2)]

    def test_language_column(self, tmp_path):
        path = write(tmp_path / "xy.tsv", "Hallo du\tSalut toi\tde-fr\nHola tú\tHei sinä\tes-fi\n")
        assert [(p.source_lang, p.target_lang) for p in Tsv(path)] == [("de", "fr"), ("es", "fi")]

    def test_language_column_with_another_value_later(self, tmp_path):
        path = write(tmp_path / "xy.tsv", "a b\tc d\tde-fr\n" * 2000 + "a\tb\tgerman\n")
        with pytest.raises(InputError, match="line 2001: 'german' in the column of languages"):
            list(Tsv(path))

    def test_tags(self, tmp_path):
        lines = "Hello you\tHallo du\ttat\nBye you\tTschüss du\tbib\n"
        path = write(tmp_path / "en-de.tsv", lines)
        assert len(texts(Tsv(path))) == 2
        assert texts(Tsv(path, tags=["bib", "qur"])) == [("Bye you", "Tschüss du")]
        assert texts(Tsv(path, tag_column=2, tags=["tat"])) == [("Hello you", "Hallo du")]
        with pytest.raises(InputError, match="none of the tags xyz is in its first 2 lines"):
            Tsv(path, tags=["xyz"]).check()

    def test_tags_are_ignored_where_there_are_two_columns(self, tmp_path):
        path = write(tmp_path / "en-de.tsv", "a\tb\n")
        assert texts(Tsv(path, tags=["tat"])) == [("a", "b")]

    def test_columns_named(self, tmp_path):
        path = write(tmp_path / "en-de.tsv", "score\tsource\ttarget\n0.5\tHello\tHallo\n")
        assert texts(Tsv(path, columns=("source", "target"))) == [("Hello", "Hallo")]
        path = write(tmp_path / "de-en.tsv", "Hello\t0.5\tHallo\tx\n")
        assert texts(Tsv(path, columns=(2, 0))) == [("Hallo", "Hello")]

    def test_unclear_columns(self, tmp_path):
        path = write(tmp_path / "en-de.tsv", "dog\tHund\tlex\ncat\tKatze\tlex\n")
        with pytest.raises(InputError, match=r"3 columns and it is not clear .* columns=\(0, 1\)"):
            Tsv(path).check()
        assert texts(Tsv(path, tags=["lex"])) == [("dog", "Hund"), ("cat", "Katze")]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"columns": (0, 0)}, "two different columns"),
            ({"columns": (0, 7)}, "columns 7 does not exist"),
            ({"columns": ("a", "b")}, "columns 'a' is not in the header"),
            ({"tags": "tat"}, "tags must be a list"),
            ({"tag_column": 2}, "needs tags"),
            ({"source_lang": "en"}, "both source_lang and target_lang"),
            ({"source_lang": "en", "target_lang": "EN"}, "both sides are in 'en'"),
            ({"source_lang": "en", "target_lang": "x"}, "not a language code"),
            (
                {"source_lang": "en", "target_lang": "de", "language_column": 2},
                "languages are given twice",
            ),
        ],
    )
    def test_bad_arguments(self, tmp_path, options, message):
        path = write(tmp_path / "en-de.tsv", "Hello you\tHallo du\ttat\n")
        with pytest.raises(InputError, match=message):
            Tsv(path, **options).check()

    def test_unknown_languages(self, tmp_path):
        with pytest.raises(InputError, match="its languages are not known; name the file like"):
            Tsv(write(tmp_path / "corpus.tsv", "Hello\tHallo\n")).check()

    @given(
        st.lists(
            st.tuples(
                *[st.text(st.characters(exclude_characters="\t\n\r\ufeff", codec="utf-8"))] * 2
            ),
            max_size=20,
        )
    )
    def test_round_trip(self, tmp_path_factory, pairs):
        pairs = [("a", "b"), *(pair for pair in pairs if "".join(pair).strip())]
        path = tmp_path_factory.mktemp("tsv") / "x.tsv"
        write(path, "".join(f"{a}\t{b}\n" for a, b in pairs))
        assert texts(Tsv(path, "en", "de")) == pairs


class TestMoses:
    def test_pair(self, tmp_path):
        write(tmp_path / "news.en", "Hello\nBye\n")
        write(tmp_path / "news.de.gz", gzip.compress("Hallo\nTschüss".encode()))
        reader = Moses(tmp_path / "news", "en", "de")
        reader.check()
        assert list(reader)[1] == RawPair("Bye", "Tschüss", "en", "de", 2)

    def test_unequal(self, tmp_path):
        write(tmp_path / "news.en", "a\nb\nc\n")
        write(tmp_path / "news.de", "a\nb")
        reader = Moses(tmp_path / "news", "en", "de")
        message = r"news\.en has 3 lines and .*news\.de has 2; the files of a pair must be aligned"
        with pytest.raises(InputError, match=message):
            reader.check()
        with pytest.raises(InputError, match=message):
            list(reader)

    def test_missing(self, tmp_path):
        write(tmp_path / "news.en", "a\n")
        with pytest.raises(InputError, match=r"news\.de: does not exist, nor with \.gz"):
            Moses(tmp_path / "news", "en", "de").check()


TMX = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE tmx SYSTEM "tmx14.dtd">
<tmx version="1.4"><header srclang="en-US" creationtool="x"/><body>
<tu><tuv xml:lang="en-US"><seg>Hello &amp; <bpt i="1">&lt;b></bpt>bye<ept i="1">&lt;/b></ept>\
<hi> now</hi></seg></tuv>
    <tuv xml:lang="DE"><seg>Hallo</seg></tuv><tuv lang="fr"><seg>Salut</seg></tuv></tu>
<tu><tuv xml:lang="en-US"><seg>One</seg></tuv></tu>
<tu><tuv xml:lang="en-US"><seg>Two</seg></tuv><tuv xml:lang="de"><seg>Zwei</seg></tuv></tu>
</body></tmx>
"""


class TestTmx:
    def test_every_two_languages(self, tmp_path):
        found = list(Tmx(write(tmp_path / "x.tmx", TMX)))
        assert found == [
            RawPair("Hello & bye now", "Hallo", "en-us", "de", 4),
            RawPair("Hello & bye now", "Salut", "en-us", "fr", 4),
            RawPair("Hallo", "Salut", "de", "fr", 4),
            RawPair("Two", "Zwei", "en-us", "de", 7),
        ]

    def test_languages_asked_for(self, tmp_path):
        path = write(tmp_path / "x.tmx.gz", gzip.compress(TMX.encode()))
        assert texts(Tmx(path, "de", "en")) == [("Hallo", "Hello & bye now"), ("Zwei", "Two")]
        assert languages(Tmx(path, "de", "en")) == {("de", "en")}
        with pytest.raises(InputError, match=r"no unit has both 'en' and 'ja'; .* de, en-us, fr"):
            list(Tmx(path, "en", "ja"))

    def test_utf16(self, tmp_path):
        path = write(tmp_path / "x.tmx", TMX.replace("UTF-8", "UTF-16").encode("utf-16"))
        assert len(list(Tmx(path))) == 4

    def test_many_units(self, tmp_path):
        variants = '<tuv xml:lang="en"><seg>a{}</seg></tuv><tuv xml:lang="de"><seg>b</seg></tuv>'
        unit = f"<tu>{variants}</tu>\n"
        text = "<tmx><body>" + "".join(unit.format(i) for i in range(3000)) + "</body></tmx>"
        found = list(Tmx(write(tmp_path / "x.tmx", text)))
        assert [pair.source for pair in found] == [f"a{i}" for i in range(3000)]
        assert found[2999].line == 3000

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (TMX.replace("</tuv></tu>", "</tu>", 1), r"x\.tmx, line 5: .*\(mismatched tag\)"),
            (TMX[:-30], r"x\.tmx, line 7: is not well-formed XML"),
            ("<html></html>", "is XML but no TMX"),
            ("<tmx><body><tu><tuv><seg/></tuv></tu></body></tmx>", "a <tuv> has no xml:lang"),
            (
                '<!DOCTYPE tmx [<!ENTITY x SYSTEM "file:///etc/passwd">]><tmx>&x;</tmx>',
                "line 1: declares the entity 'x'",
            ),
            ("plain text", "is not well-formed XML"),
        ],
    )
    def test_broken(self, tmp_path, text, message):
        with pytest.raises(InputError, match=message):
            list(Tmx(write(tmp_path / "x.tmx", text)))


PO = r"""# Translators
msgid ""
msgstr ""
"Language: de\n"
"Content-Type: text/plain; charset=UTF-8\n"

#: a.c:1
msgctxt "menu"
msgid "&File"
msgstr "&Datei"

#, fuzzy, c-format
msgid "Wrong"
msgstr "Falsch"

msgid "A \"long\" text\n"
"on two lines"
msgstr ""
"Ein \"langer\" Text\n"
"auf zwei Zeilen"

msgid "%d file"
msgid_plural "%d files"
msgstr[0] "%d Datei"
msgstr[1] "%d Dateien"

msgid "Not translated"
msgstr ""

#~ msgid "Old"
#~ msgstr "Alt"
"""


def po_quote(text: str) -> str:
    for plain, escaped in (
        ("\\", "\\\\"),
        ('"', '\\"'),
        ("\n", "\\n"),
        ("\t", "\\t"),
        ("\r", "\\r"),
    ):
        text = text.replace(plain, escaped)
    return f'"{text}"'


def mo_bytes(entries: dict[str, str], order: str = "<", encoding: str = "utf-8") -> bytes:
    ids = [key.encode(encoding) for key in sorted(entries)]
    strings = [entries[key].encode(encoding) for key in sorted(entries)]
    position = 28 + 16 * len(ids)
    tables = [[], []]
    for table, values in zip(tables, (ids, strings), strict=True):
        for value in values:
            table += [len(value), position]
            position += len(value) + 1
    header = [0x950412DE, 0, len(ids), 28, 28 + 8 * len(ids), 0, position]
    numbers = [*header, *tables[0], *tables[1]]
    data = b"".join(value + b"\0" for value in [*ids, *strings])
    return struct.pack(f"{order}{len(numbers)}I", *numbers) + data


class TestGettext:
    def test_po(self, tmp_path):
        found = list(Gettext(write(tmp_path / "messages.po", PO)))
        assert [tuple(pair[:2]) for pair in found] == [
            ("File", "Datei"),
            ('A "long" text\non two lines', 'Ein "langer" Text\nauf zwei Zeilen'),
            ("%d file", "%d Datei"),
            ("%d files", "%d Dateien"),
        ]
        assert {pair[2:4] for pair in found} == {("en", "de")}
        assert [pair.line for pair in found] == [9, 16, 22, 22]

    @pytest.mark.parametrize("order", ["<", ">"])
    def test_mo(self, tmp_path, order):
        entries = {
            "": "Language: de\nContent-Type: text/plain; charset=utf-8\n",
            "menu\x04&File": "&Datei",
            "%d file\0%d files": "%d Datei\0%d Dateien",
            "Größe": "Grösse",
        }
        path = write(tmp_path / "x.mo", mo_bytes(entries, order))
        assert set(texts(Gettext(path))) == {
            ("File", "Datei"),
            ("%d file", "%d Datei"),
            ("%d files", "%d Dateien"),
            ("Größe", "Grösse"),
        }

    def test_mo_damaged(self, tmp_path):
        data = mo_bytes({"": "Language: de\n", "a": "b"})
        for broken in (data[:40], data[:-4], b"not a catalogue, just some text"):
            with pytest.raises(InputError, match="is no compiled gettext catalogue, or is cut off"):
                list(Gettext(write(tmp_path / "x.mo", broken), target_lang="de"))

    def test_languages_with_other_plurals(self, tmp_path):
        three = 'msgid "f"\nmsgid_plural "fs"\nmsgstr[0] "0"\nmsgstr[1] "1"\nmsgstr[2] "2"\n'
        assert texts(Gettext(write(tmp_path / "ru.po", three))) == [("fs", "2")]
        one = 'msgid "f"\nmsgid_plural "fs"\nmsgstr[0] "0"\n'
        assert texts(Gettext(write(tmp_path / "ja.po", one))) == [("fs", "0")]

    def test_language_from_path(self, tmp_path):
        entry = 'msgid "a"\nmsgstr "b"\n'
        path = write(tmp_path / "locale/pt_BR/LC_MESSAGES/django.po", entry)
        assert languages(Gettext(path)) == {("en", "pt-br")}
        path = write(tmp_path / "locale/byn/LC_MESSAGES/x.po", entry)
        assert languages(Gettext(path)) == {("en", "byn")}
        with pytest.raises(InputError, match="its language is in neither its header"):
            Gettext(write(tmp_path / "x.po", entry)).check()
        assert languages(Gettext(tmp_path / "x.po", "fr", "de")) == {("fr", "de")}

    def test_declared_charset(self, tmp_path):
        text = '# Jürgen\nmsgid ""\nmsgstr "Last-Translator: Jürgen\\n"\n'
        text += '"Content-Type: text/plain; charset=ISO-8859-1\\n"\n\n'
        text += 'msgid "a"\nmsgstr "größe"\n'
        assert texts(Gettext(write(tmp_path / "de.po", text.encode("latin-1")))) == [("a", "größe")]
        header = "Last-Translator: Jürgen\nContent-Type: text/plain; charset=ISO-8859-1\n"
        data = mo_bytes({"": header, "a": "größe"}, encoding="latin-1")
        assert texts(Gettext(write(tmp_path / "de.mo", data))) == [("a", "größe")]
        path = write(tmp_path / "fr.po", 'msgid "a"\nmsgstr "größe"\n'.encode("latin-1"))
        with pytest.raises(InputError, match=r"fr\.po, line 2: is not UTF-8"):
            list(Gettext(path))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ('msgid "a"\nmsgstr b\n', "line 2: is no line of a PO file"),
            ('"a"\n', "line 1: a string without its keyword"),
            ('msgid "a"\nmsgstr "x"\nmsgid "b"\n', "line 3: ends within an entry"),
        ],
    )
    def test_broken(self, tmp_path, text, message):
        with pytest.raises(InputError, match=message):
            list(Gettext(write(tmp_path / "de.po", text)))

    @pytest.mark.parametrize(
        ("source", "target", "expected"),
        [
            ("_Open", "Ö_ffnen", ("_Open", "Ö_ffnen")),
            ("_Open", "_Öffnen", ("Open", "Öffnen")),
            ("Save &as", "Speichern &unter", ("Save as", "Speichern unter")),
            ("_File", "ファイル(_F)", ("File", "ファイル")),
            ("Q&A", "F&A", ("QA", "FA")),
            ("Cut & paste", "Kopieren & einfügen", ("Cut & paste", "Kopieren & einfügen")),
            ("&copy; x", "&copy; y", ("&copy; x", "&copy; y")),
            ("file_name", "datei_name", ("file_name", "datei_name")),
            ("&File", "Datei", ("&File", "Datei")),
        ],
    )
    def test_accelerators(self, tmp_path, source, target, expected):
        path = write(tmp_path / "de.po", f"msgid {po_quote(source)}\nmsgstr {po_quote(target)}\n")
        assert texts(Gettext(path)) == [expected]

    @given(
        st.lists(
            st.tuples(
                *[st.text(st.characters(exclude_characters="&_", codec="utf-8"), min_size=1)] * 2
            ),
            max_size=10,
        )
    )
    def test_round_trip(self, tmp_path_factory, pairs):
        text = "".join(f"msgid {po_quote(a)}\nmsgstr {po_quote(b)}\n\n" for a, b in pairs)
        path = tmp_path_factory.mktemp("po") / "de.po"
        assert texts(Gettext(write(path, "# comment\n" + text))) == pairs


class TestOpenCorpora:
    def test_folder(self, tmp_path):
        write(tmp_path / "b/en-de.tsv", "a\tb\n")
        write(tmp_path / "a/x.tmx", TMX)
        write(tmp_path / "a/news.en", "a\n")
        write(tmp_path / "a/news.ja", "b\n")
        write(tmp_path / "a/alone.fr", "b\n")
        write(tmp_path / "README.md", "not text")
        write(tmp_path / ".git/en-fr.tsv", "a\tb\n")
        write(tmp_path / "po/de/LC_MESSAGES/x.po", PO)
        write(tmp_path / "po/de/LC_MESSAGES/x.mo", mo_bytes({"": "Language: de\n"}))
        write(tmp_path / "po/en/LC_MESSAGES/x.po", 'msgid "a"\nmsgstr "b"\n')
        assert open_corpora(tmp_path) == [
            Tmx(tmp_path / "a/x.tmx"),
            Tsv(tmp_path / "b/en-de.tsv"),
            Gettext(tmp_path / "po/de/LC_MESSAGES/x.po"),
            Moses(tmp_path / "a/news", "en", "ja"),
        ]

    def test_mixed_inputs_each_once(self, tmp_path):
        path = write(tmp_path / "en-de.tsv", "a\tb\n")
        write(tmp_path / "news.en", "a\n")
        write(tmp_path / "news.ja", "b\n")
        moses = Moses(tmp_path / "news", "en", "ja")
        inputs = [tmp_path / "news", str(tmp_path / "news.en"), path, tmp_path, str(path), moses]
        assert open_corpora(inputs) == [moses, Tsv(path)]
        assert open_corpora(str(path)) == [Tsv(path)]
        assert open_corpora(moses) == [moses]

    def test_languages_by_stem(self, tmp_path):
        write(tmp_path / "de.tsv", "Hello you\tHallo du\ttat\n")
        write(tmp_path / "fr.x.tsv", "Hello you\tSalut toi\tbib\n")
        found = open_corpora(tmp_path, languages="en-{stem}")
        assert [languages(reader) for reader in found] == [{("en", "de")}, {("en", "fr")}]
        with pytest.raises(InputError, match=r"languages='en' gives 'en', which is not a pair"):
            open_corpora(tmp_path, languages="en")

    def test_moses_of_several_languages(self, tmp_path):
        for code in ("de", "en", "fr"):
            write(tmp_path / f"x.{code}", "a\n")
        assert len(open_corpora(tmp_path)) == 3
        expected = Moses(tmp_path / "x", "en", "fr")
        assert open_corpora(tmp_path, languages="en-fr") == [expected]

    def test_errors_before_any_work(self, tmp_path):
        good = write(tmp_path / "en-de.tsv", "a\tb\n")
        empty = write(tmp_path / "empty/en-fr.tsv", "")
        odd = write(tmp_path / "text.docx", "x")
        (tmp_path / "nothing").mkdir()
        for item, message in (
            (tmp_path / "missing.tsv", "missing.tsv: does not exist"),
            (tmp_path / "missing", "missing: does not exist"),
            (empty, "en-fr.tsv: the file is empty"),
            (empty.parent, "en-fr.tsv: the file is empty"),
            (odd, r"text.docx: is of an unknown format; known are \.tsv, \.tmx, \.po, \.mo"),
            (tmp_path / "nothing", "nothing: holds no parallel text"),
            (7, "7 is neither a path nor a reader"),
        ):
            with pytest.raises(InputError, match=message):
                open_corpora([good, item])
        with pytest.raises(InputError, match="corpora: none given"):
            open_corpora([])

    def test_blank_file(self, tmp_path):
        with pytest.raises(InputError, match="has no text in its first lines"):
            open_corpora(write(tmp_path / "en-de.tsv", "\n\n \n"))


@pytest.mark.corpora
def test_shared_corpora(corpora):
    train = open_corpora(corpora / "train", languages="en-{stem}", tags=["tat", "tatp"])
    assert len(train) == 24
    assert next(iter(train[0])).source_lang == "en"
    [xy] = open_corpora(corpora / "train_xy")
    assert next(iter(xy)).line == 1
    assert len(open_corpora(corpora / "eval" / "tatoeba")) > 100
