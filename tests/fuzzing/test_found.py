"""What the fuzzer has found, one by one: each was a crash, a hang or an error of another kind."""

from __future__ import annotations

import json
import lzma
import shutil
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zstandard
from support.readers import texts, write

import ems_fast
from ems_fast import BinaryCorpus, InputError
from ems_fast.cli.parser import main
from ems_fast.corpus import open_corpora
from ems_fast.corpus.readers import gettext, xml
from ems_fast.encoding.embeddings import open_embeddings
from ems_fast.encoding.partial_array import partial_path, progress_path
from ems_fast.files.streams import read_lines
from ems_fast.files.tensors import MappedTensors
from ems_fast.model.config import ModelConfig
from ems_fast.runs.folder import RunFolder
from ems_fast.training.batches.builder import BatchBuilder
from ems_fast.training.batches.sampler import Rows
from fuzzing.models import write_run


def refused(path: Path, message: str) -> None:
    """Reading the file is an `InputError`."""
    with pytest.raises(InputError, match=message):
        [list(reader) for reader in open_corpora(path)]


class TestReaders:
    @pytest.mark.parametrize(
        "charset", ["rot13", "idna", "punycode", "unicode_escape", "undefined", "utf-16", "hex"]
    )
    def test_a_character_set_that_is_none_of_text(self, tmp_path: Path, charset: str) -> None:
        text = f'msgid ""\nmsgstr "Content-Type: text/plain; charset={charset}\\n"\n'
        refused(write(tmp_path / "de.po", text), f"unknown charset '{charset}'")

    def test_an_old_character_set_is_read(self, tmp_path: Path) -> None:
        text = 'msgid ""\nmsgstr "charset=%s\\n"\n\nmsgid "day"\nmsgstr "%s"\n'
        for code, word in (
            ("iso-8859-15", "T\u00e4g"),
            ("euc-jp", "\u65e5"),
            ("gb18030", "\u5929"),
        ):
            path = write(tmp_path / code / "de.po", (text % (code, word)).encode(code))
            assert texts(open_corpora(path)[0]) == [("day", word)]

    def test_the_number_of_a_plural_form_is_short(self, tmp_path: Path) -> None:
        text = f'msgid "a"\nmsgid_plural "b"\nmsgstr[{"9" * 5000}] "c"\n'
        refused(write(tmp_path / "de.po", text), "line 3: is no line of a PO file")

    def test_a_long_translation_in_many_lines_is_joined_once(self, tmp_path: Path) -> None:
        lines = '"ab"\n' * 300_000  # minutes, if what is there was copied for each of them
        path = write(tmp_path / "de.po", f'msgid "a"\nmsgstr ""\n{lines}')
        assert texts(open_corpora(path)[0]) == [("a", "ab" * 300_000)]

    def test_a_compiled_catalogue_is_not_read_without_bound(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gettext, "_MOST_BYTES", 1000)
        refused(write(tmp_path / "de.mo", bytes(1001)), "has more than 1,000 bytes")

    @pytest.mark.parametrize("encoding", ["utf-7", "x", "shift_jis", "rot13"])
    @pytest.mark.parametrize("name", ["x.tmx", "x.xlf"])
    def test_xml_in_an_encoding_that_cannot_be_read(
        self, tmp_path: Path, name: str, encoding: str
    ) -> None:
        text = f'<?xml version="1.0" encoding="{encoding}"?><tmx/>'
        refused(write(tmp_path / name, text), "declares an encoding that cannot be read")

    def test_xml_that_is_one_tag(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(xml, "MAX_LINE_BYTES", 1 << 18)
        path = write(tmp_path / "x.tmx", f'<tmx a="{"x" * (1 << 20)}"/>')
        refused(path, "a tag or comment has more than 262,144 bytes")
        unit = '<tu><tuv lang="{}"><seg>a</seg></tuv><tuv lang="{}"><seg>b</seg></tuv></tu>\n'
        many = unit.format("en", "de") * 20_000
        assert (
            len(texts(open_corpora(write(tmp_path / "y.tmx", f"<tmx>{many}</tmx>"))[0])) == 20_000
        )

    def test_a_header_that_is_not_csv(self, tmp_path: Path) -> None:
        refused(write(tmp_path / "en-de.csv", "a\rb,c\nx,y\n"), "line 1: is not CSV")

    def test_a_number_too_long_to_be_one(self, tmp_path: Path) -> None:
        path = write(tmp_path / "en-de.jsonl", f'{{"a": "x", "b": "y", "n": {"9" * 5000}}}')
        refused(path, "line 1: is not JSON .*digits")

    def test_objects_inside_of_objects_without_end(self, tmp_path: Path) -> None:
        deep = '{"a":' * 400 + "1" + "}" * 400
        path = write(tmp_path / "en-de.jsonl", f'{{"a": "x", "b": "y", "c": {deep}}}')
        assert texts(open_corpora(path)[0]) == [("x", "y")]

    def test_a_zip_that_asks_for_memory(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_LZMA) as archive:
            archive.writestr("x.en", "one\n")
            archive.writestr("x.de", "eins\n")
        refused(tmp_path / "x.zip", r"x\.de is packed with LZMA|x\.en is packed with LZMA")

    def test_a_zip_with_a_damaged_name(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
            archive.writestr("\u00e9.en", "one\n")
        data = (tmp_path / "x.zip").read_bytes().replace("\u00e9".encode(), b"\xff\xff")
        refused(write(tmp_path / "x.zip", data), "the archive is damaged")

    def test_parquet_of_text_that_is_none(self, tmp_path: Path) -> None:
        pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow")
        from pyarrow import parquet

        bad = pyarrow.array([b"\x80x"]).view(pyarrow.string())
        parquet.write_table(pyarrow.table({"en": bad, "de": ["a"]}), tmp_path / "x.parquet")
        refused(tmp_path / "x.parquet", "is damaged or no Parquet .*can't decode byte 0x80")


class TestCompression:
    @pytest.mark.parametrize("suffix", [".zst", ".xz"])
    def test_zeros_are_not_all_unpacked_at_once(self, tmp_path: Path, suffix: str) -> None:
        """Of a few kilobytes that stand for a gigabyte, a little is held at a time."""
        path = tmp_path / f"en-de.tsv{suffix}"
        line = b"a\tb\n" + b"\0" * (1 << 20)
        if suffix == ".zst":
            with path.open("wb") as file, zstandard.ZstdCompressor().stream_writer(file) as packed:
                packed.write(b"a\tb\n")
                for _ in range(1 << 10):
                    packed.write(bytes(1 << 20))
        else:
            path.write_bytes(lzma.compress(line * 200, preset=0))
        assert path.stat().st_size < 1 << 18
        tracemalloc.start()
        try:
            assert next(read_lines(path)) == (1, "a\tb")
            assert tracemalloc.get_traced_memory()[1] < 100 << 20
        finally:
            tracemalloc.stop()

    def test_an_xz_that_asks_for_memory(self, tmp_path: Path) -> None:
        filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 29}]
        data = lzma.compress(b"a\tb\n", filters=filters)
        refused(write(tmp_path / "en-de.tsv.xz", data), "Memory usage limit")

    def test_frames_one_after_another(self, tmp_path: Path) -> None:
        one, two = b"a\tb\n" * 3000, b"c\td\n"
        packed = lzma.compress(one) + bytes(8) + lzma.compress(two) + bytes(4)
        assert len(list(read_lines(write(tmp_path / "x.xz", packed)))) == 3001
        frame = zstandard.ZstdCompressor().compress
        assert len(list(read_lines(write(tmp_path / "x.zst", frame(one) + frame(two))))) == 3001


