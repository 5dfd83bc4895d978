"""`ems_fast.plan`: what a run on this machine and this text comes to, measured before it begins."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ems_fast.corpus import BinaryCorpus, open_corpora, prepare
from ems_fast.corpus.binary import MANIFEST
from ems_fast.errors import InputError, TrainingError, check
from ems_fast.model.config import DEFAULT_MODEL, preset
from ems_fast.runs.folder import RunFolder
from ems_fast.text.table import aligned
from ems_fast.training.options import split_options
from ems_fast.training.recommended import recommended_options, recommended_tokenizer

# Pairs that the probe prepares of text that is not: enough for a vocabulary and full batches.
_SAMPLE = 50_000
# Shares of the probe's time: reading, and at most how much of it training.
_READING = 0.2
_TRAINING = 0.5
_LEAST_SECONDS = 5.0
# What runs are limited to by default: further passes are worth little (docs/quality.md).
_PASSES = 10


@dataclass(frozen=True)
class Plan:
    """What to expect of a run. Speed and memory were measured in the probe, the rest follows.

    Attributes:
        model: the preset.
        vocab_size: pieces of the tokenizer; of text that was sampled, at most.
        batch_pairs: pairs of a step; None where batches have a budget of tokens.
        minutes: of training.
        corpus_pairs: pairs to train on.
        complete: the text was read to its end; else `corpus_pairs` is what was counted in time.
        pairs_per_second: of training, in the probe.
        pairs_seen: in `minutes`.
        passes: over the text in `minutes`; where it was not read to its end, at most.
        memory_mb: the most that the probe's process held; a GPU's own memory is not in it.
        model_mb: of ``model.safetensors``; of text that was sampled, at most.
        checkpoint_mb: of the checkpoint that a run resumes from; likewise.
        probe_seconds: what the probe took.
        command: what to run.
        notes: what else to know.
    """

    model: str
    vocab_size: int
    batch_pairs: int | None
    minutes: float
    corpus_pairs: int
    complete: bool
    pairs_per_second: float
    pairs_seen: int
    passes: float
    memory_mb: float
    model_mb: float
    checkpoint_mb: float
    probe_seconds: float
    command: str
    notes: tuple[str, ...]

    def to_json(self) -> str:
        """All of it."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)

    def to_table(self) -> str:
        """A table for a terminal, with the notes and the command."""
        more = "" if self.complete else "more than "
        most = "" if self.complete else "at most "
        rows = [
            ["preset", self.model],
            ["vocabulary", f"{self.vocab_size:,}"],
            ["batch", f"{self.batch_pairs:,} pairs" if self.batch_pairs else "a budget of tokens"],
            ["text", f"{more}{self.corpus_pairs:,} pairs"],
            ["measured speed", f"{self.pairs_per_second:,.0f} pairs/s"],
            [f"seen in {self.minutes:g} minutes", f"{self.pairs_seen:,} pairs"],
            ["passes over the text", f"{most}{self.passes:.1f}"],
            ["measured memory", f"{self.memory_mb:,.0f} MB"],
            ["model, checkpoint", f"{self.model_mb:,.0f} MB, {self.checkpoint_mb:,.0f} MB"],
            ["the probe took", f"{self.probe_seconds:.0f} s"],
        ]
        notes = "".join(f"{note}.\n" for note in self.notes)
        return f"{aligned([rows], labels=2)}\n\n{notes}\n{self.command}"


def plan(
    corpora: str | Path | Any | Sequence[str | Path | Any],
    *,
    minutes: float = 60.0,
    model: str = DEFAULT_MODEL,
    probe_minutes: float = 2.0,
    device: str | None = None,
    languages: str | None = None,
    tags: Sequence[str] | None = None,
) -> Plan:
    """Try a run out for a minute or two, and say what `minutes` of it come to.

    The preset and its options are those that `docs/quality.md` and `docs/tuning.md` found best in
    equal minutes. What is prepared already is trained on as it is; of files, a sample of their
    first pairs is prepared for the probe, in a temporary folder. The training is that of the
    command line, in a process of its own, whose memory is measured.

    Args:
        corpora: parallel files, as `prepare` takes them, or the folder of a prepared corpus.
        minutes: of the run that is planned.
        model: the preset to plan for.
        probe_minutes: about the most that the probe may take; it takes less on little text.
        device: ``cpu``, ``cuda``…; None takes a GPU if there is one.
        languages: languages of files that do not say: ``en-de``, or ``en-{stem}`` by file name.
        tags: keep only lines of TSV files with one of these tags.

    Raises:
        InputError: an argument or a file cannot be used.
        TrainingError: the probe's training failed; it says why.
    """
    check(minutes > 0, "minutes", minutes, "more than 0")
    check(probe_minutes > 0, "probe_minutes", probe_minutes, "more than 0")
    sizes = preset(model)
    begun, limit = time.perf_counter(), 60 * probe_minutes
    with tempfile.TemporaryDirectory(prefix="ems-fast-plan-") as temporary:
        place = Path(temporary)
        sample: _Sample | None = None
        if isinstance(corpora, str | Path) and (Path(corpora) / MANIFEST).is_file():
            if languages is not None or tags is not None:
                raise InputError(f"languages, tags: {corpora} is prepared already; leave them out")
            corpus = BinaryCorpus.open(corpora)
        else:
            readers = open_corpora(corpora, languages=languages, tags=tags)
            sample = _Sample.of(readers, begun + _READING * limit)
            corpus = prepare(
                [sample], place / "corpus", progress=False, **recommended_tokenizer(sizes)
            )
        left = limit - (time.perf_counter() - begun)
        seconds = max(_LEAST_SECONDS, min(_TRAINING * limit, left - _LEAST_SECONDS))
        probe = _probe(corpus, place / "run", model, device, seconds)
    pairs, complete = corpus.num_pairs, True
    vocabulary = corpus.vocab_size
    model_mb, checkpoint_mb = probe.model_mb, probe.checkpoint_mb
    notes = []
    if sample is not None and sample.counted > len(sample.pairs):
        pairs = round(sample.counted * corpus.num_pairs / len(sample.pairs))
        complete = sample.complete
        vocabulary = sizes.vocab_size
        share = (vocabulary + sizes.phrases) / max(1, probe.rows)
        model_mb, checkpoint_mb = max(1.0, share) * model_mb, max(1.0, share) * checkpoint_mb
        notes.append(
            f"Measured on the first {len(sample.pairs):,} pairs; vocabulary and sizes are the most "
            "that the whole text can have"
        )
    chosen = split_options(recommended_options(sizes)).batches.for_corpus(pairs, 1)
    seen = round(probe.pairs_per_second * 60 * minutes)
    if seen > _PASSES * pairs and complete:
        notes.append(
            f"More than {_PASSES} passes over the text: more text serves better than more minutes"
        )
    return Plan(
        model, vocabulary, chosen.batch_pairs, minutes, pairs, complete, probe.pairs_per_second,
        seen, seen / pairs, probe.memory_mb, model_mb, checkpoint_mb, time.perf_counter() - begun,
        _command(corpora, model, minutes, device, languages, tags), tuple(notes),
    )  # fmt: skip


