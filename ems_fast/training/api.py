"""`ems_fast.train`: files in, an encoder out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from ems_fast.corpus import BinaryCorpus, format_report, prepare
from ems_fast.corpus.binary import MANIFEST
from ems_fast.corpus.phrases import frequent_phrases
from ems_fast.distributed.ranks import RANK_TIMEOUT_MINUTES, Ranks, process_group
from ems_fast.encoding.encoder import SentenceEncoder
from ems_fast.encoding.load import load
from ems_fast.errors import InputError, check
from ems_fast.evaluation import EvalSet, read_eval_sets
from ems_fast.evaluation.held_out import held_out_sets
from ems_fast.model.config import DEFAULT_MODEL, ModelConfig, preset, preset_name
from ems_fast.model.ems import EMSModel
from ems_fast.reporting import write_report
from ems_fast.runs.card import write_model_card
from ems_fast.runs.folder import RunFolder, model_section
from ems_fast.runs.session import session
from ems_fast.training.batches.config import gives_size
from ems_fast.training.console import Console
from ems_fast.training.options import TrainOptions, split_options
from ems_fast.training.recommended import recommended_options, recommended_tokenizer
from ems_fast.training.start import Init, Start
from ems_fast.training.teacher import (
    Teacher,
    TeacherArray,
    check_teacher,
    open_teacher,
    teach,
)
from ems_fast.training.trackers import Following, Trackers, names_of, open_trackers
from ems_fast.training.trainer import Trainer


@dataclass(frozen=True)
class TrainResult:
    """What a run ended with.

    Attributes:
        output_dir: the run's folder.
        metrics: ``steps``, ``skipped`` ones among them, ``pairs``, ``minutes``; ``best``, the
            accuracy of the saved model on held-out pairs; ``accuracy``, the last evaluation's
            averages by collection.
        corpus: what it was trained on, with the held-out pairs.
        interrupted: the user stopped it; it can be resumed.
    """

    output_dir: Path
    metrics: dict[str, Any]
    corpus: BinaryCorpus
    interrupted: bool

    @property
    def encoder(self) -> SentenceEncoder:
        """The best encoder of the run, loaded anew at every access."""
        return load(self.output_dir)


def train(
    corpora: str | Path | Any | Sequence[str | Path | Any] | None,
    output_dir: str | Path,
    *,
    model: str | ModelConfig | None = None,
    init: Init | None = None,
    teacher: Teacher | None = None,
    eval_sets: str | Path | Sequence[EvalSet] | None = None,
    trackers: Trackers | None = None,
    resume: bool | Literal["auto"] = False,
    device: str | torch.device | None = None,
    progress: bool = True,
    rank_timeout_minutes: float = RANK_TIMEOUT_MINUTES,
    prepare_options: dict[str, Any] | None = None,
    **options: Any,
) -> TrainResult:
    """Train a model on parallel text (EMS, arXiv 2205.15744).

    Under ``torchrun`` every process calls this alike; each reads its own share of every batch.

    Args:
        corpora: parallel files, readers such as ``ems_fast.Moses(...)`` or folders of them, which
            are prepared into the run's folder; or a folder that `ems_fast.prepare` made. May be
            None when resuming.
        output_dir: the run's folder; new or empty unless `resume`.
        model: a preset (``static``, ``phrases``, ``mini``, ``small``, ``ems``) or a `ModelConfig`;
            vocabulary size, languages and phrases are those of the corpus and its tokenizer.
            None takes the sizes of `init`, else the default preset.
        init: the model whose weights the run begins with: the folder of a run, the name of a
            shipped model, or a loaded encoder. Files are then prepared with its tokenizer.
            Optimiser and schedule begin anew. A table may become the token embedding of a model
            with layers of its width. The run's log says which parts were taken.
        teacher: what the vectors are to be like: a .npy file with one row a training pair of a
            prepared corpus, or anything with ``encode(sentences)``, such as an encoder of ours or
            of sentence-transformers, whose vectors of one side of the text are computed once, into
            the run's folder. Both sides of a pair learn its vector, by `teacher_weight` and
            `teacher_loss`, beside the other objectives or, with their weights at 0, alone. A
            teacher of another width is met through a learned projection.
        eval_sets: a folder that `ems_fast.read_eval_sets` understands, or the sets; those in the
            corpus's languages are scored on the way and at the end.
        trackers: what else is told the run's figures: ``tensorboard``, ``wandb``, ``mlflow`` (each
            an extra), or objects with the methods of `Tracker`; by default TensorBoard where it is
            installed. A resumed run goes on with those that were named.
        resume: continue the run in `output_dir` from its last checkpoint, with its own corpus and
            model; ``"auto"`` does so if there is one and starts it otherwise, so that one call
            serves a run's start and every restart. On another number of ranks the batch of all
            ranks stays the same, if they can share it alike.
        device: ``cpu``, ``cuda``…; None takes a GPU if there is one.
        progress: show a bar and the scores.
        rank_timeout_minutes: a rank that is silent for longer within a step is taken for lost, and
            the others stop.
        prepare_options: passed to `ems_fast.prepare` when `corpora` are files; an error when there
            is nothing to prepare.
        **options: fields of `TrainOptions`' groups, for example ``max_minutes=20`` or
            ``batch_pairs=512``; what is not given is what `recommended_options` says of the model,
            else the field's default, and a batch at most an eighth of the corpus. When
            resuming, they replace the run's own.

    Returns:
        What the run ended with; ``result.encoder`` is the best encoder.

    Raises:
        InputError: an argument or a file cannot be used; nothing has been written then, or what
            was there before is untouched.
        TrainingError: the loss became NaN or infinite, memory ran out, or another rank was lost.
    """
    folder = RunFolder(output_dir)
    opened = None if trackers is None else open_trackers(trackers)
    with process_group(device, timeout_minutes=rank_timeout_minutes) as ranks:
        if _goes_on(resume, folder, ranks):
            if prepare_options and resume != "auto":
                raise InputError(
                    f"prepare_options: got {prepare_options!r}, but a run is resumed with the "
                    "corpus it was begun with; leave them out"
                )
            if teacher is not None and resume != "auto":
                raise InputError("teacher: a run is resumed with its own teacher; leave it out")
            if init is not None and resume != "auto":
                raise InputError("init: a run is resumed with its own weights; leave it out")
            plan = _resume(folder, ranks, options)
        else:
            _eval_sets(eval_sets, None)  # a wrong path ends here, before any work
            start = None if init is None else Start.of(init)
            if teacher is not None:
                check_teacher(teacher)
                options = {"teacher_weight": 1.0, **options}
            plan = _begin(
                corpora, folder, model, start, teacher, ranks, options, prepare_options or {},
                restarted=resume == "auto", progress=progress,
            )  # fmt: skip
        if trackers is not None:
            plan = replace(plan, trackers=names_of(trackers))
        if opened is None:
            opened = open_trackers(plan.trackers)
        sets = _eval_sets(eval_sets, plan.corpus.languages)
        plan.options.batches.require_enough_pairs(plan.corpus, ranks.world)
        with (
            _alone(folder, ranks, begun=plan.resumed),
            closing(Following(opened if ranks.main else ())) as following,
        ):
            return _run(plan, folder, ranks, sets, following, progress)


@dataclass(frozen=True)
class _Plan:
    """What is trained on what, and how."""

    corpus: BinaryCorpus
    model: ModelConfig
    options: TrainOptions
    resumed: bool
    phrases: torch.Tensor | None = None  # of a run that begins
    init: str | None = None
    start: Start | None = None
    teacher: TeacherArray | None = None
    teacher_path: Path | None = None
    trackers: list[str] | None = None  # those with names


def _begin(
    corpora: Any,
    folder: RunFolder,
    model: str | ModelConfig | None,
    start: Start | None,
    teacher: Teacher | None,
    ranks: Ranks,
    options: dict[str, Any],
    prepare_options: dict[str, Any],
    *,
    restarted: bool,
    progress: bool,
) -> _Plan:
    """Prepare the text where that is not done, and fit the model's sizes to it."""
    if model is None:
        model = DEFAULT_MODEL if start is None else start.config
    base = preset(model) if isinstance(model, str) else model
    if start is not None:
        start.check_sizes(base)
    chosen = split_options(options, split_options(recommended_options(base)))
    chosen.objective.check_model(base)
    chosen.optimizer.check_model(base)
    if (teacher is None) != (chosen.objective.teacher_weight == 0):
        raise InputError(
            f"teacher_weight: got {chosen.objective.teacher_weight} "
            f"{'without' if teacher is None else 'with'} a teacher; give both or neither"
        )
    fixed = isinstance(teacher, str | Path)
    if fixed and not (isinstance(corpora, str | Path) and (Path(corpora) / MANIFEST).is_file()):
        raise InputError(
            "teacher: vectors have the order of a prepared corpus; prepare the text first, or give "
            "an encoder"
        )
    if ranks.main:
        given = Path(corpora).resolve() if isinstance(corpora, str | Path) else None
        ours = given == folder.corpus.resolve()
        folder.require_new(keep_corpus=restarted or ours, interrupted=restarted)
    ranks.barrier()  # before another rank makes something there
    if restarted and (folder.corpus / MANIFEST).is_file():
        corpus = BinaryCorpus.open(folder.corpus)  # of this call, killed when it had prepared it
    else:
        corpus = _corpus(corpora, folder, base, start, ranks, progress, prepare_options)
    if start is not None:
        start.check_tokenizer(corpus)
        start = start.with_phrases_of(corpus)
    sized = replace(base, vocab_size=corpus.vocab_size, languages=_languages(corpus, start))
    if sized.max_tokens < corpus.max_tokens:
        raise InputError(
            f"model: reads {sized.max_tokens} tokens, but the corpus has sentences of up "
            f"to {corpus.max_tokens}; prepare it with max_tokens={sized.max_tokens}"
        )
    if not gives_size(options):
        chosen = replace(chosen, batches=chosen.batches.for_corpus(corpus.num_pairs, ranks.world))
    phrases: torch.Tensor | None = None
    if base.phrases:
        phrases = None if start is None else start.phrases
        if phrases is None:
            phrases = torch.from_numpy(frequent_phrases(corpus, base.phrases))
    sized = replace(sized, phrases=0 if phrases is None else len(phrases))
    taught: TeacherArray | None = None
    path: Path | None = None
    if teacher is not None:
        path, taught = _taught(teacher, corpus, folder, ranks)
        width = taught.shape[1]
        sized = replace(sized, teacher_width=0 if width == sized.width else width)
    name = None if start is None else start.name
    return _Plan(corpus, sized, chosen, False, phrases, name, start, taught, path)