class TestCorpus:
    @pytest.fixture
    def damaged(self, corpus: BinaryCorpus, tmp_path: Path) -> Path:
        return Path(shutil.copytree(corpus.path, tmp_path / "corpus"))

    @pytest.mark.parametrize(
        ("place", "value"),
        [
            (("languages",), 7),
            (("languages",), ["en"]),
            (("languages", 0), None),
            (("vocab_size",), "x"),
            (("vocab_size",), 2**40),
            (("max_tokens",), 0),
            (("shards",), 1.5),
            (("shards", 0), []),
            (("shards", 0, "pairs"), "x"),
            (("shards", 0, "pairs"), True),
            (("shards", 0, "tokens"), -1),
            (("shards", 0, "tokens"), 10**30),
            (("shards", 0, "valid_pairs"), None),
            (("shards", 0, "source"), "../x"),
            (("inputs",), {"a": 1}),
            (("tokenizer_sha256",), 3),
        ],
    )
    def test_a_manifest_of_other_types(
        self, damaged: Path, place: tuple[Any, ...], value: object
    ) -> None:
        manifest = json.loads((damaged / "corpus.json").read_text())
        parent = manifest
        for key in place[:-1]:
            parent = parent[key]
        parent[place[-1]] = value
        (damaged / "corpus.json").write_text(json.dumps(manifest))
        with pytest.raises(InputError, match=r"corpus\.json: is damaged"):
            BinaryCorpus.open(damaged)

    @pytest.mark.parametrize("offset", [-1, 2**31, 2**62, -(2**63)])
    def test_offsets_outside_of_the_tokens(self, damaged: Path, offset: int) -> None:
        path = damaged / "shards" / "en-de" / "offsets.bin"
        offsets = np.fromfile(path, "<i8")
        offsets[7] = offset
        offsets.tofile(path)
        corpus = BinaryCorpus.open(damaged)
        builder = BatchBuilder(corpus, "count")
        rows = Rows(np.zeros(4, np.int32), np.arange(4))
        with pytest.raises(InputError, match="pair 3 of shard 0 has offsets or tokens that cannot"):
            builder.build(rows)
        with pytest.raises(InputError, match="does not ascend within the tokens"):
            corpus.shards[0].pair(3)
        out = np.empty((2, 1), np.int64)
        for shard, row in ((0, 10**9), (0, -1), (9, 0), (-1, 0)):
            with pytest.raises(InputError, match=f"pair {row} of shard {shard} has"):
                builder.reader.lengths(np.array([shard], np.int32), np.array([row]), out)

    def test_tokens_beyond_the_vocabulary(self, damaged: Path) -> None:
        path = damaged / "shards" / "en-de" / "tokens.bin"
        tokens = np.fromfile(path, "<u2")
        tokens[0] = 65_535
        tokens.tofile(path)
        builder = BatchBuilder(BinaryCorpus.open(damaged), "count")
        with pytest.raises(InputError, match="pair 0 of shard 0 has offsets or tokens that cannot"):
            builder.build(Rows(np.zeros(2, np.int32), np.arange(2)))

    def test_held_out_text_that_is_none(self, damaged: Path) -> None:
        (damaged / "shards" / "en-de" / "valid.tsv").write_bytes(b"\xff\n")
        with pytest.raises(InputError, match=r"valid\.tsv: cannot be read"):
            BinaryCorpus.open(damaged).shards[0].valid_pairs()


