"""`ems_fast.extend`: further languages or another domain for a model that is in use."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ems_fast.corpus import BinaryCorpus, open_corpora
from ems_fast.corpus.cleaning import tidy
from ems_fast.distributed.ranks import RANK_TIMEOUT_MINUTES, process_group
from ems_fast.encoding.encoder import SentenceEncoder
from ems_fast.encoding.load import load, module_of
from ems_fast.errors import InputError, check
from ems_fast.evaluation import EvalSet, read_eval_sets
from ems_fast.evaluation.held_out import held_out_sets
from ems_fast.model.phrases import with_phrases
from ems_fast.reporting import write_report
from ems_fast.runs.card import write_model_card
from ems_fast.runs.folder import RunFolder
from ems_fast.text.appending import append_pieces, pieces_for, spelling
from ems_fast.training.api import TrainResult, train
from ems_fast.training.certificate import Certificate, certify
from ems_fast.training.options import split_options
from ems_fast.training.recommended import recommended_options
from ems_fast.training.start import PHRASES, TOKENS, Init, Start

# Sentences that new pieces are learnt from.
_SAMPLE = 200_000
# What a row's accumulator is taken for where no checkpoint tells: the median after three minutes
# of the preset static.
_STEADY = 1e-7
# 1 − cosine is some tenths of the contrastive loss, and so is its gradient.
_TEACHER_SCALE = 10.0


@dataclass(frozen=True)
class ExtendResult(TrainResult):
    """What a run ended with, and what it kept of the model before.

    Attributes:
        certificate: of every language pair that there were sentences of.
    """

    certificate: Certificate


def extend(
    model: Init,
    corpora: str | Path | Any | Sequence[str | Path | Any],
    output_dir: str | Path,
    *,
    replay: str | Path | Any | Sequence[str | Path | Any] | None = None,
    keep: float = 0.5,
    new_pieces: int = 4000,
    new_phrases: int | None = None,
    eval_sets: str | Path | Sequence[EvalSet] | None = None,
    device: str | torch.device | None = None,
    progress: bool = True,
    rank_timeout_minutes: float = RANK_TIMEOUT_MINUTES,
    prepare_options: dict[str, Any] | None = None,
    **options: Any,
) -> ExtendResult:
    """Teach a model further languages, or another domain, and say what it kept.

    The tokenizer gets the pieces that it lacks, behind its own. Their rows begin as what the old
    pieces of their text add up to, so that a table gives old text the direction it had. Then the
    model is trained on `corpora`, and `replay` where it is given, with itself as the teacher: the
    side that it knew is to stay where it was, and the other side is to come there. Under
    ``torchrun`` every process calls this alike.

    Args:
        model: the folder of a run, the name of a shipped model, or a loaded encoder.
        corpora: parallel files, one side in a language that the model knows.
        output_dir: the folder of the new run, new or empty.
        replay: parallel files of the old languages, to be trained on beside the new ones.
        keep: 0 learns from the pairs alone, 1 from the old vectors alone; between them, the
            losses are mixed in that proportion.
        new_pieces: most pieces to append; 0 leaves the tokenizer as it is.
        new_phrases: of a table with phrases, most to add, of the new languages, or of all where
            none is new; by default as many as one of its languages has on average.
        eval_sets: as `train` takes them; the certificate has them beside held-out pairs of the new
            run and, where it is still there, of the earlier run's corpus.
        device: as in `train`.
        progress: show a bar and the scores.
        rank_timeout_minutes: as in `train`.
        prepare_options: passed to `prepare`.
        **options: as in `train`, except the weights of the losses, which `keep` decides.

    Returns:
        What the run ended with; its certificate is in the model card, too.

    Raises:
        InputError: an argument or a file cannot be used, before any work is done.
    """
    number = isinstance(keep, int | float) and not isinstance(keep, bool)
    check(number and 0 <= keep <= 1, "keep", keep, "between 0 and 1")
    whole = isinstance(new_pieces, int) and not isinstance(new_pieces, bool)
    check(whole and new_pieces >= 0, "new_pieces", new_pieces, "0 or more")
    if new_phrases is not None:
        whole = isinstance(new_phrases, int) and not isinstance(new_phrases, bool)
        check(whole and new_phrases >= 0, "new_phrases", new_phrases, "0 or more")
    decided = {"teacher_weight", "contrastive_weight", "xtr_weight"} & options.keys()
    if decided:
        raise InputError(f"{', '.join(sorted(decided))}: `keep` decides the weights; leave it out")
    start = Start.of(model)
    if new_phrases is None:
        new_phrases = start.config.phrases // max(1, len(start.config.languages))
    elif new_phrases and not start.config.phrases:
        raise InputError(
            f"new_phrases: got {new_phrases}, but {start.name} has none; leave it out, or begin a "
            "table that has them with train(…, model='phrases', init=…)"
        )
    with process_group(device, timeout_minutes=rank_timeout_minutes) as ranks:
        before = _encoder(start, ranks.device)
        preparing = dict(prepare_options or {})
        reading = {name: preparing.get(name) for name in ("languages", "tags")}
        new = list(open_corpora(corpora, **reading))
        old = [] if replay is None else list(open_corpora(replay, **reading))
        if ranks.main:
            RunFolder(output_dir).require_new(keep_corpus=False)
        ranks.barrier()  # before another rank makes something there
        sentences, known = _sentences(new, start.config.languages)
        if not known:
            raise InputError(
                f"corpora: no pair has a side in a language that {start.name} knows "
                f"({' '.join(start.config.languages)})"
            )
        larger = replace(_larger(start, sentences, new_pieces), new_phrases=new_phrases)
        weights = split_options(recommended_options(start.config)).objective
        result = train(
            [*new, *old], output_dir, init=larger, teacher=before if keep else None,
            eval_sets=eval_sets, device=ranks.device, progress=progress,
            rank_timeout_minutes=rank_timeout_minutes, prepare_options=preparing,
            contrastive_weight=(1 - keep) * weights.contrastive_weight,
            xtr_weight=(1 - keep) * weights.xtr_weight,
            teacher_weight=keep * _TEACHER_SCALE,
            **options,
        )  # fmt: skip
        certificate = certify(
            before, load(output_dir, device=ranks.device), _sets(start, result.corpus, eval_sets),
            name=start.name, keep=keep, old=start.config.languages,
        )  # fmt: skip
        if ranks.main:
            folder = RunFolder(output_dir)
            folder.log("certificate", **certificate.as_dict())
            write_model_card(folder)
            write_report(folder)
    return ExtendResult(
        result.output_dir, result.metrics, result.corpus, result.interrupted, certificate
    )


def _encoder(start: Start, device: torch.device) -> SentenceEncoder:
    module = module_of(start.config, start.weights, f"init: {start.name} does not fit its sizes")
    return SentenceEncoder(module, start.tokenizer, start.config, device)


def _sentences(readers: Sequence[Any], known: Sequence[str]) -> tuple[list[str], int]:
    """A sample of what the tokenizer is to learn, and how many pairs have a known side.

    The sides in languages that are not known; both where both are, which is another domain.
    """
    sample: list[str] = []
    rng = random.Random(0)
    seen = helpful = 0
    for pair in chain.from_iterable(readers):
        sides = ((pair.source, pair.source_lang), (pair.target, pair.target_lang))
        strange = [text for text, language in sides if language not in known]
        helpful += len(strange) < 2
        for text in strange or (pair.source, pair.target):
            seen += 1
            place = len(sample) if len(sample) < _SAMPLE else rng.randrange(seen)
            if place == len(sample):
                sample.append(tidy(text))
            elif place < _SAMPLE:
                sample[place] = tidy(text)
    return sample, helpful


def _larger(start: Start, sentences: Sequence[str], number: int) -> Start:
    """`start` with the pieces of `sentences` that it lacks."""
    share = 1 / (len(start.config.languages) + 1)
    pieces = pieces_for(start.tokenizer, sentences, number, share) if number else []
    tokenizer = append_pieces(start.tokenizer, pieces)
    old, new = start.config.vocab_size, tokenizer.vocab_size
    spelt = [spelling(start.tokenizer, piece.text) for piece in pieces]
    weights = dict(start.weights)
    if start.phrases is not None:
        spelt = [_with_phrases(ids, start.phrases, old) for ids in spelt]
        weights[PHRASES] = start.phrases // old * new + start.phrases % old
    tied = start.config.reconstruction and start.config.tied
    for name in (TOKENS, *(("output",) if "output" in weights and not tied else ())):
        # The mean of a sentence's rows keeps its direction if a piece is the sum of its parts; a
        # layer's normalisation wants rows of the usual size.
        summed = name == TOKENS and start.config.is_table
        weights[name] = _with_rows(weights[name], old, spelt, summed)
    known = _accumulators(start)
    config = replace(start.config, vocab_size=new)
    grown = torch.cat([known[:old], known.new_zeros(len(pieces)), known[old:]])
    return Start(start.name, config, tokenizer, weights, grown)


def _with_phrases(ids: Sequence[int], phrases: Tensor, vocab_size: int) -> list[int]:
    """The rows that a table adds up for a text of these tokens."""
    tokens = torch.tensor(ids)
    found: list[int] = with_phrases(tokens, torch.tensor([len(ids)]), phrases, vocab_size)[
        0
    ].tolist()
    return found


def _with_rows(table: Tensor, old: int, spelt: Sequence[Sequence[int]], summed: bool) -> Tensor:
    """`table` with the rows of new pieces behind those of `old` tokens, before those of phrases."""
    rows = [table[list(ids)].sum(0) if summed else table[list(ids)].mean(0) for ids in spelt]
    return torch.cat([table[:old], torch.stack(rows), table[old:]]) if rows else table


def _accumulators(start: Start) -> Tensor:
    """What row-wise AdaGrad knew of every row, so that it goes on with small steps."""
    size = start.config.vocab_size + start.config.phrases
    folder = None if start.folder is None else RunFolder(start.folder)
    if folder is not None and folder.checkpoint.exists():
        state = folder.read_checkpoint()["optimizer"]
        rows = chain.from_iterable(part["state"].values() for part in state.get("parts", [state]))
        for row in rows:
            if "sum" in row and len(row["sum"]) == size:
                sums: Tensor = row["sum"].clone()
                return sums
    return torch.full((size,), _STEADY)


def _sets(
    start: Start, corpus: BinaryCorpus, eval_sets: str | Path | Sequence[EvalSet] | None
) -> list[EvalSet]:
    """Sentences to certify on: held-out pairs, of the new run and the earlier one, and the sets."""
    most = split_options({}).reporting.evaluation_pairs
    found = held_out_sets(corpus, most)
    there = {(one.source_lang, one.target_lang) for one in found}
    if start.folder is not None:
        data = RunFolder(start.folder).read_config().get("data", {})
        path = start.folder / data.get("corpus", "corpus")
        if (path / "corpus.json").is_file():
            earlier = held_out_sets(BinaryCorpus.open(path), most)
            found += [one for one in earlier if (one.source_lang, one.target_lang) not in there]
    if isinstance(eval_sets, str | Path):
        found += read_eval_sets(eval_sets, languages={*start.config.languages, *corpus.languages})
    elif eval_sets is not None:
        found += eval_sets
    return found
