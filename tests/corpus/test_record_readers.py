"""Readers of records, XLIFF and archives, from disk and from URLs."""

from __future__ import annotations

import gzip
import json
import threading
import tracemalloc
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support.readers import languages, texts, write

import ems_fast
from ems_fast import Csv, HuggingFace, JsonLines, Parquet, Tsv, Xliff, ZippedMoses
from ems_fast.corpus import open_corpora
from ems_fast.errors import InputError

PAIRS = [("Hello, you", 'Hallo "du"'), ("Two\nlines", "Zwei\nZeilen"), ("日本", "Japan; ja")]


def json_lines(rows) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


class TestJsonLines:
    @pytest.mark.parametrize(
        ("make", "name"),
        [
            (lambda a, b: {"id": 1, "en": a, "de": b}, "x.jsonl"),
            (lambda a, b: {"translation": {"de": b, "en": a}, "score": 0.5}, "x.ndjson"),
            (lambda a, b: {"source": a, "target": b, "note": "n"}, "en-de.jsonl"),
            (lambda a, b: {"x": a, "y": b}, "news.en-de.jsonl"),
        ],
    )
    def test_fields_and_languages(self, tmp_path, make, name):
        path = write(tmp_path / name, json_lines(make(*pair) for pair in PAIRS))
        (reader,) = open_corpora(path)
        found = [(p.source, p.target, p.source_lang, p.target_lang) for p in reader]
        straight = [(a, b, "en", "de") for a, b in PAIRS]
        assert found in (straight, [(b, a, "de", "en") for a, b in PAIRS])
        assert [pair.line for pair in reader] == [1, 2, 3]

    def test_columns_and_given_languages(self, tmp_path):
        row = {"a": "x", "b": "y", "c": {"d": "z"}}
        path = write(tmp_path / "x.jsonl", json_lines([row]))
        reader = JsonLines(path, "fi", "sv", columns=("b", "c.d"))
        assert texts(reader) == [("y", "z")]
        assert languages(reader) == {("fi", "sv")}
        with pytest.raises(InputError, match=r"not clear which two fields .* 'a', 'b', 'c\.d'"):
            JsonLines(path, "fi", "sv").check()
        with pytest.raises(InputError, match="has no field 'q'"):
            JsonLines(path, "fi", "sv", columns=("a", "q")).check()

    def test_compressed_blank_lines_and_null(self, tmp_path):
        text = '\n{"en": "a", "de": null}\n  \n{"en": "b", "de": "c"}'
        path = write(tmp_path / "x.jsonl.gz", gzip.compress(text.encode()))
        assert [(p.source, p.target, p.line) for p in JsonLines(path)] == [
            ("a", "", 2),
            ("b", "c", 4),
        ]

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ('{"en": "a", "de"', "line 2: is not JSON"),
            ("[1, 2]", "line 2: is a list, expected an object"),
            ('{"en": "a"}', "line 2: has no field 'de'"),
            ('{"en": "a", "de": 3}', "line 2: field 'de' holds a int, expected text"),
            ("[" * 100_000, "line 2: is not JSON"),
        ],
    )
    def test_what_a_line_may_not_be(self, tmp_path, line, message):
        path = write(tmp_path / "x.jsonl", '{"en": "a", "de": "b"}\n' + line + "\n")
        with pytest.raises(InputError, match=message):
            list(JsonLines(path))

    def test_unknown_languages(self, tmp_path):
        path = write(tmp_path / "x.jsonl", json_lines([{"source": "a", "target": "b"}]))
        with pytest.raises(InputError, match="languages are not known"):
            JsonLines(path).check()