def _languages(corpus: BinaryCorpus, start: Start | None) -> tuple[str, ...]:
    """Those of the text, whose rows batches count by, and then what the earlier model knew."""
    known = () if start is None else start.config.languages
    return (*corpus.languages, *(code for code in known if code not in corpus.languages))


def _taught(
    teacher: Teacher, corpus: BinaryCorpus, folder: RunFolder, ranks: Ranks
) -> tuple[Path, TeacherArray]:
    """The file of the teacher's vectors, made here unless it is one, and what is in it."""
    if isinstance(teacher, str | Path):
        path = Path(teacher)
    else:
        path = folder.teacher
        if ranks.main:
            folder.create()
            teach(teacher, corpus, path)
        ranks.barrier()
    return path, open_teacher(path, corpus)


def _resume(folder: RunFolder, ranks: Ranks, options: dict[str, Any]) -> _Plan:
    """The run's own corpus, model and options, some of them replaced."""
    document = folder.read_config()
    chosen = split_options(options, TrainOptions.from_sections(document))
    if not gives_size(options):
        before = document["data"].get("ranks", ranks.world)
        chosen = replace(chosen, batches=chosen.batches.for_ranks(ranks.world, before))
    corpus = BinaryCorpus.open(folder.path / document["data"]["corpus"])
    model = folder.read_model_config()
    chosen.optimizer.check_model(model)
    init = document["data"].get("init")
    given = document["data"].get("teacher")
    path = None if given is None else folder.path / given
    taught = None if path is None else open_teacher(path, corpus)
    # Of a run that was killed before its first checkpoint, which would hold them.
    phrases: torch.Tensor | None = None
    if model.phrases and folder.is_unbegun():
        phrases = torch.from_numpy(frequent_phrases(corpus, model.phrases))
    return _Plan(
        corpus, model, chosen, True, phrases, init, teacher=taught, teacher_path=path,
        trackers=document["data"].get("trackers"),
    )  # fmt: skip


