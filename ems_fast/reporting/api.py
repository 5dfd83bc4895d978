"""Write the report of a run, or a comparison of several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ems_fast.corpus import BinaryCorpus
from ems_fast.encoding.encoder import SentenceEncoder
from ems_fast.encoding.load import load
from ems_fast.errors import InputError
from ems_fast.evaluation import EvalSet, read_eval_sets
from ems_fast.evaluation.held_out import held_out_sets
from ems_fast.files.atomic import write_text
from ems_fast.reporting.comparison import comparison_page
from ems_fast.reporting.findings import Findings, find
from ems_fast.reporting.history import History
from ems_fast.reporting.page import run_page
from ems_fast.runs.folder import RunFolder

if TYPE_CHECKING:
    import torch

_PAIRS = 500  # held-out pairs of a language pair that are read


def report(
    *runs: str | Path,
    output: str | Path | None = None,
    eval_sets: str | Path | Sequence[EvalSet] | None = None,
    device: str | torch.device | None = None,
) -> Path:
    """Write a page on what a run has learnt, or one that compares several runs.

    The page is one HTML file that needs no network. Also of a run that is still going on, or that
    an earlier version made: what is not there is said on the page.

    Args:
        *runs: folders of runs.
        output: the page to write; of one run by default its ``report.html``.
        eval_sets: sentences to look at instead of the run's held-out pairs: files that
            `read_eval_sets` knows, such as those of FLORES, or sets. All runs are then measured
            on the same text.
        device: where a model with layers computes, as in `load`.

    Returns:
        The path of the page.

    Raises:
        InputError: a folder holds no run, or one that has logged nothing yet; no `output` for
            several runs; evaluation sets that cannot be read.
    """
    if not runs:
        raise InputError("runs: got none, expected at least one folder of a run")
    if len(runs) > 1 and output is None:
        raise InputError("output: is missing; give the page to write of several runs")
    folders = [RunFolder(run) for run in runs]
    histories = [_history(folder) for folder in folders]
    if len(runs) == 1:
        findings = _findings(folders[0], eval_sets, device)
        page = Path(output) if output is not None else folders[0].report
        if output is None:
            findings.write(folders[0].findings)
        write_text(page, run_page(histories[0], findings))
        return page
    page = Path(output or "")
    same_text = eval_sets is not None
    measured = [_findings(folder, eval_sets, device) for folder in folders if same_text]
    write_text(page, comparison_page(histories, measured))
    return page


def write_report(
    folder: RunFolder,
    encoder: SentenceEncoder | None = None,
    corpus: BinaryCorpus | None = None,
    sets: Sequence[EvalSet] = (),
) -> None:
    """Write ``report.html`` of a run: with its encoder and corpus, after measuring what was learnt.

    Without, with what was measured before. `sets` are shown if the corpus holds no pairs out.
    """
    history = _history(folder)
    if encoder is None:
        findings = Findings.read(folder.findings) or Findings()
    else:
        held_out = [] if corpus is None else held_out_sets(corpus, _PAIRS)
        findings = find(
            encoder, held_out or sets, corpus, step=_step(history), digests=folder.digests()
        )
        findings.write(folder.findings)
    write_text(folder.report, run_page(history, findings))


def _history(folder: RunFolder) -> History:
    history = History.of(folder)
    if not (history.train or history.evaluations):
        raise InputError(f"{folder.metrics}: has no line yet; train for longer")
    return history


def _step(history: History) -> int | None:
    return None if history.best is None else history.best["step"]


def _findings(
    folder: RunFolder,
    eval_sets: str | Path | Sequence[EvalSet] | None,
    device: str | torch.device | None,
) -> Findings:
    """Measured now, or what was measured before where the text is gone."""
    history, missing = History.of(folder), {}
    corpus: BinaryCorpus | None = None
    try:
        place = history.config.get("data", {}).get("corpus", folder.corpus.name)
        corpus = BinaryCorpus.open(folder.path / place)
    except InputError as error:
        missing["text"] = f"the corpus cannot be read ({error})"
    encoder: SentenceEncoder | None = None
    if folder.weights.exists():
        encoder = load(folder.path, device=device)
    else:
        missing["sentences"] = f"the run has no weights yet ({folder.weights.name} is missing)"
    if eval_sets is None:
        before = Findings.read(folder.findings)
        if corpus is None and before is not None:
            return before
        sets = [] if corpus is None else held_out_sets(corpus, _PAIRS)
        if corpus is None:
            missing.setdefault("sentences", missing["text"])
    elif isinstance(eval_sets, str | Path):
        known = folder.model_config(history.config).languages
        sets = read_eval_sets(eval_sets, languages=known or None)
    else:
        sets = list(eval_sets)
    digests = {} if encoder is None else folder.digests()
    return find(encoder, sets, corpus, step=_step(history), digests=digests, missing=missing)