class TestCsv:
    def test_quotes_lines_inside_and_line_numbers(self, tmp_path):
        text = (
            'id,en,de\n1,"Hello, you","Hallo ""du"""\n\n2,"Two\nlines","Zwei\nZeilen"\n3,日本,Japan'
        )
        reader = Csv(write(tmp_path / "x.csv", text))
        assert texts(reader) == [("Hello, you", 'Hallo "du"'), PAIRS[1], ("日本", "Japan")]
        assert [pair.line for pair in reader] == [2, 4, 7]

    def test_semicolons_and_names(self, tmp_path):
        reader = Csv(write(tmp_path / "fr-it.csv", "source;target;n\na;b, c;1\n"))
        assert texts(reader) == [("a", "b, c")]
        assert languages(reader) == {("fr", "it")}

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            ("a", "line 3: has 1 cells, but the header has 2"),
            ("a,b,c", "line 3: has 3 cells"),
            ('a,"b', "line 3: is not CSV"),
            ('a,"b"c', "line 3: is not CSV"),
        ],
    )
    def test_what_a_row_may_not_be(self, tmp_path, row, message):
        with pytest.raises(InputError, match=message):
            list(Csv(write(tmp_path / "x.csv", f"en,de\na,b\n{row}\n")))


class TestParquet:
    @pytest.fixture(autouse=True)
    def _needs_pyarrow(self):
        pytest.importorskip("pyarrow", reason="needs pyarrow")

    def make(self, path: Path, columns: dict[str, list], rows: int = 7) -> Path:
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.table(columns), path, row_group_size=rows)
        return path

    def test_columns(self, tmp_path):
        sides = {"en": [f"a{i}" for i in range(50)], "n": list(range(50)),
                 "de": [None, *(f"b{i}" for i in range(1, 50))]}  # fmt: skip
        (reader,) = open_corpora(self.make(tmp_path / "x.parquet", sides))
        assert texts(reader)[:2] == [("a0", ""), ("a1", "b1")]
        assert [pair.line for pair in reader] == list(range(1, 51))
        assert languages(reader) == {("en", "de")}

    def test_inside_a_struct(self, tmp_path):
        rows = {"translation": [{"de": b, "en": a} for a, b in PAIRS], "id": ["1", "2", "3"]}
        path = self.make(tmp_path / "x.parquet", rows)
        assert texts(Parquet(path, "en", "de")) == PAIRS
        assert languages(Parquet(path)) == {("de", "en")}

    def test_without_the_columns(self, tmp_path):
        path = self.make(tmp_path / "en-de.parquet", {"a": ["x"], "n": [1]})
        with pytest.raises(InputError, match="not clear which two fields are the text; it has 'a'"):
            open_corpora(path)
        with pytest.raises(InputError, match="has no field 'n' of text"):
            Parquet(path, columns=("a", "n")).check()

    def test_damaged_or_none(self, tmp_path):
        path = self.make(tmp_path / "en-de.parquet", {"a": ["x"] * 99, "b": ["y"] * 99})
        for data in (path.read_bytes()[:-9], b"PAR1 no"):
            with pytest.raises(InputError, match="is damaged or no Parquet"):
                Parquet(write(tmp_path / "cut.en-de.parquet", data)).check()


class TestHuggingFace:
    @pytest.fixture
    def datasets(self):
        return pytest.importorskip("datasets", reason="needs datasets")

    @pytest.mark.parametrize("streaming", [False, True])
    def test_read_more_than_once(self, datasets, streaming):
        rows = [{"id": i, "translation": {"en": a, "de": b}} for i, (a, b) in enumerate(PAIRS)]
        dataset = datasets.Dataset.from_list(rows)
        dataset = dataset.to_iterable_dataset() if streaming else dataset
        (reader,) = open_corpora(HuggingFace(dataset, "en", "de"))
        assert texts(reader) == texts(reader) == PAIRS
        assert languages(reader) == {("en", "de")}

    def test_fails_midway(self, datasets):
        def rows():
            yield from ({"en": "a", "de": "b"} for _ in range(3000))
            raise ConnectionError("gone")

        reader = HuggingFace(datasets.IterableDataset.from_generator(rows))
        with pytest.raises(InputError, match=r"failed after 2,048 rows .*not the whole data set"):
            list(reader)

    def test_what_is_no_split(self, datasets):
        one = datasets.Dataset.from_list([{"en": "a", "de": "b"}])
        with pytest.raises(InputError, match=r"holds splits \(train\)"):
            HuggingFace(datasets.DatasetDict(train=one)).check()
        with pytest.raises(InputError, match="dataset: got a list"):
            HuggingFace([1]).check()
        with pytest.raises(InputError, match="has no rows"):
            HuggingFace(one.select([])).check()


