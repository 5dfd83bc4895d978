"""`ems_fast.grow`: a better model from text that is not parallel."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ems_fast.corpus.readers import Reader, Tsv, open_corpora
from ems_fast.distributed.ranks import launched_ranks, resolve_device
from ems_fast.encoding.encoder import EncodingWarning, SentenceEncoder
from ems_fast.encoding.load import load
from ems_fast.encoding.partial_array import read_json, write_json
from ems_fast.encoding.protocol import Encodes
from ems_fast.encoding.shipped import folder_of
from ems_fast.errors import InputError, check, check_one_of
from ems_fast.exporting import export
from ems_fast.files.locks import lock_output
from ems_fast.growing.judging import accuracy, draw
from ems_fast.growing.rounds import Mined, Round, mine_pairs
from ems_fast.growing.texts import (
    FEWEST,
    Languages,
    ParallelText,
    Texts,
    lines_of,
    open_texts,
    prepare_text,
)
from ems_fast.mining.exact import INDEXES, Index
from ems_fast.mining.faiss import require_faiss
from ems_fast.model.config import DEFAULT_MODEL, ModelConfig
from ems_fast.model.config import preset as named
from ems_fast.text.table import aligned
from ems_fast.training import train
from ems_fast.training.options import split_options
from ems_fast.training.recommended import recommended_options
from ems_fast.training.start import Start

# Options of `prepare` that a model brings with itself.
_TOKENIZER = {"tokenizer", "tokenizer_type", "vocab_size"}
_FILES = str | Path | Reader | Iterable[str | Path | Reader]


@dataclass(frozen=True)
class GrowResult:
    """What growing came to.

    Attributes:
        output_dir: the folder given; the best model is in its folder ``model``.
        rounds: what each round came to; the first is the model that was begun with.
        interrupted: the user stopped a training; the same call goes on with it.
    """

    output_dir: Path
    rounds: tuple[Round, ...]
    interrupted: bool = False

    @property
    def best(self) -> Round:
        """The last round that was accepted."""
        return next(one for one in reversed(self.rounds) if one.accepted)

    @property
    def encoder(self) -> SentenceEncoder:
        """The best encoder, loaded anew at every access."""
        return load(self.output_dir / "model")

    def to_table(self) -> str:
        """A row a round: accuracy of the test part by language pair, and what was mined."""
        names = list(self.rounds[0].test)
        head = ["round", "", *names, "decides by", "pairs mined", "minutes"]
        rows = [
            [
                str(one.number),
                "accepted" if one.accepted else "rejected",
                *(f"{100 * one.test[name]:.1f}" for name in names),
                f"{100 * one.score:.2f}",
                f"{sum(found.pairs for found in one.mined.values()):,}",
                f"{one.minutes:.1f}",
            ]
            for one in self.rounds
        ]
        return aligned([[head], rows], labels=2)


def grow(
    model: str | Path | None,
    texts: Texts,
    output_dir: str | Path,
    *,
    pairs: _FILES | None = None,
    held_out: _FILES | None = None,
    preset: str | ModelConfig | None = None,
    rounds: int = 2,
    from_scratch: bool = False,
    threshold: float | None = None,
    min_gain: float = 0.0,
    index: Index = "exact",
    held_out_pairs: int = 1000,
    distractors: int = 10_000,
    device: str | None = None,
    progress: bool = True,
    prepare_options: dict[str, Any] | None = None,
    **options: Any,
) -> GrowResult:
    """Mine pairs from text that is not parallel, train on them, and keep what became better.

    Round 0 is `model`, or one that is trained on the seed pairs. Each further round mines every
    language pair with the best model so far, trains on the seed and on what was mined, and judges
    the new model on held-out pairs among many other lines. One that is not better is rejected, and
    the growing ends. Held-out pairs are chosen once; half of them decide, and the other half only
    report. No line, seed pair or mined pair that has a held-out sentence (NFKC, case folded) is
    ever trained on.

    The output has ``text/`` (held-out and seed pairs), ``round-00/``, ``round-01/``, … (mined pairs
    with their margins, the run, and last ``round.json``), and ``model/``, the best. After an
    interruption the same call goes on with the first round that is not complete, or with more
    `rounds`. The lines, and the vectors of one language pair at a time, are held in memory.

    Args:
        model: the folder of a run or of an exported model, or the name of a shipped one, which
            knows the languages of `texts`. None: one is trained on the seed.
        texts: two files of lines for each language pair, ``{"en-de": ("a.txt", "b.txt")}``; all
            language pairs share one model.
        output_dir: a new folder, or one that the same call began.
        pairs: parallel files of seed pairs, as `train` takes them; needed without `model`.
        held_out: parallel files of pairs to judge by, which `model` was not trained on; without
            them a fifth of the seed pairs, at most.
        preset: the preset of sizes, or a `ModelConfig`, of models that are trained from scratch.
        rounds: most rounds after the first model.
        from_scratch: train every round's model anew, with a tokenizer of its own text, rather than
            from the best so far.
        threshold: mined pairs have at least this margin. By default that of the best F1 on the
            deciding pairs, hidden among the lines with and without their translations.
        min_gain: a round is accepted if the mean accuracy on the deciding pairs grows by more.
        index: of the search: ``"exact"``, ``"faiss"`` or ``"binary"``, as for `mine`.
        held_out_pairs: most pairs of each language pair to hold out, for both parts together.
        distractors: most lines of each side that held-out pairs are found among.
        device: ``cpu``, ``cuda``…; None takes a GPU if there is one.
        progress: show bars and scores.
        prepare_options: passed to `prepare`.
        **options: of each round's training, for example ``max_minutes=5``.

    Raises:
        InputError: an argument or a file cannot be used, before any work; the folder was begun by
            another call; a model that finds no translation at all.
    """
    files = open_texts(texts)
    _check_numbers(rounds, threshold, min_gain, held_out_pairs, distractors)
    check_one_of("index", index, INDEXES)
    if index != "exact":
        require_faiss(index)
    if launched_ranks() is not None:
        raise InputError("grow: runs in one process, but torchrun started several; start it alone")
    resolve_device(device)
    sizes = _check_model(model, files, preset, from_scratch, options, prepare_options or {})
    seeds = [] if pairs is None else open_corpora(pairs)
    judges = None if held_out is None else open_corpora(held_out)
    if model is None and not seeds:
        raise InputError("pairs: are missing; give seed pairs to begin with, or a model")
    if judges is None and not seeds:
        raise InputError(
            "held_out: is missing; give pairs to judge the rounds by, or seed pairs (pairs=)"
        )
    identity: dict[str, Any] = {
        "model": None if model is None else _identity(folder_of(model) / "model.safetensors"),
        "texts": {"-".join(k): [_identity(path) for path in v] for k, v in files.items()},
        "pairs": [_reader_identity(reader) for reader in seeds],
        "held_out": None if judges is None else [_reader_identity(one) for one in judges],
        "preset": dataclasses.asdict(sizes) if isinstance(sizes, ModelConfig) else sizes,
        "from_scratch": from_scratch,
        "threshold": threshold,
        "min_gain": min_gain,
        "index": index,
        "held_out_pairs": held_out_pairs,
        "distractors": distractors,
        "prepare_options": prepare_options,
        "options": options,
    }
    output = Path(output_dir)
    with _opened(output, json.loads(json.dumps(identity, default=str))):
        if not (output / "text").exists():
            prepare_text(output / "text", files, seeds, judges, held_out_pairs)
        text = ParallelText(output / "text")
        lines = {
            pair: (lines_of(a, text.keys), lines_of(b, text.keys)) for pair, (a, b) in files.items()
        }
        growth = _Growth(
            output, text, lines, model, sizes, from_scratch, threshold, min_gain, index,
            distractors, device, progress, prepare_options or {}, options,
        )  # fmt: skip
        with warnings.catch_warnings():  # pairs that are too long are left out by `prepare`
            warnings.simplefilter("ignore", EncodingWarning)
            done, interrupted = growth.run(rounds)
        result = GrowResult(output, done, interrupted)
        if not interrupted:
            shutil.rmtree(output / "model", ignore_errors=True)
            export(growth.folder(result.best.number), output / "model", to="ems-fast")
    return result


@dataclass(frozen=True)
class _Growth:
    """What the rounds have in common."""

    output: Path
    text: ParallelText
    lines: dict[Languages, tuple[list[str], list[str]]]
    model: str | Path | None
    preset: str | ModelConfig | None
    from_scratch: bool
    threshold: float | None
    min_gain: float
    index: Index
    distractors: int
    device: str | None
    progress: bool
    prepare_options: dict[str, Any]
    options: dict[str, Any]

    def place(self, number: int) -> Path:
        """The folder of a round."""
        return self.output / f"round-{number:02d}"

    def folder(self, number: int) -> Path:
        """The folder of a round's model."""
        if number == 0 and self.model is not None:
            return folder_of(self.model)
        return self.place(number) / "run"

    def run(self, rounds: int) -> tuple[tuple[Round, ...], bool]:
        """The rounds that are complete, after those that were not, and whether one was stopped."""
        done: list[Round] = []
        for number in range(rounds + 1):
            place = self.place(number)
            place.mkdir(exist_ok=True)
            one = Round.read(place / "round.json")
            if one is None:
                best = max((r.number for r in done if r.accepted), default=None)
                one = self._round(number, None if best is None else done[best])
                if one is None:
                    return tuple(done), True
                one.write(place / "round.json")
            done.append(one)
            if not one.accepted:
                break
        return tuple(done), False

    def _round(self, number: int, best: Round | None) -> Round | None:
        """Mine, train and judge; None if the user stopped the training."""
        mined: dict[str, Mined] = {}
        minutes = 0.0
        if best is not None:
            mined = self._mine(number, best)
            if not any(found.pairs for found in mined.values()):
                return Round(number, False, best.decide, best.test, mined, 0.0)
        if best is not None or self.model is None:
            result = train(
                [*self.text.seed_readers(), *self._readers(number, mined)],
                self.folder(number),
                **self._start(best),
                resume="auto",
                device=self.device,
                progress=self.progress,
                **self.options,
            )
            if result.interrupted:
                return None
            minutes = result.metrics["minutes"]
        decide, test = self._judge(self._encoder(number))
        one = Round(number, True, decide, test, mined, minutes)
        accepted = best is None or one.score > best.score + self.min_gain
        return dataclasses.replace(one, accepted=accepted)

    def _start(self, best: Round | None) -> dict[str, Any]:
        """What a round's model begins as: drawn anew, or the best one, with its tokenizer."""
        if best is None or self.from_scratch:
            return {"model": self.preset, "prepare_options": self.prepare_options}
        left = {k: v for k, v in self.prepare_options.items() if k not in _TOKENIZER}
        return {"init": self.folder(best.number), "prepare_options": left}

    def _mine(self, number: int, best: Round) -> dict[str, Mined]:
        encoder = self._encoder(best.number)
        return {
            name: mine_pairs(
                encoder, lines, self.text.pairs[pair].decide, self._mined(number, name),
                threshold=self.threshold, index=self.index, device=resolve_device(self.device),
            )
            for pair, lines in self.lines.items()
            for name in ["-".join(pair)]
        }  # fmt: skip

    def _mined(self, number: int, name: str) -> Path:
        return self.place(number) / f"mined.{name}.tsv"

    def _readers(self, number: int, mined: dict[str, Mined]) -> Iterator[Reader]:
        for pair in self.lines:
            name = "-".join(pair)
            if name in mined and mined[name].pairs:
                yield Tsv(self._mined(number, name), *pair, columns=(0, 1))

    def _encoder(self, number: int) -> Encodes:
        return _Shown(load(self.folder(number), device=self.device), self.progress)

    def _judge(self, encoder: Encodes) -> tuple[dict[str, float], dict[str, float]]:
        decide, test = {}, {}
        for pair, (source, target) in self.lines.items():
            pool = draw(source, self.distractors), draw(target, self.distractors)
            held = self.text.pairs[pair]
            decide["-".join(pair)] = accuracy(encoder, held.decide, pool)
            test["-".join(pair)] = accuracy(encoder, held.test, pool)
        return decide, test


