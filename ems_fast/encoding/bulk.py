"""A file of sentences to vectors on disk: constant memory, several processes, resumable."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import pickle
import signal
import threading
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import count, cycle, islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ems_fast.encoding.embeddings import FORMAT, manifest_path, shard_path
from ems_fast.encoding.encoder import (
    CPU,
    EncodingWarning,
    OnOverlong,
    SentenceEncoder,
    default_batch_tokens,
    progress_bar,
    warn_of_odd_sentences,
)
from ems_fast.encoding.partial_array import (
    PartialArray,
    partial_path,
    progress_path,
    read_json,
    write_json,
    write_rows,
)
from ems_fast.encoding.precision import Precision, VectorForm
from ems_fast.errors import EmsError, InputError, check
from ems_fast.files.streams import check_file, read_lines
from ems_fast.ops.threads import num_threads, set_num_threads

# Sentences that are encoded and written together.
CHUNK_ROWS = 8192


@dataclass(frozen=True)
class EncodedFile:
    """What `encode_file` did.

    Attributes:
        path: what was written: the array, or this process's shard of it.
        rows: vectors in it.
        dimension: D, of the vectors that were written.
        empty: sentences without a token; their vectors are zero.
        truncated: sentences of which only the first tokens were read.
        resumed_rows: vectors that an earlier, interrupted call had written.
        manifest: the manifest of all shards, once the last of them is complete.
    """

    path: Path
    rows: int
    dimension: int
    empty: int
    truncated: int
    resumed_rows: int
    manifest: Path | None = None


@dataclass(frozen=True)
class _Job:
    """Lines first … stop − 1 of the source, which are rows first − start … of the array."""

    source: Path
    array: Path
    start: int
    first: int
    stop: int
    chunk_rows: int
    options: dict[str, Any]  # of `SentenceEncoder.encode_chunks`


_Done = tuple[int, int, int]  # sentences of a chunk, those that are empty, those that were cut


def encode_file(
    encoder: SentenceEncoder,
    source: str | Path,
    output: str | Path,
    *,
    normalize: bool = False,
    batch_tokens: int | None = None,
    on_overlong: OnOverlong = "truncate",
    precision: Precision = "float32",
    dim: int | None = None,
    workers: int | None = None,
    devices: Sequence[str] | None = None,
    shard: tuple[int, int] | None = None,
    progress: bool = True,
) -> EncodedFile:
    """Embed a text file into a ``.npy`` file, in memory that does not grow with it.

    The vectors are written beside `output` as they come, and take its name when all are there.
    After an interruption of any kind, the same call goes on where the last record of progress is
    (one every few seconds), and gives the same bytes as one without interruption if it computes
    with as many threads. Progress of another input, model or set of options is given up with an
    `EncodingWarning`; empty and over-long sentences are counted in one. What is not explained here
    is as in `SentenceEncoder.encode`.

    Args:
        source: UTF-8 text, one sentence a line; also ``.gz``, ``.xz`` or ``.zst``.
        output: the ``.npy`` file, [lines, D] or of bits [lines, D / 8], row i for line i; replaced
            if it exists.
        workers: processes; on a CPU they share torch's threads. None: one a device.
        devices: where they compute, in turn; None: where the encoder does.
        shard: (rank, world): encode only the rank-th of `world` equal parts, into
            ``X.00000-of-00004.npy`` for ``X.npy``. Who finishes last writes the manifest
            ``X.npy.json``, which `open_embeddings` reads; all must see the same folder.

    Raises:
        InputError: a source that is missing, empty or no UTF-8; an output that cannot be written or
            is being written by another process; unknown options or devices.
        EmsError: a worker process died.
    """
    source, output = Path(source), Path(output)
    if encoder.preprocessing is not None:
        raise InputError(
            "encoder: preprocesses text with a tool for its language, which a file does not tell; "
            "split the text first and load the checkpoint with preprocessing=None"
        )
    form = VectorForm.of(dim, precision, encoder.dimension)
    places = _places(encoder, workers, devices)
    if batch_tokens is None:
        batch_tokens = default_batch_tokens(places[0])
    rank, world = (0, 1) if shard is None else shard
    check(0 <= rank < world, "shard", shard, "(rank, world) with 0 ≤ rank < world")
    check(output.suffix == ".npy", "output", str(output), "a name that ends in .npy")
    paths = [output if shard is None else shard_path(output, r, world) for r in range(world)]
    path = paths[rank]
    identity = {
        "format": FORMAT,
        **_source_identity(source, path),
        "dimension": form.dim,
        "precision": precision,
        "model": encoder.fingerprint(),
        "normalized": normalize,
        "batch_tokens": batch_tokens,
        "world": world,
    }
    n = identity["rows"]
    bounds = [n * r // world for r in range(world + 1)]
    start, rows = bounds[rank], bounds[rank + 1] - bounds[rank]
    if shard is not None:
        _drop_other_manifest(manifest_path(output), identity)
        if path.exists() and manifest_path(output).exists():
            return EncodedFile(path, rows, form.dim, 0, 0, rows, manifest_path(output))
    array = PartialArray(path, (rows, form.columns), form.dtype, identity)
    if array.restarted:
        message = f"{progress_path(path)}: is of another input, model or option; starting over"
        warnings.warn(message, EncodingWarning, stacklevel=2)
    resumed = array.done
    if not array.complete:
        options = {
            "normalize": normalize, "batch_tokens": batch_tokens, "on_overlong": on_overlong,
            "precision": precision, "dim": dim,
        }  # fmt: skip
        with (
            progress_bar(rows, show=progress) as bar,
            array.writing(),
        ):
            resumed = array.done
            bar.update(resumed)
            stop = start + rows
            job = _Job(
                source, partial_path(path), start, start + resumed, stop, CHUNK_ROWS, options
            )
            if len(places) == 1:
                done = _encode_share(encoder.to(places[0]), job)
            else:
                done = _encode_in_workers(encoder, job, places)
            with closing(done):
                for sentences, empty, truncated in done:
                    array.advance(sentences, empty=empty, truncated=truncated)
                    bar.update(sentences)
            if array.done != rows:
                raise InputError(f"{source}: became shorter while it was read; encode it again")
    manifest: Path | None = None
    if shard is None:
        progress_path(path).unlink(missing_ok=True)
    else:
        manifest = _complete_manifest(manifest_path(output), paths, bounds, form, identity)
    empty, truncated = array.counts["empty"], array.counts["truncated"]
    warn_of_odd_sentences(rows, empty, truncated, encoder.config.max_tokens, stacklevel=3)
    return EncodedFile(path, rows, form.dim, empty, truncated, resumed, manifest)


def _source_identity(source: Path, path: Path) -> dict[str, Any]:
    """Size, hash and lines of the source; every line is seen to be UTF-8."""
    nothing = InputError(f"{source}: is empty, expected one sentence a line")
    if source.is_file() and source.stat().st_size == 0:
        raise nothing
    check_file(source)
    digest = hashlib.sha256()
    with source.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    found = {"source_bytes": source.stat().st_size, "source_sha256": digest.hexdigest()}
    progress = read_json(progress_path(path))
    known = progress.get("rows")
    if type(known) is int and all(progress.get(key) == value for key, value in found.items()):
        return {**found, "rows": known}
    rows = sum(1 for _ in read_lines(source))
    if rows == 0:
        raise nothing
    return {**found, "rows": rows}


def _places(
    encoder: SentenceEncoder, workers: int | None, devices: Sequence[str] | None
) -> list[str]:
    """The device of every worker."""
    found = list(devices or [encoder.place])
    if devices and not set(devices) <= set(CPU):
        from ems_fast.distributed.ranks import resolve_device

        found = [str(resolve_device(device)) for device in devices]
    number = len(found) if workers is None else workers
    check(number >= len(found), "workers", number, f"at least one a device ({len(found)})")
    return [found[i % len(found)] for i in range(number)]


def _chunks(source: Path, start: int, stop: int, size: int) -> Iterator[list[str]]:
    """Lines start … stop − 1 of the source, `size` at a time."""
    lines = islice((line for _, line in read_lines(source)), start, stop)
    return iter(lambda: list(islice(lines, size)), [])


def _encode_share(
    encoder: SentenceEncoder, job: _Job, rank: int = 0, world: int = 1
) -> Generator[_Done, None, None]:
    """Encode and write every `world`-th chunk of the job, beginning with chunk `rank`."""
    chunks = _chunks(job.source, job.first, job.stop, job.chunk_rows)
    numbered = zip(count(job.first + 1, job.chunk_rows), chunks, strict=False)
    encoded = encoder.encode_chunks(
        islice(numbered, rank, None, world), where=f"{job.source}, line", **job.options
    )
    with job.array.open("r+b") as file:
        for chunk in encoded:
            row = chunk.first - 1 - job.start
            write_rows(file, row, job.stop - job.start, chunk.vectors)
            yield len(chunk.vectors), chunk.empty, chunk.truncated


def _encode_in_workers(
    encoder: SentenceEncoder, job: _Job, places: list[str]
) -> Generator[_Done, None, None]:
    """As `_encode_share` of the whole job, by a process a place that has its share of it."""
    context = multiprocessing.get_context("spawn")
    threads = max(1, num_threads() // len(places))
    workers, pipes = [], []
    try:
        for rank, place in enumerate(places):
            pipe, end = context.Pipe()
            arguments = (end, rank, len(places), place, threads)
            worker = context.Process(target=_work, args=arguments, daemon=True)
            worker.start()
            end.close()  # with the worker's own end, the pipe closes
            workers.append(worker)
            pipes.append(pipe)
        # As bytes: torch would hand tensors over in shared memory, which containers keep small.
        content = pickle.dumps((encoder, job))
        for pipe in pipes:
            pipe.send_bytes(content)
        for pipe in cycle(pipes):  # chunk after chunk
            done = pipe.recv()
            if done is None:
                break
            if isinstance(done, Exception):
                raise done
            yield done
    except (EOFError, ConnectionError) as error:
        raise EmsError(
            "a worker process died, perhaps for lack of memory; see what it printed, and run the "
            "same command again, which goes on where this one stopped, with fewer workers"
        ) from error
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


def _work(pipe: Connection, rank: int, world: int, place: str, threads: int) -> None:
    """What a worker process runs: it sends what `_encode_share` yields, then None or an error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    set_num_threads(threads)
    encoder, job = pickle.loads(pipe.recv_bytes())
    try:
        for done in _encode_share(encoder.to(place), job, rank, world):
            pipe.send(done)
        pipe.send(None)
    except (EmsError, OSError) as error:
        pipe.send(error)