XLIFF_1 = """<?xml version="1.0"?>
<xliff version="1.2" xmlns="urn:oasis:names:tc:xliff:document:1.2">
<file original="a" source-language="en" target-language="de-DE" datatype="plaintext"><body>
<trans-unit id="1"><source>One <ph id="1">&lt;b/></ph><g id="2">word</g></source>
 <target state="translated">Ein <ph id="1">&lt;b/></ph><g id="2">Wort</g></target>
 <alt-trans><source>no</source><target>nein</target></alt-trans></trans-unit>
<trans-unit id="2"><source>Two</source><target state="needs-translation">Two</target></trans-unit>
<trans-unit id="3"><source>Three</source></trans-unit>
<group><trans-unit id="4"><source>Four &amp; more</source><target>Vier &amp; mehr</target>
</trans-unit></group>
</body></file></xliff>"""
XLIFF_2 = """<xl:xliff version="2.0" srcLang="en" trgLang="fr"
 xmlns:xl="urn:oasis:names:tc:xliff:document:2.0"><xl:file id="f"><xl:unit id="1">
<xl:segment><xl:source>One <xl:pc id="1">word</xl:pc><xl:ph id="2"/></xl:source>
<xl:target>Un <xl:pc id="1">mot</xl:pc></xl:target></xl:segment>
<xl:ignorable><xl:source> </xl:source></xl:ignorable>
<xl:segment state="initial"><xl:source>Two</xl:source><xl:target>Two</xl:target></xl:segment>
</xl:unit></xl:file></xl:xliff>"""


class TestXliff:
    def test_version_1(self, tmp_path):
        (reader,) = open_corpora(write(tmp_path / "x.xlf", XLIFF_1))
        assert texts(reader) == [("One word", "Ein Wort"), ("Four & more", "Vier & mehr")]
        assert languages(reader) == {("en", "de-de")}
        assert [pair.line for pair in reader] == [4, 9]

    def test_version_2(self, tmp_path):
        (reader,) = open_corpora(write(tmp_path / "x.xliff", XLIFF_2))
        assert texts(reader) == [("One word", "Un mot")]
        assert languages(reader) == {("en", "fr")}

    def test_given_languages(self, tmp_path):
        text = XLIFF_1.replace(' target-language="de-DE"', "")
        path = write(tmp_path / "x.xlf", text)
        assert languages(Xliff(path, "en", "de")) == {("en", "de")}
        with pytest.raises(InputError, match="line 4: the file does not say its two languages"):
            Xliff(path).check()

    def test_entities_are_refused(self, tmp_path):
        bomb = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'
        path = write(tmp_path / "x.xlf", XLIFF_1.replace("<xliff", bomb + "<xliff", 1))
        with pytest.raises(InputError, match="line 2: declares the entity 'a'"):
            open_corpora(path)

    def test_cut_off_or_other_xml(self, tmp_path):
        with pytest.raises(InputError, match="is not well-formed XML"):
            list(Xliff(write(tmp_path / "x.xlf", XLIFF_1[:-30])))
        with pytest.raises(InputError, match="is XML but no XLIFF"):
            list(Xliff(write(tmp_path / "x.xlf", "<tmx/>")))