@dataclass(frozen=True)
class _Shown:
    """An encoder whose bars are shown, for many sentences, or never."""

    encoder: SentenceEncoder
    progress: bool

    def encode(
        self, sentences: Sequence[str], *, normalize: bool = False
    ) -> npt.NDArray[np.float32]:
        show = None if self.progress else False
        return self.encoder.encode(sentences, normalize=normalize, progress=show)


def _check_numbers(
    rounds: int, threshold: float | None, min_gain: float, held_out_pairs: int, distractors: int
) -> None:
    for name, given, least in (
        ("rounds", rounds, 1),
        ("held_out_pairs", held_out_pairs, FEWEST),
        ("distractors", distractors, 1),
    ):
        whole = isinstance(given, int) and not isinstance(given, bool)
        check(whole and given >= least, name, given, f"a whole number of at least {least}")
    finite = threshold is None or math.isfinite(threshold)
    check(finite, "threshold", threshold, "a finite number or None")
    check(0 <= min_gain < 1, "min_gain", min_gain, "between 0 and 1, such as 0.005")


def _check_model(
    model: str | Path | None,
    files: Iterable[Languages],
    sizes: str | ModelConfig | None,
    from_scratch: bool,
    options: dict[str, Any],
    preparing: dict[str, Any],
) -> str | ModelConfig | None:
    """Check that a model can be begun with and trained as asked for; the preset to train."""
    config = named(sizes) if isinstance(sizes, str) else sizes
    start = None if model is None else Start.of(model)
    if start is not None:
        unknown = {code for pair in files for code in pair} - set(start.config.languages)
        if unknown:
            raise InputError(
                f"model: {start.name} does not know {', '.join(sorted(unknown))}; teach it "
                "with `extend` first"
            )
        if sizes is not None and not from_scratch:
            raise InputError(
                f"preset: got {sizes!r}, but models are trained from {start.name}; leave it "
                "out, or give from_scratch=True"
            )
        given = sorted(_TOKENIZER & preparing.keys())
        if given and not from_scratch:
            raise InputError(
                f"prepare_options: got {', '.join(given)}, but text is read with the tokenizer of "
                f"{start.name}; leave them out"
            )
    trained = start.config if start is not None and not from_scratch else config
    chosen = trained or named(DEFAULT_MODEL)
    split = split_options(options, split_options(recommended_options(chosen)))
    weight = split.objective.teacher_weight
    check(weight == 0, "teacher_weight", weight, "0: the rounds have no teacher")
    split.objective.check_model(chosen)
    split.optimizer.check_model(chosen)
    return sizes


