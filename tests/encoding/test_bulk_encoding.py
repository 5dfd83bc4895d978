from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from support.synthetic import pairs

import ems_fast
from ems_fast import EncodingWarning, InputError, SentenceEncoder
from ems_fast.encoding import bulk as bulk_encoding
from ems_fast.encoding.partial_array import partial_path, progress_path
from ems_fast.errors import EmsError

# Small pieces, recorded at once, so that a short file has many.
SMALL = (
    "from ems_fast.encoding import bulk as bulk_encoding, partial_array as p; p.RECORD_SECONDS = 0;"
)


@pytest.fixture(scope="module")
def encoder(run: Path) -> SentenceEncoder:
    return ems_fast.load(run, device="cpu")


@pytest.fixture(scope="module")
def sentences() -> list[str]:
    return [sentence for pair in pairs("de", 250) for sentence in pair]


@pytest.fixture
def text(sentences: list[str], tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("\n".join(sentences) + "\n")
    return path


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_encoding, "CHUNK_ROWS", 64)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def encode(encoder: SentenceEncoder, text: Path, output: Path, **options: object):
    return ems_fast.encode_file(encoder, text, output, progress=False, **options)


@pytest.mark.usefixtures("small_chunks")
def test_equals_encode(encoder, sentences, text, tmp_path):
    done = encode(encoder, text, tmp_path / "x.npy", normalize=True)
    assert (done.rows, done.dimension, done.resumed_rows) == (500, encoder.dimension, 0)
    expected = encoder.encode(sentences, normalize=True)
    np.testing.assert_allclose(np.load(done.path), expected, rtol=0, atol=1e-6)
    assert names(tmp_path) == {"text.txt", "x.npy"}


def test_compressed_text(encoder, sentences, text, tmp_path):
    packed = tmp_path / "text.txt.gz"
    packed.write_bytes(gzip.compress(text.read_bytes()))
    done = encode(encoder, packed, tmp_path / "x.npy")
    np.testing.assert_allclose(np.load(done.path), encoder.encode(sentences), rtol=0, atol=1e-6)


