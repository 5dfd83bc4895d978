"""The filtered pairs while they are written: a file a segment, so that a killed call can go on."""

from __future__ import annotations

import dataclasses
import gzip
import io
import lzma
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import zstandard

from ems_fast.corpus.readers import RawPair
from ems_fast.encoding.partial_array import read_json, write_json
from ems_fast.errors import InputError
from ems_fast.files.atomic import replacing
from ems_fast.files.locks import OPEN_FILES_STAY, lock_output
from ems_fast.files.streams import read_lines
from ems_fast.filtering.judging import Verdict
from ems_fast.filtering.report import Tally


class SegmentFile:
    """The kept pairs of a segment, and what is counted of all of its pairs."""

    def __init__(self, file: IO[str]):
        self.tally = Tally()
        self._file = file

    def write(self, pair: RawPair, verdict: Verdict) -> None:
        """Write a pair that is kept."""
        self._file.write(
            f"{verdict.source}\t{verdict.target}\t{_tag(pair.source_lang)}-"
            f"{_tag(pair.target_lang)}\t{verdict.cosine:.4f}\t{verdict.margin:.4f}\n"
        )


class Progress:
    """The folder ``.OUTPUT.partial``, which is gone when the output is there.

    Args:
        output: the file that is to be written.
        identity: what the pairs depend on.

    Raises:
        InputError: progress of another identity is there, another process is at it, or the
            folder cannot be written.
    """

    def __init__(self, output: Path, identity: dict[str, Any]):
        self._output = output
        self._identity = identity
        self._folder = output.with_name(f".{output.name}.partial")
        self._threshold: float | None = identity["criteria"]["min_score"]
        self.segments: list[Path] = []
        self.tally = Tally()

    def __enter__(self) -> Progress:
        try:
            self._folder.mkdir(exist_ok=True)
            self._lock = (self._folder / "lock").open("w")
        except OSError as error:
            raise InputError(f"{self._output}: cannot be written ({error.strerror})") from error
        try:
            lock_output(self._lock, self._folder / "lock", self._output)
        except InputError:
            self._lock.close()
            raise
        before = read_json(self._folder / "identity.json")
        if before and before != self._identity:
            self._lock.close()
            other = ", ".join(
                key for key in self._identity if before.get(key) != self._identity[key]
            )
            raise InputError(
                f"{self._folder}: is the progress of a call with other {other}; make the same call "
                f"to go on with it, or remove the folder to start over"
            )
        write_json(self._folder / "identity.json", self._identity)
        while self._record(len(self.segments)).exists():
            record = self._record(len(self.segments))
            self.tally.merge(Tally.from_json(read_json(record)), self._threshold)
            self.segments.append(self._segment(len(self.segments)))
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    def _segment(self, number: int) -> Path:
        return self._folder / f"{number:06d}.tsv.zst"

    def _record(self, number: int) -> Path:
        return self._folder / f"{number:06d}.json"

    @contextmanager
    def segment(self) -> Iterator[SegmentFile]:
        """The next segment; it counts when the block ends well."""
        number = len(self.segments)
        path = self._segment(number)
        with replacing(path) as temporary, _writing(temporary, path.suffix) as file:
            segment = SegmentFile(file)
            yield segment
        write_json(self._record(number), dataclasses.asdict(segment.tally))
        self.tally.merge(segment.tally, self._threshold)
        self.segments.append(path)

    def kept_pairs(self) -> Iterator[tuple[str, str]]:
        """The texts of the pairs kept so far."""
        for line in self._lines():
            source, target, _ = line.split("\t", 2)
            yield source, target

    def finish(self, top: int | None) -> int:
        """Write the output, of the `top` highest margins if there are more; how many there are."""
        passes = self._highest(top) if top is not None and top < self.tally.kept else None
        kept = 0
        with replacing(self._output) as temporary, _writing(temporary, self._output.suffix) as file:
            for row, line in enumerate(self._lines()):
                if passes is None or passes[row]:
                    file.write(line + "\n")
                    kept += 1
        return kept

    def remove(self) -> None:
        """Remove the folder, when the output and its report are there."""
        if OPEN_FILES_STAY:
            self._lock.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _lines(self) -> Iterator[str]:
        for path in self.segments:
            if os.path.getsize(path):
                yield from (line for _, line in read_lines(path))

    def _highest(self, top: int) -> npt.NDArray[np.bool_]:
        """Bool [kept]: whether a pair is among the `top`; of equal margins the first ones are."""
        margins = np.fromiter(
            (float(line.rpartition("\t")[2]) for line in self._lines()), np.float32, self.tally.kept
        )
        passes = np.zeros(len(margins), np.bool_)
        passes[np.argsort(-margins, kind="stable")[:top]] = True
        return passes


@contextmanager
def _writing(path: Path, suffix: str) -> Iterator[IO[str]]:
    """A text file that is compressed as `suffix` says."""
    with ExitStack() as stack:
        if suffix == ".gz":
            raw: Any = stack.enter_context(gzip.open(path, "wb", compresslevel=6))
        elif suffix == ".xz":
            raw = stack.enter_context(lzma.open(path, "wb"))
        elif suffix == ".zst":
            raw = stack.enter_context(zstandard.open(path, "wb"))
        else:
            raw = stack.enter_context(path.open("wb"))
        yield stack.enter_context(io.TextIOWrapper(raw, encoding="utf-8", newline="\n"))


def _tag(code: str) -> str:
    """A code as a column of languages has it: ``pt-br`` → ``pt-BR``, ``zh_hans`` → ``zh_Hans``."""
    language, *region = code.split("-")
    name, *script = language.split("_")
    return "-".join(["_".join([name, *map(str.title, script)]), *map(str.upper, region)])