def _identity(path: Path) -> list[Any]:
    """What tells this file from another, as far as that can be seen without reading it."""
    status = os.stat(path)
    return [str(path.resolve()), status.st_size, status.st_mtime_ns]


def _reader_identity(reader: Reader) -> list[Any]:
    paths = getattr(reader, "paths", [getattr(reader, "path", None)])
    return [
        type(reader).__name__,
        reader.name,
        *(_identity(path) for path in paths if isinstance(path, Path)),
    ]


@contextmanager
def _opened(output: Path, identity: dict[str, Any]) -> Iterator[None]:
    """Hold the folder, new or of the same call, for this process."""
    record = output / "grow.json"
    if output.exists() and not output.is_dir():
        raise InputError(f"output_dir: {output} is a file; choose a folder")
    before = read_json(record)
    if not before and output.exists() and any(p.name != "lock" for p in output.iterdir()):
        raise InputError(f"output_dir: {output} is not empty; choose another folder")
    try:
        output.mkdir(parents=True, exist_ok=True)
        lock = (output / "lock").open("w")
    except OSError as error:
        raise InputError(f"output_dir: {output} cannot be made ({error.strerror})") from error
    with lock:
        lock_output(lock, output / "lock", output, "output folder")
        if before and before != identity:
            other = ", ".join(key for key in identity if before.get(key) != identity[key])
            raise InputError(
                f"output_dir: {output} was begun by a call with other {other}; make the same call "
                "to go on with it, or choose another folder"
            )
        write_json(record, identity)
        yield