@dataclass(frozen=True)
class _Sample:
    """Some pairs of readers, a reader itself; `counted` were read, to the end if `complete`."""

    pairs: list[Any]
    counted: int
    complete: bool
    name: str = "sample"

    @classmethod
    def of(cls, readers: Sequence[Any], deadline: float) -> _Sample:
        """As many of every reader, then a count of the rest until `deadline`."""
        each = max(1, _SAMPLE // len(readers))
        found: list[Any] = []
        counted, complete = 0, True
        for reader in readers:
            for number, pair in enumerate(reader):
                if number < each:
                    found.append(pair)
                elif counted % 1024 == 0 and time.perf_counter() > deadline:
                    complete = False
                    break
                counted += 1
        return cls(found, counted, complete)

    def check(self) -> None:
        """The readers that it was read from are checked."""

    def __iter__(self) -> Iterator[Any]:
        return iter(self.pairs)


@dataclass(frozen=True)
class _Probe:
    """What was measured; `rows` are those of the token table."""

    pairs_per_second: float
    memory_mb: float
    model_mb: float
    checkpoint_mb: float
    rows: int


def _probe(
    corpus: BinaryCorpus, run: Path, model: str, device: str | None, seconds: float
) -> _Probe:
    """Train for so long in a process of its own."""
    said = run.with_name("said")
    arguments = [
        sys.executable, "-m", "ems_fast", "train", str(corpus.path.resolve()), "--output", str(run),
        "--model", model, "--max-minutes", str(seconds / 60), "--log-steps", "1", "--evaluations",
        "1", "--quiet", *(["--device", device] if device else []),
    ]  # fmt: skip
    with said.open("w+", encoding="utf-8") as stderr:
        process = subprocess.Popen(
            arguments, stdout=subprocess.DEVNULL, stderr=stderr, cwd=run.parent,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )  # fmt: skip
        try:
            _, status, usage = os.wait4(process.pid, 0)  # its own memory, not that of others
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            if process.returncode is None:
                process.kill()
                process.wait()
        if process.returncode:
            stderr.seek(0)
            words = stderr.read().strip().splitlines() or [f"exit code {process.returncode}"]
            raise TrainingError(f"the probe's training failed: {words[-1]}")
    folder = RunFolder(run)
    speeds = [x["pairs_per_second"] for x in folder.read_metrics() if x["event"] == "train"]
    if not speeds:
        raise TrainingError(
            f"not one step was done in {seconds:.0f} seconds; give more probe_minutes"
        )
    # The first steps warm up; the harmonic mean is pairs by time for batches of one size.
    steady = np.array(speeds[len(speeds) // 4 :])
    sizes = folder.read_model_config()
    return _Probe(
        float(len(steady) / (1 / steady).sum()), usage.ru_maxrss / 1024,
        folder.weights.stat().st_size / 1e6, folder.checkpoint.stat().st_size / 1e6,
        sizes.vocab_size + sizes.phrases,
    )  # fmt: skip


def _command(
    corpora: Any,
    model: str,
    minutes: float,
    device: str | None,
    languages: str | None,
    tags: Sequence[str] | None,
) -> str:
    given = [corpora] if isinstance(corpora, str | Path) else corpora
    several = isinstance(given, Sequence)
    named = several and all(isinstance(one, str | Path) for one in given)
    files = [str(one) for one in given] if named else ["CORPUS"]
    arguments = ["ems-fast", "train", *files, "--output", "runs/first", "--model", model]
    arguments += ["--max-minutes", f"{minutes:g}"]
    arguments += ["--device", device] if device else []
    arguments += ["--languages", languages] if languages else []
    arguments += ["--tags", *tags] if tags else []
    return shlex.join(arguments)
