"""This project: `ems_fast.train`, with its defaults but for what the row says.

A row's options are ``model`` (a preset), fields of `ems_fast.ModelConfig`, keywords of
`ems_fast.train`, ``language_embedding=False``, which keeps the languages from XTR's head, and
``teacher``, the preset of a model that is trained on the row's text before, for `teacher_minutes`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import fields
from typing import Any
from unittest import mock

import torch
from torch import Tensor

import ems_fast
from ems_fast.corpus import BinaryCorpus
from ems_fast.model.config import preset
from ems_fast.model.ems import XTRHead
from ems_fast.runs.folder import RunFolder
from study.config import Places, Row
from study.memory import forget_peak
from study.systems import Trained

_MODEL_FIELDS = {field.name for field in fields(ems_fast.ModelConfig)}


def train(row: Row, corpus: BinaryCorpus, places: Places) -> Trained:
    """Train and load the best encoder of the run."""
    options = dict(row.options)
    model: Any = options.pop("model", "static")
    knows_languages = options.pop("language_embedding", True)
    changes = {name: options.pop(name) for name in [*options] if name in _MODEL_FIELDS}
    if changes:
        model = preset(model, **changes)
    if "teacher" in options:
        options["teacher"] = _teacher(
            options["teacher"], options.pop("teacher_minutes"), row, corpus, places
        )
        forget_peak()  # what the teacher's own training took is not the row's
    # An epoch is as many pairs as the corpus has.
    epochs = None if row.pairs is None else row.pairs / corpus.num_pairs
    with contextlib.nullcontext() if knows_languages else one_language():
        result = ems_fast.train(
            corpus.path, places.work / "runs" / row.name, model=model, seed=row.seed,
            max_minutes=row.minutes, max_epochs=epochs, device="cpu", progress=False, **options,
        )  # fmt: skip
    if result.interrupted:
        raise KeyboardInterrupt
    folder = RunFolder(result.output_dir)
    config = folder.read_config()
    speeds = sorted(m["pairs_per_second"] for m in folder.read_metrics() if m["event"] == "train")
    return Trained(
        result.encoder, result.metrics["minutes"], result.metrics["pairs"],
        result.metrics["steps"],
        {
            "best_held_out": result.metrics["best"],
            # Without the evaluations that the minutes contain.
            "median_pairs_per_second": speeds[len(speeds) // 2] if speeds else None,
            "options": {
                name: config[name] for name in ("model", "batches", "objective", "optimizer")
            },
        },
    )  # fmt: skip


def _teacher(
    model: str, minutes: float, row: Row, corpus: BinaryCorpus, places: Places
) -> ems_fast.SentenceEncoder:
    """The teacher of all rows of this text; what was begun of it goes on."""
    result = ems_fast.train(
        corpus.path, places.work / "teachers" / f"{row.text.key}.{model}-{minutes:g}", model=model,
        max_minutes=minutes, device="cpu", progress=False, resume="auto",
    )  # fmt: skip
    if result.interrupted:
        raise KeyboardInterrupt
    return result.encoder


@contextlib.contextmanager
def one_language() -> Iterator[None]:
    """XTR's head gets the same language embedding whatever language it reconstructs."""
    forward = XTRHead.forward

    def blind(head: XTRHead, u: Tensor, languages: Tensor) -> Tensor:
        return forward(head, u, torch.zeros_like(languages))

    with mock.patch.object(XTRHead, "forward", blind):
        yield
