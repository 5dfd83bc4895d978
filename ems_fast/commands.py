"""What the commands of the command line do."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import ems_fast
from ems_fast import demo as demo_run
from ems_fast import diagnosis
from ems_fast.atomic import replacing
from ems_fast.encoding import CHUNK_SENTENCES
from ems_fast.errors import InputError
from ems_fast.report import write_report
from ems_fast.run_folder import RunFolder


def prepare(
    *,
    corpora: list[str],
    output: Path,
    languages: str | None,
    tags: list[str] | None,
    quiet: bool,
    **options: Any,
) -> None:
    """Clean parallel text, train a tokenizer on it and write the corpus in binary form."""
    corpus = ems_fast.prepare(
        corpora, output, languages=languages, tags=tags, progress=not quiet, **options
    )
    print(ems_fast.format_report(corpus.report))
    print(f"The corpus is in {output}.")


def train(
    *,
    corpora: list[str],
    output: Path,
    model: str,
    eval_sets: Path | None,
    resume: bool,
    auto_resume: bool,
    rank_timeout_minutes: float,
    device: str | None,
    quiet: bool,
    languages: str | None,
    tags: list[str] | None,
    valid_pairs: int,
    **options: Any,
) -> None:
    """Train a model on parallel text or on a prepared corpus."""
    single = corpora[0] if len(corpora) == 1 else corpora or None
    result = ems_fast.train(
        single,
        output,
        model=model,
        eval_sets=eval_sets,
        resume="auto" if auto_resume else resume,
        rank_timeout_minutes=rank_timeout_minutes,
        device=device,
        progress=not quiet,
        prepare_options={"languages": languages, "tags": tags, "valid_pairs": valid_pairs},
        **options,
    )
    if os.environ.get("RANK", "0") != "0":
        return
    metrics = result.metrics
    print(
        f"{metrics['steps']:,} steps, {metrics['pairs']:,} pairs in {metrics['minutes']:.1f} "
        f"minutes. The run is in {result.output_dir}."
    )


def encode(
    *,
    source: Path,
    output: Path,
    model: Path,
    device: str | None,
    normalize: bool,
    batch_tokens: int,
    quiet: bool,
) -> None:
    """Embed a file of sentences, one a line."""
    encoder = ems_fast.load(model, device=device)
    n = sum(1 for _ in read_lines(source))
    if n == 0:
        raise InputError(f"{source}: is empty, expected one sentence a line")
    lines = read_lines(source)
    with (
        replacing(output) as path,
        tqdm(total=n, unit="sentence", unit_scale=True, disable=quiet) as bar,
    ):
        vectors = np.lib.format.open_memmap(
            path, mode="w+", dtype=np.float32, shape=(n, encoder.dimension)
        )
        for start in range(0, n, CHUNK_SENTENCES):
            chunk = list(islice(lines, CHUNK_SENTENCES))
            vectors[start : start + len(chunk)] = encoder.encode(
                chunk, batch_tokens=batch_tokens, normalize=normalize, progress=False
            )
            bar.update(len(chunk))
        vectors.flush()
        del vectors
    print(f"{n:,} vectors of width {encoder.dimension} are in {output}.", file=sys.stderr)


def evaluate(
    *,
    eval_sets: list[Path],
    model: Path,
    device: str | None,
    languages: Sequence[str] | None,
    all_languages: bool,
    json: Path | None,
    markdown: Path | None,
    quiet: bool,
    **options: Any,
) -> None:
    """Score a model on evaluation sets: translations, classification, similarity."""
    for path in (json, markdown):
        if path is not None and not path.parent.is_dir():
            raise InputError(f"{path}: its folder does not exist; create it first")
    encoder = ems_fast.load(model, device=device)
    chosen = None if all_languages else languages or encoder.languages
    evaluation = ems_fast.evaluate_folders(
        encoder, eval_sets, languages=chosen, progress=not quiet, **options
    )
    print(evaluation.to_table())
    for path, text in ((json, evaluation.to_json()), (markdown, evaluation.to_markdown())):
        if path is not None:
            with replacing(path) as temporary:
                temporary.write_text(text + "\n", encoding="utf-8")


def mine(
    *,
    source: Path,
    target: Path,
    output: Path,
    model: Path,
    device: str | None,
    k: int,
    margin: Any,
    threshold: float | None,
) -> None:
    """Find translations of each other in two files of sentences."""
    mined = ems_fast.mine(
        ems_fast.load(model, device=device),
        list(read_lines(source)),
        list(read_lines(target)),
        k=k,
        margin=margin,
        threshold=threshold,
    )
    mined.to_tsv(output)
    print(f"{len(mined):,} pairs are in {output}, best first.", file=sys.stderr)


def score(
    *,
    source: Path,
    target: Path,
    output: Path,
    model: Path,
    device: str | None,
    k: int,
    margin: Any,
) -> None:
    """Score how likely line i of one file translates line i of the other."""
    sources, targets = list(read_lines(source)), list(read_lines(target))
    if len(sources) != len(targets):
        raise InputError(f"{source} has {len(sources)} lines, but {target} has {len(targets)}")
    scores = ems_fast.score_pairs(
        ems_fast.load(model, device=device), sources, targets, k=k, margin=margin
    )
    with replacing(output) as path, path.open("w", encoding="utf-8") as file:
        for value, a, b in zip(scores.tolist(), sources, targets, strict=True):
            file.write(f"{a}\t{b}\t{value:.6f}\n")
    print(f"{len(scores):,} scores are in {output}.", file=sys.stderr)


def export(*, model: Path, to: Any, output: Path, int8: bool, licence: str) -> None:
    """Write a model in the form of another library: sentence-transformers or ONNX."""
    ems_fast.export(model, output, to=to, int8=int8, licence=licence)
    print(f"The model is in {output}.")


def report(*, run_folder: Path) -> None:
    """Write the report of a run, also of one that is still going on."""
    folder = RunFolder(run_folder)
    write_report(folder)
    print(f"The report is {folder.report}.")


def doctor() -> None:
    """Say what is compiled, what is active, and why something is not."""
    print(diagnosis.report())


def demo(*, packages: Path | None, output: Path, minutes: float, seed: int) -> None:
    """Train a small model on real text and show what it has learnt."""
    demo_run.run(packages, output, minutes=minutes, seed=seed)


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file without their ends.

    Raises:
        InputError: the file is missing, or a line is not UTF-8.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror})") from error
    with file:
        for number, line in enumerate(file, start=1):
            try:
                yield line.decode("utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise InputError(f"{path}, line {number}: is not UTF-8 ({error.reason})") from error