class TestModels:
    @pytest.mark.parametrize(
        "text",
        ["model = 7", "files = [1]", "[model]\nlanguages = 3", "[model]\nwidth = '8'",
         "[model]\nmax_tokens = 9223372036854775807", "[model]\nlayers = true",
         "[model]\nwidth = 8.0", "[model]\nlanguages = [1]", "[model]\ntied = 1",
         "[model]\ndropout = 'x'"],
    )  # fmt: skip
    def test_a_config_of_other_types(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "config.toml").write_text(f"format = 1\n{text}\n")
        with pytest.raises(InputError):
            RunFolder(tmp_path).read_model_config()

    def test_a_config_without_end(self, tmp_path: Path) -> None:
        (tmp_path / "config.toml").write_text(f"format = 1\nx = {'[' * 5000}")
        with pytest.raises(InputError, match="cannot be read"):
            RunFolder(tmp_path).read_config()

    def test_a_number_without_end(self, tmp_path: Path) -> None:
        (tmp_path / "config.toml").write_text(f"format = {'9' * 5000}")
        with pytest.raises(InputError, match="cannot be read"):
            RunFolder(tmp_path).read_config()

    @pytest.mark.parametrize(
        "header",
        ["[]", "7", "[" * 100_000,
         '{"t": {"dtype": "F32", "shape": [-2, -3], "data_offsets": [0, 24]}}',
         '{"t": {"dtype": "F32", "shape": [Infinity], "data_offsets": [0, 24]}}',
         '{"t": {"dtype": "F32", "shape": [0, 1e30], "data_offsets": [0, 0]}}',
         '{"t": {"dtype": ["F32"], "shape": [6], "data_offsets": [0, 24]}}'],
        ids=lambda header: header[:60],
    )  # fmt: skip
    def test_a_header_of_weights_that_is_none(self, tmp_path: Path, header: str) -> None:
        path = tmp_path / "x.safetensors"
        path.write_bytes(struct.pack("<Q", len(header)) + header.encode() + bytes(24))
        with pytest.raises(InputError, match="cannot be read"):
            MappedTensors(path).get("t")

    def test_weights_at_an_odd_place_are_aligned(self, tmp_path: Path) -> None:
        header = b'{"t": {"dtype": "F32", "shape": [2], "data_offsets": [1, 9]}}'
        path = tmp_path / "x.safetensors"
        numbers = np.array([1.5, -2.0], "<f4")
        path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" + numbers.tobytes())
        found = MappedTensors(path).get("t")
        assert found is not None
        assert found.flags.aligned
        np.testing.assert_array_equal(found, numbers)

    def test_scales_without_their_table(self, tmp_path: Path) -> None:
        from safetensors.torch import save_file

        folder = write_run(tmp_path, "layers")
        weights = {**folder.read_weights(), "encoder.tokens.weight_scale": torch.zeros(3)}
        save_file(weights, folder.weights)
        with pytest.raises(InputError, match="cannot be read"):
            ems_fast.load(tmp_path)

    def test_a_log_of_other_things(self, tmp_path: Path) -> None:
        folder = RunFolder(tmp_path)
        lines = [b'{"event": "train", "step": 1}', b'{"event": 7}', b"[]", b"7", b"\xff\xfe",
                 b"[" * 100_000, b'{"event": "x", "step": "y"}']  # fmt: skip
        folder.metrics.write_bytes(b"\n".join(lines))
        assert [line["event"] for line in folder.read_metrics()] == ["train", "x"]
        folder.forget_after(1)
        assert folder.read_metrics() == [{"event": "train", "step": 1}]

    @pytest.mark.parametrize(
        ("place", "value"),
        [
            (("model",), 7),
            (("model", "encoder.tokens.weight"), torch.zeros(1)),
            (("optimizer",), []),
            (("progress",), None),
            (("progress", "step"), -1),
            (("progress", "best"), {}),
            (("progress", "skipped"), 3),
            (("progress", "sampler", "consumed"), [-5]),
            (("progress", "sampler", "pool"), 2**70),
        ],
    )
    def test_a_checkpoint_of_something_else(
        self, corpus: BinaryCorpus, tmp_path: Path, place: tuple[str, ...], value: object
    ) -> None:
        options: dict[str, Any] = {"device": "cpu", "progress": False, "max_steps": 1}
        model = ModelConfig(layers=0, width=8, reconstruction=False)
        run = RunFolder(tmp_path / "run")
        ems_fast.train(corpus.path, run.path, model=model, batch_pairs=8, **options)
        parent = state = run.read_checkpoint()
        for key in place[:-1]:
            parent = parent[key]
        parent[place[-1]] = value
        run.write_checkpoint(state)
        with pytest.raises(InputError, match=r"last\.pt: is not a checkpoint of this run"):
            ems_fast.train(None, run.path, resume=True, device="cpu", progress=False)

    def test_a_batch_of_any_size(self, table_run: Path) -> None:
        encoder = ems_fast.load(table_run)
        with pytest.raises(InputError, match="batch_tokens: got 9223372036854775808, expected"):
            encoder.encode(["a"], batch_tokens=2**63)