def test_odd_lines_are_counted(encoder, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("bade gi\n\n \n" + "bade gi " * 500)
    with pytest.warns(EncodingWarning, match=r"of 4 sentences, 2 without a token.* and 1 longer"):
        done = encode(encoder, text, tmp_path / "x.npy")
    assert (done.rows, done.empty, done.truncated) == (4, 2, 1)
    assert np.load(done.path).any(axis=1).tolist() == [True, False, False, True]


def test_an_overlong_line_can_be_an_error(encoder, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("bade gi\n" + "bade gi " * 500)
    with pytest.raises(InputError, match=r"text\.txt, line 2: has \d+ tokens, but the model reads"):
        encode(encoder, text, tmp_path / "x.npy", on_overlong="error")
    assert names(tmp_path) == {"text.txt"}


@pytest.mark.usefixtures("small_chunks")
def test_workers_write_the_same(encoder, text, tmp_path):
    one = encode(encoder, text, tmp_path / "one.npy")
    two = encode(encoder, text, tmp_path / "two.npy", workers=2)
    np.testing.assert_allclose(np.load(two.path), np.load(one.path), rtol=0, atol=1e-6)
    assert names(tmp_path) == {"text.txt", "one.npy", "two.npy"}


def script(run: Path, text: Path, output: Path, *, workers: int, slow: float) -> str:
    """A program that encodes in chunks of 16 lines and rests after each of them."""
    return (
        f"{SMALL} import time, torch, ems_fast\n"
        "bulk_encoding.CHUNK_ROWS = 16\n"
        "torch.set_num_threads(1)\n"
        "read = bulk_encoding._chunks\n"
        "def slowly(*arguments):\n"
        "    for chunk in read(*arguments):\n"
        f"        time.sleep({slow})\n"
        "        yield chunk\n"
        "bulk_encoding._chunks = slowly\n"
        "if __name__ == '__main__':\n"
        f"    encoder = ems_fast.load({str(run)!r}, device='cpu')\n"
        f"    done = ems_fast.encode_file(encoder, {str(text)!r}, {str(output)!r}, "
        f"progress=False, workers={workers})\n"
        "    print(done.resumed_rows)\n"
    )


def children(process: subprocess.Popen[bytes]) -> list[Path]:
    """Processes that a process has started, as folders of /proc."""
    tasks = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [Path("/proc") / pid for pid in tasks.read_text().split()]


def runs(process: Path) -> bool:
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("end", "workers", "later"),
    [(signal.SIGKILL, 1, 2), (signal.SIGKILL, 2, 1), (signal.SIGINT, 2, 2)],
)
def test_kill_and_resume_gives_the_same_bytes(
    run, encoder, text, tmp_path, monkeypatch, end, workers, later
):
    whole, killed = tmp_path / "whole.npy", tmp_path / "killed.npy"
    with monkeypatch.context() as patch:
        patch.setattr(bulk_encoding, "CHUNK_ROWS", 16)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        encode(encoder, text, whole)
        torch.set_num_threads(threads)

    program, record = tmp_path / "program.py", progress_path(killed)
    program.write_text(script(run, text, killed, workers=workers, slow=0.05))
    with subprocess.Popen([sys.executable, str(program)], cwd=tmp_path) as first:
        deadline = time.monotonic() + 120
        while not record.exists() or json.loads(record.read_text())["rows_done"] < 64:
            assert first.poll() is None, "it finished before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.005)
        started = children(first)
        assert len(started) >= (workers if workers > 1 else 0)
        first.send_signal(end)
    assert first.returncode == -end
    while any(map(runs, started)):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert not killed.exists()
    assert partial_path(killed).exists()

    program.write_text(script(run, text, killed, workers=later, slow=0))
    second = subprocess.run(
        [sys.executable, str(program)],
        cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert 64 <= int(second.stdout) < 500
    assert killed.read_bytes() == whole.read_bytes()
    assert not partial_path(killed).exists()
    assert not record.exists()


class StoppedError(Exception):
    pass


def stop_after(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """Let reading the source fail after some rows."""
    read = bulk_encoding._chunks

    def chunks(source, start, *rest):
        for chunk in read(source, start, *rest):
            if start >= rows:
                raise StoppedError
            start += len(chunk)
            yield chunk

    monkeypatch.setattr(bulk_encoding, "_chunks", chunks)


@pytest.mark.usefixtures("small_chunks")
def test_progress_of_another_input_does_not_count(encoder, text, tmp_path, monkeypatch):
    output = tmp_path / "x.npy"
    with monkeypatch.context() as patch:
        stop_after(patch, 256)
        with pytest.raises(StoppedError):
            encode(encoder, text, output)
    assert json.loads(progress_path(output).read_text())["rows_done"] > 0
    text.write_text("bade gi\n" * 500)
    with pytest.warns(EncodingWarning, match="is of another input, model or option"):
        done = encode(encoder, text, output)
    assert done.resumed_rows == 0
    np.testing.assert_allclose(
        np.load(output), np.tile(encoder.encode(["bade gi"]), (500, 1)), rtol=0, atol=1e-6
    )


@pytest.mark.usefixtures("small_chunks")
def test_an_exception_keeps_what_is_done(encoder, text, tmp_path, monkeypatch):
    output = tmp_path / "x.npy"
    with monkeypatch.context() as patch:
        stop_after(patch, 256)
        with pytest.raises(StoppedError):
            encode(encoder, text, output)
    done = encode(encoder, text, output)
    assert done.resumed_rows >= 192
    assert done.resumed_rows % 64 == 0


@pytest.mark.usefixtures("small_chunks")
def test_two_writers_of_one_file(encoder, text, tmp_path, monkeypatch):
    output = tmp_path / "x.npy"
    read = bulk_encoding._chunks
    inner: list[str] = []

    def chunks(*arguments):
        if not inner:
            inner.append("")
            with pytest.raises(InputError) as error:
                encode(encoder, text, output)
            inner.append(str(error.value))
        yield from read(*arguments)

    monkeypatch.setattr(bulk_encoding, "_chunks", chunks)
    assert encode(encoder, text, output).rows == 500
    assert "another process is writing it" in inner[1]


def test_a_worker_that_dies_is_reported(encoder, text, tmp_path, monkeypatch):
    monkeypatch.setattr(bulk_encoding, "_work", die)
    with pytest.raises(EmsError, match="a worker process died"):
        encode(encoder, text, tmp_path / "x.npy", workers=2)


def die(*_: object) -> None:
    os._exit(9)


@pytest.mark.usefixtures("small_chunks")
def test_an_error_of_a_worker_names_the_line(encoder, sentences, text, tmp_path):
    sentences = sentences.copy()
    sentences[299] = sentences[399] = "bade gi " * 500
    text.write_text("\n".join(sentences))
    with pytest.raises(InputError, match=r"text\.txt, line 300: has \d+ tokens"):
        encode(encoder, text, tmp_path / "x.npy", workers=3, on_overlong="error")
    assert json.loads(progress_path(tmp_path / "x.npy").read_text())["rows_done"] == 256


# -- shards --------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [1, 3])
@pytest.mark.usefixtures("small_chunks")
def test_shards_are_one_array(encoder, sentences, text, tmp_path, world):
    output = tmp_path / "x.npy"
    order = list(range(world))[::-1]  # who finishes when does not matter
    found = [encode(encoder, text, output, shard=(rank, world)) for rank in order]
    assert [done.manifest for done in found[:-1]] == [None] * (world - 1)
    assert found[-1].manifest == tmp_path / "x.npy.json"
    shards = {f"x.{rank:05d}-of-{world:05d}.npy" for rank in range(world)}
    assert names(tmp_path) == {"text.txt", "x.npy.json"} | shards
    manifest = json.loads(found[-1].manifest.read_text())
    assert (manifest["rows"], manifest["dimension"]) == (500, encoder.dimension)
    vectors = ems_fast.open_embeddings(output)
    expected = encoder.encode(sentences)
    assert vectors.shape == expected.shape
    np.testing.assert_allclose(np.asarray(vectors), expected, rtol=0, atol=1e-6)
    again = encode(encoder, text, output, shard=(0, world))
    assert again.resumed_rows == again.rows


def test_more_shards_than_lines(encoder, tmp_path):
    text, output = tmp_path / "text.txt", tmp_path / "x.npy"
    text.write_text("bade gi\nde\n")
    for rank in range(5):
        encode(encoder, text, output, shard=(rank, 5))
    expected = encoder.encode(["bade gi", "de"])
    np.testing.assert_allclose(ems_fast.open_embeddings(output), expected, rtol=0, atol=1e-6)


def test_shards_of_another_model_are_not_mixed(encoder, text, tmp_path):
    output = tmp_path / "x.npy"
    for rank in range(2):
        encode(encoder, text, output, shard=(rank, 2))
    assert encode(encoder, text, output, shard=(0, 2), normalize=True).manifest is None
    with pytest.raises(InputError, match=r"x\.npy: cannot be read"):
        ems_fast.open_embeddings(output)
    assert encode(encoder, text, output, shard=(1, 2), normalize=True).manifest is not None


def test_a_file_in_the_manifests_place(encoder, text, tmp_path):
    (tmp_path / "x.npy.json").write_text("{}")
    with pytest.raises(InputError, match="is in the way of the manifest"):
        encode(encoder, text, tmp_path / "x.npy", shard=(0, 2))
    assert (tmp_path / "x.npy.json").read_text() == "{}"


def test_torchrun(run, encoder, sentences, text, tmp_path):
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=0",
        "-m", "ems_fast", "encode", str(text), "--output", "x.npy", "--model", str(run), "--quiet",
        "--device", "cpu",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    vectors = ems_fast.open_embeddings(tmp_path / "x.npy")
    np.testing.assert_allclose(vectors, encoder.encode(sentences), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers: got 0"),
        ({"workers": 1, "devices": ["cpu", "cpu"]}, "workers: got 1, expected at least one a devi"),
        ({"devices": ["nonsense"]}, "device: got 'nonsense'"),
        ({"devices": ["cuda:99"]}, "device: got 'cuda:99', expected 'cpu' or one of the"),
        ({"shard": (2, 2)}, r"shard: got \(2, 2\)"),
        ({"batch_tokens": 0}, "batch_tokens: got 0"),
        ({"on_overlong": "drop"}, "on_overlong: got 'drop'"),
    ],
)
def test_bad_options(encoder, text, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        encode(encoder, text, tmp_path / "x.npy", **options)
    assert names(tmp_path) == {"text.txt"}


def test_an_output_of_another_kind(encoder, text, tmp_path):
    with pytest.raises(InputError, match=r"output: got .*x\.txt', expected a name that ends in"):
        encode(encoder, text, tmp_path / "x.txt")


def test_not_enough_space(encoder, text, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(InputError, match=r"x\.npy: needs 0\.0 GB, but 0\.0 GB are free"):
        encode(encoder, text, tmp_path / "x.npy")
    assert names(tmp_path) == {"text.txt"}
