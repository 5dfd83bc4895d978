"""What the commands of the command line do."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ems_fast
from ems_fast.encoding.shipped import folder_of, shipped_models
from ems_fast.errors import InputError, check
from ems_fast.files.atomic import write_text
from ems_fast.files.streams import read_lines
from ems_fast.mining.search import write_pairs

# Imported where they are used: what needs torch. A token table encodes, searches and mines without.


def prepare(
    *, corpora: list[str], output: Path, tokenizer: Path | None, quiet: bool, **options: Any
) -> None:
    """Clean parallel text, train a tokenizer on it and write the corpus in binary form."""
    if tokenizer is not None and str(tokenizer) in shipped_models() and not tokenizer.exists():
        tokenizer = folder_of(tokenizer)
    corpus = ems_fast.prepare(corpora, output, tokenizer=tokenizer, progress=not quiet, **options)
    print(ems_fast.format_report(corpus.report))
    print(f"The corpus is in {output}.")


def train(
    *,
    corpora: list[str],
    output: Path,
    resume: bool,
    auto_resume: bool,
    quiet: bool,
    languages: str | None,
    tags: list[str] | None,
    valid_pairs: int | None,
    **options: Any,
) -> None:
    """Train a model on parallel text or on a prepared corpus."""
    result = ems_fast.train(
        corpora[0] if len(corpora) == 1 else corpora or None,
        output,
        resume="auto" if auto_resume else resume,
        progress=not quiet,
        prepare_options=_given(languages=languages, tags=tags, valid_pairs=valid_pairs),
        **options,
    )
    if os.environ.get("RANK", "0") != "0":
        return
    metrics = result.metrics
    print(
        f"{metrics['steps']:,} steps, {metrics['pairs']:,} pairs in {metrics['minutes']:.1f} "
        f"minutes. The run is in {result.output_dir}."
    )


def _given(**options: Any) -> dict[str, Any]:
    """Those that were given: the others have defaults elsewhere."""
    return {name: value for name, value in options.items() if value is not None}


def extend(
    *,
    model: str,
    corpora: list[str],
    output: Path,
    quiet: bool,
    languages: str | None,
    tags: list[str] | None,
    valid_pairs: int | None,
    **options: Any,
) -> None:
    """Teach a model further languages or another domain, and say what it keeps."""
    result = ems_fast.extend(
        model, corpora, output, progress=not quiet,
        prepare_options=_given(languages=languages, tags=tags, valid_pairs=valid_pairs),
        **options,
    )  # fmt: skip
    if os.environ.get("RANK", "0") != "0":
        return
    print(result.certificate.to_table())
    print(f"The run is in {result.output_dir}.")


def grow(
    *, model: str | None, texts: list[list[str]], output: Path, quiet: bool, **options: Any
) -> None:
    """Mine pairs from text that is not parallel and train on them, in rounds."""
    files: dict[str, tuple[str | Path, str | Path]] = {}
    for languages, source, target in texts:
        check(languages not in files, "texts", languages, "each language pair once")
        files[languages] = source, target
    result = ems_fast.grow(model, files, output, progress=not quiet, **options)
    if result.rounds:
        print(result.to_table())
    if result.interrupted:
        print(f"Stopped; the same command goes on with what is in {output}.")
    else:
        print(f"The model of round {result.best.number} is in {output / 'model'}.")


def plan(*, corpora: list[str], json: Path | None, **options: Any) -> None:
    """Measure this machine and this text for two minutes, and say what a run comes to."""
    if json is not None and not json.parent.is_dir():
        raise InputError(f"{json}: its folder does not exist; create it first")
    planned = ems_fast.plan(corpora[0] if len(corpora) == 1 else corpora, **options)
    print(planned.to_table())
    if json is not None:
        write_text(json, planned.to_json() + "\n")


def encode(
    *,
    source: Path,
    model: str | None,
    device: str | None,
    dtype: Any,
    quiet: bool,
    output: Path | None = None,
    **options: Any,
) -> None:
    """Embed a file of sentences, one a line; go on where an interrupted call stopped."""
    if output is None:
        raise InputError("output: is missing; give the .npy file to write")
    ranks = None
    if "RANK" in os.environ:  # started by torchrun
        import torch

        from ems_fast.distributed.ranks import launched_ranks

        ranks = launched_ranks()
        if device is None and torch.cuda.is_available():
            device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    encoder = ems_fast.load(model, device=device, dtype=dtype)
    with warnings.catch_warnings():  # counts are printed instead
        warnings.simplefilter("ignore", ems_fast.EncodingWarning)
        done = ems_fast.encode_file(
            encoder, source, output, shard=ranks, progress=not quiet, **options
        )
    notes = [f"{done.rows:,} vectors of width {done.dimension} are in {done.path}"]
    if done.resumed_rows:
        notes.append(f"{done.resumed_rows:,} of them from an earlier call")
    if done.empty:
        notes.append(f"{done.empty:,} zero, for lines without a token")
    if done.truncated:
        notes.append(f"{done.truncated:,} of lines cut at {encoder.config.max_tokens} tokens")
    if done.manifest is not None:
        notes.append(f"all shards are complete, see {done.manifest}")
    print("; ".join(notes) + ".", file=sys.stderr)


def evaluate(
    *,
    eval_sets: list[Path],
    model: str | None,
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
            write_text(path, text + "\n")


def mine(
    *,
    source: Path,
    target: Path,
    output: Path,
    model: str | None,
    device: str | None,
    **options: Any,
) -> None:
    """Find translations of each other in two files of sentences."""
    encoder = ems_fast.load(model, device=device)
    mined = ems_fast.mine(encoder, _sentences(source), _sentences(target), **options)
    mined.to_tsv(output)
    print(f"{len(mined):,} pairs are in {output}, best first.", file=sys.stderr)


def align(
    *,
    source: Path,
    target: Path,
    output: Path,
    model: str | None,
    device: str | None,
    **options: Any,
) -> None:
    """Align documents with their translations, line by line."""
    encoder = ems_fast.load(model, device=device)
    done = ems_fast.align_files(encoder, source, target, output, **options)
    notes = [f"{done.pairs:,} pairs of {done.documents:,} documents are in {output}"]
    notes.append(f"{done.unaligned:,} lines have no translation")
    if done.skipped:
        notes.append(f"{done.skipped:,} documents were there already")
    print("; ".join(notes) + ".", file=sys.stderr)


def search(
    *,
    source: Path,
    queries: list[str],
    k: int,
    model: str | None,
    device: str | None,
    **options: Any,
) -> None:
    """Show the lines of a file that are nearest to sentences, with their cosines."""
    check(k >= 1, "k", k, "at least 1")
    sentences = _sentences(source)
    if not sentences:
        raise InputError(f"{source}: is empty, expected a sentence a line")
    encoder = ems_fast.load(model, device=device)
    found = ems_fast.search(encoder, sentences, queries, k=min(k, len(sentences)), **options)
    for query, lines, cosines in zip(queries, found.indices, found.scores, strict=True):
        print(query)
        for line, cosine in zip(lines.tolist(), cosines.tolist(), strict=True):
            print(f"  {cosine:6.3f}  {line + 1:>7,}  {sentences[line]}")


def score(
    *,
    source: Path,
    target: Path,
    output: Path,
    model: str | None,
    device: str | None,
    **options: Any,
) -> None:
    """Score how likely line i of one file translates line i of the other."""
    sources, targets = _sentences(source), _sentences(target)
    if len(sources) != len(targets):
        raise InputError(f"{source} has {len(sources)} lines, but {target} has {len(targets)}")
    scores = ems_fast.score_pairs(ems_fast.load(model, device=device), sources, targets, **options)
    write_pairs(output, zip(sources, targets, scores.tolist(), strict=True))
    print(f"{len(scores):,} scores are in {output}.", file=sys.stderr)


def filter(
    *,
    corpora: list[str],
    output: Path,
    model: str | None,
    device: str | None,
    quiet: bool,
    **options: Any,
) -> None:
    """Keep the pairs of parallel text that are likely translations; go on after an interruption."""
    report = ems_fast.filter_pairs(
        corpora, output, encoder=ems_fast.load(model, device=device), progress=not quiet, **options
    )
    print(report.to_text())
    print(f"\nThe pairs are in {report.output}, the report in {report.output}.report.json.")


def export(*, model: Path, output: Path, **options: Any) -> None:
    """Write a model in the form of another library, or as a page that searches your text."""
    ems_fast.export(model, output, **options)
    print(f"The model is in {output}.")


def push(*, model: Path, repository: str, **options: Any) -> None:
    """Put a model on a hub, for ems-fast and sentence-transformers."""
    print(f"The model is at {ems_fast.push(model, repository, **options)}.")


def report(*, runs: list[Path], **options: Any) -> None:
    """Write a page on what a run has learnt, or one that compares several runs."""
    print(f"The report is {ems_fast.report(*runs, **options)}.")


def doctor() -> None:
    """Say what is compiled, what is active, and why something is not."""
    from ems_fast.cli.doctor import report

    print(report())


def demo(**options: Any) -> None:
    """Train a small model on real text and show what it has learnt."""
    from ems_fast.demo.run import run

    run(**options)


def _sentences(path: Path) -> list[str]:
    """The lines of a file, as `encode_file` reads them."""
    return [line for _, line in read_lines(path)]