def _end_with_parent() -> None:
    """End this process when the parent is gone, also if it was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _drop_other_manifest(path: Path, identity: dict[str, Any]) -> None:
    """Remove a manifest of shards that are about to be replaced; an error if it is none."""
    manifest = read_json(path)
    if path.exists() and "source_sha256" not in manifest:
        raise InputError(f"{path}: is in the way of the manifest; give another output or remove it")
    if any(manifest.get(key) != value for key, value in identity.items()):
        path.unlink(missing_ok=True)


def _complete_manifest(
    path: Path, paths: list[Path], bounds: list[int], form: VectorForm, identity: dict[str, Any]
) -> Path | None:
    """Write the manifest if all shards are there; only then do their records go."""
    shards: list[dict[str, Any]] = [
        {"file": shard.name, "start": start, "rows": stop - start}
        for shard, start, stop in zip(paths, bounds, bounds[1:], strict=False)
    ]
    arrays = [
        PartialArray(file, (shard["rows"], form.columns), form.dtype, identity)
        for file, shard in zip(paths, shards, strict=True)
    ]
    if not all(array.complete for array in arrays):
        # Another process that finished at the same time may have written it, and cleaned up.
        return path if path.exists() else None
    counts = {name: sum(array.counts[name] for array in arrays) for name in ("empty", "truncated")}
    order = "row i of the shards, one after another, is line i of the source"
    content = {**identity, **counts, "dtype": form.dtype.name, "order": order, "shards": shards}
    write_json(path, content)
    for shard in paths:
        progress_path(shard).unlink(missing_ok=True)
    return path