class TestZippedMoses:
    def make(self, path: Path, files: dict[str, str]) -> Path:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in files.items():
                archive.writestr(name, text)
        return path

    def test_a_pair_as_opus_gives_it(self, tmp_path):
        files = {"README": "x", "LICENSE": "y", "Books.de-en.de": "eins\nzwei\n",
                 "Books.de-en.en": "one\r\ntwo\n", "Books.de-en.ids": "1\n2\n"}  # fmt: skip
        (reader,) = open_corpora(self.make(tmp_path / "de-en.txt.zip", files), languages="en-de")
        assert texts(reader) == [("one", "eins"), ("two", "zwei")]
        assert languages(ZippedMoses(tmp_path / "de-en.txt.zip")) == {("de", "en")}

    def test_which_pair(self, tmp_path):
        path = self.make(tmp_path / "x.zip", {"a.en": "1", "a.de": "2", "a.fr": "3"})
        assert texts(ZippedMoses(path, "fr", "de")) == [("3", "2")]
        with pytest.raises(InputError, match=r"holds a\.\{de,en,fr\}; expected one pair"):
            ZippedMoses(path).check()
        with pytest.raises(InputError, match="no Moses pairs"):
            ZippedMoses(self.make(tmp_path / "y.zip", {"README": "x"})).check()

    def test_not_aligned(self, tmp_path):
        path = self.make(tmp_path / "x.zip", {"a.en": "1\n2\n", "a.de": "2\n"})
        with pytest.raises(InputError, match=r"a\.de ends before line 2 of a\.en"):
            list(ZippedMoses(path))

    def test_a_bomb_is_refused(self, tmp_path):
        path = self.make(tmp_path / "x.zip", {"a.en": "a\n" * (1 << 25) + "b", "a.de": "b\n"})
        with pytest.raises(InputError, match=r"a\.en would unpack from .* to 67,108,865 bytes"):
            open_corpora(path)

    def test_damaged(self, tmp_path):
        path = self.make(tmp_path / "x.zip", {"a.en": "one\n" * 999, "a.de": "two\n" * 999})
        data = bytearray(path.read_bytes())
        with pytest.raises(InputError, match="the archive is damaged"):
            ZippedMoses(write(tmp_path / "cut.zip", bytes(data[:-40]))).check()
        data[45] ^= 0xFF
        with pytest.raises(InputError, match="the archive is damaged"):
            list(ZippedMoses(write(tmp_path / "bad.zip", bytes(data))))


@pytest.fixture
def fsspec():
    return pytest.importorskip("fsspec", reason="needs fsspec")


class TestUrls:
    def test_every_format_from_memory(self, fsspec, tmp_path):
        pytest.importorskip("pyarrow", reason="needs pyarrow")
        TestParquet().make(tmp_path / "en-de.parquet", {"en": ["a"], "de": ["b"]})
        TestZippedMoses().make(tmp_path / "x.zip", {"x.en": "a\n", "x.de": "b\n"})
        write(tmp_path / "en-de.tsv.gz", gzip.compress(b"a\tb\n"))
        write(tmp_path / "x.jsonl", '{"en": "a", "de": "b"}\n')
        write(tmp_path / "x.csv", "en,de\na,b\n")
        write(tmp_path / "de.po", 'msgid "a"\nmsgstr "b"\n')
        write(tmp_path / "x.xlf", XLIFF_1)
        write(tmp_path / "m.en", "a\n")
        write(tmp_path / "m.de.gz", gzip.compress(b"b\n"))
        for file in tmp_path.iterdir():
            with fsspec.open(f"memory://r/{file.name}", "wb") as there:
                there.write(file.read_bytes())
        for name in ("en-de.parquet", "x.zip", "en-de.tsv.gz", "x.jsonl", "x.csv", "de.po", "m"):
            (reader,) = open_corpora(f"memory://r/{name}", languages="en-de")
            assert texts(reader) == [("a", "b")], name
        (reader,) = open_corpora("memory://r/x.xlf")
        assert len(texts(reader)) == 2

    def test_what_is_not_there(self, fsspec):
        with pytest.raises(InputError, match=r"memory://r/none\.en-de\.tsv: .*does not exist"):
            open_corpora("memory://r/none.en-de.tsv")
        with pytest.raises(InputError, match="unknown format"):
            open_corpora("memory://r/none.bin")
        with pytest.raises(InputError, match="cannot be read"):
            open_corpora("nothing://r/none.en-de.tsv")