def _run(
    plan: _Plan,
    folder: RunFolder,
    ranks: Ranks,
    sets: list[EvalSet],
    following: Following,
    progress: bool,
) -> TrainResult:
    corpus, chosen = plan.corpus, plan.options
    torch.manual_seed(chosen.batches.seed)
    ems = EMSModel(plan.model)
    if ems.encoder.phrases is not None and plan.phrases is not None:
        ems.encoder.phrases.copy_(plan.phrases)
    parts = None if plan.start is None else plan.start.copy_into(ems)
    ems.to(ranks.device)
    console = Console(progress and ranks.main)
    sets = [*held_out_sets(corpus, chosen.reporting.evaluation_pairs), *sets]
    trainer = Trainer(folder, corpus, ems, chosen, ranks, sets, console, plan.teacher, following)
    if plan.resumed:
        trainer.restore()
    elif plan.start is not None:
        plan.start.steady(trainer.optimizer, ems)
        # Before there is a run to resume, so that none is resumed without these weights.
        trainer.save_checkpoint()
    if ranks.main:
        home = folder.path.resolve()

        def place(path: Path) -> str:
            """One inside the run's folder is named from there: the folder can be moved."""
            path = path.resolve()
            return str(path.relative_to(home) if home in path.parents else path)

        folder.write_tokenizer(corpus.tokenizer.model)
        document = {
            "model": model_section(plan.model),
            **chosen.sections(),
            "data": {
                "corpus": place(corpus.path),
                "pairs": corpus.num_pairs,
                "language_pairs": {s.name: s.num_pairs for s in corpus.shards},
                "ranks": ranks.world,
                "tokenizer_sha256": corpus.tokenizer_sha256,
                "init": plan.init,
                "teacher": plan.teacher_path and place(plan.teacher_path),
                "trackers": plan.trackers,
            },
        }
        folder.write_config(document)
        following.begin(folder.path, document)
        here = session(ranks.device, torch.get_num_threads(), ranks.world)
        folder.log("session", step=trainer.progress.step, **here)
        if plan.start is not None and parts is not None:
            folder.log("init", model=plan.init, taken=parts.taken, fresh=parts.fresh)
    console.say(_summary(trainer))
    if parts is not None:
        console.say(f"From {plan.init}: {parts}")
    state = trainer.run()
    if ranks.main:
        write_model_card(folder)
        write_report(folder, load(folder.path, device=ranks.device), corpus, sets)
    metrics = {
        "steps": state.step,
        "skipped": state.skipped.total,
        "pairs": state.pairs,
        "minutes": state.seconds / 60,
        "best": state.best,
        "accuracy": trainer.scores.averages,
    }
    return TrainResult(folder.path, metrics, corpus, trainer.interrupted)