class TestVectors:
    HEADER = b"\x93NUMPY\x01\x00"

    @pytest.mark.parametrize(
        "header",
        [b"{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775808, 2), }",
         b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 2), }", b"(" * 90, b"((\n",
         b"{'descr': '|O', 'fortran_order': False, 'shape': (1, 1), }", b"'''"],
    )  # fmt: skip
    def test_a_header_that_is_none(self, tmp_path: Path, header: bytes) -> None:
        path = tmp_path / "x.npy"
        path.write_bytes(self.HEADER + struct.pack("<H", len(header)) + header + bytes(64))
        with pytest.raises(InputError, match=r"x\.npy: cannot be read as a \.npy array"):
            open_embeddings(path)

    def test_an_archive_is_no_array(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "x.npz", a=np.zeros((2, 2), np.float32))
        path = (tmp_path / "x.npz").rename(tmp_path / "x.npy")
        with pytest.raises(InputError, match="does not begin like one"):
            open_embeddings(path)

    @pytest.mark.parametrize("text", ['{"format": 1, "rows": 1e999}', "[" * 100_000])
    def test_a_manifest_that_is_none(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "x.npy.json").write_text(text)
        with pytest.raises(InputError, match="is no manifest of embeddings"):
            open_embeddings(tmp_path / "x.npy")

    @pytest.mark.parametrize(
        "change",
        [{"counts": None}, {"counts": {"empty": "x"}}, {"rows_done": 1.5}, {"rows_done": 99},
         {"rows_done": -1}, {"rows": "x"}, {"rows_done": None}],
        ids=str,
    )  # fmt: skip
    def test_progress_that_is_none_starts_over(
        self, table_run: Path, tmp_path: Path, change: dict[str, object],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        encoder = ems_fast.load(table_run)
        source, output = tmp_path / "a.txt", tmp_path / "a.npy"
        source.write_text("lumi\nkato\ntapa\n")
        ems_fast.encode_file(encoder, source, output, progress=False)
        expected = output.read_bytes()
        from ems_fast.encoding import partial_array

        with monkeypatch.context() as patch:
            record: dict[str, Any] = {}
            patch.setattr(partial_array, "write_json", lambda _, content: record.update(content))
            ems_fast.encode_file(encoder, source, output, progress=False)
        partial_path(output).write_bytes(expected[:-32])  # cut off, so no row of it may stay
        progress_path(output).write_text(json.dumps({**record, "rows_done": 2, **change}))
        with pytest.warns(ems_fast.EncodingWarning, match="starting over"):
            ems_fast.encode_file(encoder, source, output, progress=False)
        assert output.read_bytes() == expected


class TestCalls:
    @pytest.mark.parametrize("scores", [np.array(["a"]), np.array([None]), np.array([1j])])
    def test_scores_that_are_no_numbers(self, scores: np.ndarray) -> None:
        with pytest.raises(InputError, match="scores: got dtype"):
            ems_fast.fit_threshold(scores, np.array([1]))

    def test_scores_that_are_whole(self) -> None:
        found = ems_fast.fit_threshold(np.array([0, 3], np.uint8), np.array([0, 1]))
        assert found.threshold == 1.5

    @pytest.mark.parametrize("command", [["prepare", "{}", "--output", "x"],
                                         ["align", "a", "{}", "b"]])  # fmt: skip
    def test_a_name_too_long_is_one_sentence(
        self, command: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main([word.format("x" * 300) for word in command]) == 2
        assert "File name too long" in capsys.readouterr().err