@pytest.fixture
def server() -> Iterator[tuple[str, dict[str, bytes]]]:
    """A server on the loopback; it breaks off in the middle of what is called ``broken``."""
    files: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            data = files.get(self.path)
            if data is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data[: len(data) // 2] if "broken" in self.path else data)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}", files
        http.shutdown()
        thread.join()


class TestHttp:
    @pytest.fixture(autouse=True)
    def _needs_aiohttp(self, fsspec):
        pytest.importorskip("aiohttp", reason="needs fsspec[http]")

    def test_read(self, server):
        url, files = server
        files["/en-de.tsv"] = b"".join(b"a%d\tb\n" % i for i in range(500_000))
        (reader,) = open_corpora(f"{url}/en-de.tsv")
        assert sum(1 for _ in reader) == 500_000

    def test_one_that_fails_midway_is_not_taken_for_the_whole(self, server):
        url, files = server
        files["/broken.en-de.tsv"] = b"a\tb\n" * 500_000
        with pytest.raises(InputError, match="what was read is not the whole file"):
            list(Tsv(f"{url}/broken.en-de.tsv"))

    def test_not_found(self, server):
        with pytest.raises(InputError, match="does not exist"):
            open_corpora(f"{server[0]}/en-de.tsv")


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv", "zip", "parquet", "xlf"])
def test_memory_does_not_grow_with_the_file(tmp_path, kind):
    """Ten times the pairs, the same peak of Python's own allocations."""

    def make(n: int) -> Path:
        pairs = [(f"sentence {i}", f"Satz {i}") for i in range(n)]
        path = tmp_path / f"{n}.en-de.{kind}"
        if kind == "jsonl":
            return write(path, json_lines({"en": a, "de": b} for a, b in pairs))
        if kind in ("csv", "tsv"):
            mark = {"csv": ",", "tsv": "\t"}[kind]
            return write(path, f"en{mark}de\n" + "".join(f"{a}{mark}{b}\n" for a, b in pairs))
        if kind == "xlf":
            units = (f"<trans-unit><source>{a}</source><target>{b}</target></trans-unit>"
                     for a, b in pairs)  # fmt: skip
            return write(path, '<xliff><file source-language="en" target-language="de">'
                         + "".join(units) + "</file></xliff>")  # fmt: skip
        if kind == "zip":
            sides = ("\n".join(side) for side in zip(*pairs, strict=True))
            return TestZippedMoses().make(path, dict(zip(("x.en", "x.de"), sides, strict=True)))
        pytest.importorskip("pyarrow", reason="needs pyarrow")
        sides = map(list, zip(*pairs, strict=True))
        return TestParquet().make(path, dict(zip(("en", "de"), sides, strict=True)), 5000)

    def peak(path: Path) -> int:
        (reader,) = open_corpora(path)
        tracemalloc.start()
        assert sum(1 for _ in reader) == int(path.name.split(".")[0])
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    n = 10_000 if kind == "parquet" else 3_000  # rows of Parquet are read in larger blocks
    small, large = make(n), make(10 * n)
    peak(small)  # imports
    assert peak(large) < peak(small) + 600_000


def test_a_corpus_is_prepared_from_them(tmp_path):
    rows = [{"en": f"number {i} of {i * 7}", "de": f"Nummer {i} von {i * 7}"} for i in range(600)]
    path = write(tmp_path / "x.jsonl", json_lines(rows))
    corpus = ems_fast.prepare(path, tmp_path / "corpus", vocab_size=300, valid_pairs=10,
                              progress=False)  # fmt: skip
    assert corpus.num_pairs > 500
