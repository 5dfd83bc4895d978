"""Rows to JSONs: each in a process of its own, those that have one passed over."""

from __future__ import annotations

import importlib.metadata
import multiprocessing
import os
import shutil
import time
from collections.abc import Sequence
from typing import Any

from results import write_results

from study.config import Places, Row
from study.memory import forget_peak, peak_mb
from study.scoring import FirstCoordinates, score
from study.systems import system
from study.texts import corpus_of, news_sets

VERSIONS = (
    "numpy", "sentencepiece", "torch", "ems-fast", "sentence-transformers", "transformers",
    "tokenizers", "accelerate", "datasets",
)  # fmt: skip


def run_rows(rows: Sequence[Row], places: Places) -> list[str]:
    """Run what has no JSON yet; the names of those that failed. Ctrl-C ends all."""
    waiting = [row for row in rows if not places.result(row).exists()]
    print(f"{len(rows) - len(waiting)} rows done before, {len(waiting)} to run", flush=True)
    failed = []
    for number, row in enumerate(waiting, 1):
        limits = [f"{row.minutes:g} minutes"] if row.minutes is not None else []
        limits += [f"{row.pairs:,} pairs"] if row.pairs is not None else []
        print(f"{number}/{len(waiting)} {row.name}: {', '.join(limits)}", flush=True)
        # Nothing of one row, neither memory nor threads nor a crash, reaches another.
        child = multiprocessing.get_context("spawn").Process(target=run_row, args=(row, places))
        child.start()
        child.join()
        if child.exitcode:
            failed.append(row.name)
            print(f"  failed with exit code {child.exitcode}", flush=True)
    return failed


def run_row(row: Row, places: Places) -> None:
    """Prepare, train, score, and write the JSON last of all."""
    run = places.work / "runs" / row.name
    shutil.rmtree(run, ignore_errors=True)  # of an earlier call that was interrupted
    load = os.getloadavg()[0]
    corpus = corpus_of(row.text, places)
    news = news_sets(row.text, places)
    train = system(row.system)
    forget_peak()
    trained = train(row, corpus, places)
    peak = peak_mb()
    begun = time.perf_counter()
    scores = score(trained.encoder, row.text, corpus, places.eval, news)
    narrow = {
        str(width): score(
            FirstCoordinates(trained.encoder, width), row.text, corpus, places.eval, news
        )
        for width in row.narrow
    }
    figures: dict[str, Any] = {
        "row": row.to_json(),
        "corpus": {
            "pairs": corpus.num_pairs,
            "vocab_size": corpus.vocab_size,
            "tokenizer_sha256": corpus.tokenizer_sha256,
        },
        "minutes": round(trained.minutes, 4),
        "pairs": trained.pairs,
        "steps": trained.steps,
        "pairs_per_second": round(trained.pairs / (60 * trained.minutes), 1),
        "peak_memory_mb": peak,
        "load_before": round(load, 2),
        "scores": scores,
        "narrow": narrow,
        "scoring_seconds": round(time.perf_counter() - begun, 1),
        "details": trained.details,
        "versions": _versions(),
    }
    write_results(places.result(row), figures, command=f'make study ROWS="{row.name}"')
    if not places.keep_runs:
        shutil.rmtree(run, ignore_errors=True)
    means = ", ".join(f"{name} {found['mean']:.1f}" for name, found in scores.items())
    print(
        f"  {figures['minutes']:.2f} minutes, {trained.pairs:,} pairs, "
        f"{figures['pairs_per_second']:,.0f} pairs/s, {peak:,} MB; {means}",
        flush=True,
    )


def _versions() -> dict[str, str]:
    found = {}
    for package in VERSIONS:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
