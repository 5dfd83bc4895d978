"""Filter parallel text as a stream: every pair is tested, the good ones are written with scores."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ems_fast.corpus.readers import RawPair, Reader, open_corpora
from ems_fast.encoding.load import load
from ems_fast.encoding.protocol import Encodes
from ems_fast.errors import InputError, check
from ems_fast.files.atomic import write_text
from ems_fast.files.streams import COMPRESSIONS
from ems_fast.filtering.judging import Criteria, PairJudge
from ems_fast.filtering.progress import Progress, SegmentFile
from ems_fast.filtering.report import FilterReport
from ems_fast.filtering.scoring import POOL_PAIRS

# Pairs after which progress is recorded, whole pools.
SEGMENT_PAIRS = 16 * POOL_PAIRS


def filter_pairs(
    corpora: str | Path | Reader | Iterable[str | Path | Reader],
    output: str | Path,
    *,
    encoder: Encodes | None = None,
    languages: str | None = None,
    min_score: float | None = 0.1,
    min_margin: float | None = None,
    max_length: float | None = 1.75,
    identify: bool = False,
    near_duplicates: bool = False,
    top: int | None = None,
    progress: bool = True,
) -> FilterReport:
    """Write the pairs that are likely translations to a file, and a report beside it.

    Pairs are read as a stream and tested in pools of 4,096, in this order: the rules of `prepare`
    (empty, identical, ...), their lengths, cosine and margin, languages, near-duplicates. Memory
    does not grow with the text. After an interruption the same call goes on where the last record
    of progress is (one every 65,536 pairs), and gives the same file as one without.

    The file has a line a pair: source, target, languages, cosine and margin, with tabs between
    them; `prepare` and `train` read it as it is. The report is ``OUTPUT.report.json``.

    Args:
        corpora: files, URLs, folders and readers, as for `prepare`.
        output: a ``.tsv`` file, also with ``.gz``, ``.zst`` or ``.xz``; replaced if it exists.
        encoder: scores the pairs; None: the model that came with the installation.
        languages: the languages of files that do not say, such as ``en-de``; ``{stem}`` stands for
            the file's name up to the first dot.
        min_score: the lowest cosine; None: any. The default was chosen for the shipped model.
        min_margin: the lowest ratio of the cosine to those of the neighbours within the pool; None:
            any.
        max_length: how many times longer or shorter a target may be than is usual for its source
            in this text; None: any.
        identify: drop pairs with a side in another language than it should be in; needs the
            extra ``filter``.
        near_duplicates: drop pairs that are nearly the same as one of the 200,000 kept before;
            needs the extra ``filter``.
        top: of the pairs that pass, keep this many, those of the highest margin.

    Raises:
        InputError: inputs that cannot be read, an output that cannot be written, options out of
            range, or progress there of another call. What was done before an input failed is kept.
        BackendError: an extra is missing.
    """
    output = Path(output)
    _check_options(output, min_score, min_margin, max_length, top)
    readers = open_corpora(corpora, languages=languages)
    for reader in readers:
        check(Path(reader.name).absolute() != output.absolute(), "output", str(output),
              "another file than the input")  # fmt: skip
    criteria = Criteria(min_score, min_margin, max_length, identify, near_duplicates)
    encoder = encoder or load()
    judge = PairJudge(encoder, criteria)
    identity: dict[str, Any] = {
        "inputs": [_identity(reader) for reader in readers],
        "encoder": _name_of(encoder),
        "criteria": dataclasses.asdict(criteria),
    }
    with Progress(output, identity) as done:
        judge.remember(done.kept_pairs())
        pairs = (pair for reader in readers for pair in reader)
        start = done.tally.read
        if sum(1 for _ in islice(pairs, start)) < start:
            raise InputError(f"{readers[-1].name}: became shorter while it was filtered")
        with tqdm(initial=start, unit="pair", unit_scale=True, disable=not progress) as bar:
            while chunk := list(islice(pairs, SEGMENT_PAIRS)):
                with done.segment() as segment:
                    for pool in _pools(chunk):
                        _filter_pool(judge, pool, segment)
                        bar.update(len(pool))
        if not done.tally.read:
            raise InputError(f"{', '.join(reader.name for reader in readers)}: no pairs were found")
        kept = done.finish(top)
        report = FilterReport.of(
            str(output), done.tally, kept=kept, resumed=start, criteria=identity["criteria"]
        )
        write_text(output.with_name(f"{output.name}.report.json"), report.to_json() + "\n")
        done.remove()
    return report


def _check_options(
    output: Path,
    min_score: float | None,
    min_margin: float | None,
    max_length: float | None,
    top: int | None,
) -> None:
    name = output.name.removesuffix(output.suffix) if output.suffix in COMPRESSIONS else output.name
    check(name.endswith(".tsv"), "output", str(output), "a name that ends in .tsv, .tsv.zst, ...")
    if not output.absolute().parent.is_dir():
        raise InputError(f"{output}: its folder does not exist; create it first")
    check(min_score is None or -1 <= min_score <= 1, "min_score", min_score, "a cosine")
    check(min_margin is None or np.isfinite(min_margin), "min_margin", min_margin, "a number")
    check(max_length is None or max_length >= 1, "max_length", max_length, "at least 1")
    check(top is None or top >= 1, "top", top, "at least 1")


def _pools(pairs: list[RawPair]) -> Iterator[list[RawPair]]:
    """The pairs in pools; a rest too small to have neighbours goes with the one before."""
    starts = list(range(0, len(pairs), POOL_PAIRS))
    if len(starts) > 1 and len(pairs) - starts[-1] < POOL_PAIRS // 4:
        starts.pop()
    for start, stop in zip(starts, [*starts[1:], len(pairs)], strict=True):
        yield pairs[start:stop]


def _filter_pool(judge: PairJudge, pool: list[RawPair], segment: SegmentFile) -> None:
    judged = judge.judge(pool)
    for pair, verdict in zip(pool, judged, strict=True):
        segment.tally.add(pair, verdict, judge.criteria.min_score)
        if verdict.reason is None:
            segment.write(pair, verdict)


def _identity(reader: Reader) -> list[Any]:
    """What tells this input from another, as far as that can be seen without reading it."""
    found: list[Any] = [type(reader).__name__, reader.name]
    for path in getattr(reader, "paths", [getattr(reader, "path", None)]):
        if isinstance(path, Path):
            status = os.stat(path)
            found += [status.st_size, status.st_mtime_ns]
    return found


def _name_of(encoder: Encodes) -> str:
    fingerprint = getattr(encoder, "fingerprint", None)
    return fingerprint() if callable(fingerprint) else type(encoder).__qualname__