@contextmanager
def _alone(folder: RunFolder, ranks: Ranks, *, begun: bool) -> Iterator[None]:
    """The run's folder, made and kept from other processes; those of one run share it."""
    folder.create()
    with folder.training(begun=begun) if ranks.main else nullcontext():
        ranks.barrier()  # no rank looks or writes before
        yield


def _goes_on(resume: bool | Literal["auto"], folder: RunFolder, ranks: Ranks) -> bool:
    """Whether there is a run to continue; all ranks answer alike, before any writes one."""
    if resume == "auto":
        return bool(ranks.agree([float(folder.config.exists())])[0])
    check(isinstance(resume, bool), "resume", resume, "True, False or 'auto'")
    return resume


def _eval_sets(
    given: str | Path | Sequence[EvalSet] | None, languages: Sequence[str] | None
) -> list[EvalSet]:
    if given is None:
        return []
    if isinstance(given, str | Path):
        return read_eval_sets(given, languages=languages)
    return list(given)


def _corpus(
    corpora: Any,
    folder: RunFolder,
    base: ModelConfig,
    start: Start | None,
    ranks: Ranks,
    progress: bool,
    options: dict[str, Any],
) -> BinaryCorpus:
    """The prepared corpus that `corpora` is, or the one made of it inside the run's folder."""
    if corpora is None:
        raise InputError("corpora: got None; give files or a prepared corpus, or resume=True")
    if isinstance(corpora, str | Path) and (Path(corpora) / MANIFEST).is_file():
        if options:
            raise InputError(
                f"prepare_options: got {options!r}, but {corpora} is prepared already; leave them "
                "out, or give the files"
            )
        return BinaryCorpus.open(corpora)
    if start is not None:
        given = sorted({"tokenizer", "tokenizer_type", "vocab_size"} & options.keys())
        if given:
            raise InputError(
                f"prepare_options: got {', '.join(given)}, but with init the text is read with the "
                "tokenizer of that model; leave them out"
            )
        advised = {"tokenizer": start.tokenizer, "max_tokens": base.max_tokens}
    else:
        advised = recommended_tokenizer(base)
    if ranks.main:
        corpus = prepare(corpora, folder.corpus, progress=progress, **{**advised, **options})
        if progress:
            print(format_report(corpus.report))
    ranks.barrier()
    return BinaryCorpus.open(folder.corpus)


def _summary(trainer: Trainer) -> str:
    config, corpus, ranks = trainer.model.config, trainer.corpus, trainer.ranks
    parameters = sum(p.numel() for p in trainer.model.parameters())
    precision = "bf16" if trainer.autocast_dtype else "fp32"
    impl = trainer.options.objective.impl_for(ranks.device)
    return (
        f"Model: {preset_name(config)}, {config.layers} layers × {config.width}, vocabulary "
        f"{config.vocab_size:,}, {parameters / 1e6:.1f} million parameters\n"
        f"Text: {corpus.num_pairs:,} pairs, {len(corpus.languages)} languages\n"
        f"On: {ranks.device} × {ranks.world}, {precision}, {impl} objectives, "
        f"{torch.get_num_threads()} threads, "
        f"batches of {trainer.options.batches.global_batch(ranks.world)}"
    )
