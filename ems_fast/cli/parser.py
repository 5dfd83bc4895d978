"""The command line: ``ems-fast <command>``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import ems_fast
from ems_fast.cli import commands
from ems_fast.distributed.ranks import RANK_TIMEOUT_MINUTES
from ems_fast.encoding.encoder import Dtype, OnOverlong
from ems_fast.errors import EmsError
from ems_fast.evaluation import TASKS, Split
from ems_fast.exporting import Target
from ems_fast.mining.exact import INDEXES
from ems_fast.mining.margin import MARGINS
from ems_fast.model.config import DEFAULT_MODEL, PRESETS
from ems_fast.runs.card import UNKNOWN_LICENCE
from ems_fast.text.tokenizer_training import TokenizerType
from ems_fast.training.options import option_fields

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 if all went well, 2 after one sentence of what did not."""
    options = vars(build_parser().parse_args(arguments))
    run: Callable[..., None] = options.pop("run")
    try:
        run(**options)
    except EmsError as error:
        print(f"ems-fast: {error}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="ems-fast",
        description="Train multilingual sentence embeddings on your own parallel text.",
    )
    parser.add_argument("--version", action="version", version=f"ems-fast {ems_fast.__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="command")
    for add in (
        _prepare,
        _train,
        _encode,
        _evaluate,
        _mine,
        _score,
        _export,
        _report,
        _doctor,
        _demo,
    ):
        add(subparsers)
    return parser


def _command(subparsers: Any, name: str, run: Callable[..., None]) -> argparse.ArgumentParser:
    """A subcommand whose help is the first line of its function's docstring."""
    summary = (run.__doc__ or "").splitlines()[0]
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name, help=summary, description=summary,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )  # fmt: skip
    parser.set_defaults(run=run)
    return parser


def _add_corpora(parser: argparse.ArgumentParser, nargs: str) -> None:
    parser.add_argument(
        "corpora", nargs=nargs, metavar="FILE_OR_FOLDER",
        help="parallel text: TSV, TMX, gettext, Moses pairs, or folders of them",
    )  # fmt: skip
    parser.add_argument(
        "--languages", metavar="PATTERN",
        help="languages of TSV files that do not name theirs, such as 'en-{stem}'",
    )  # fmt: skip
    parser.add_argument(
        "--tags",
        nargs="+",
        metavar="TAG",
        help="keep only TSV lines whose last column is one of these",
    )
    parser.add_argument("--valid-pairs", type=int, metavar="N", default=argparse.SUPPRESS,
                        help="pairs of each language pair to hold out (default: 500)")  # fmt: skip


def _prepare(subparsers: Any) -> None:
    parser = _command(subparsers, "prepare", commands.prepare)
    _add_corpora(parser, "+")
    parser.add_argument("--output", required=True, type=Path, help="folder of the prepared corpus")
    parser.add_argument("--vocab-size", type=int, default=PRESETS[DEFAULT_MODEL].vocab_size,
                        help="pieces of the tokenizer")  # fmt: skip
    parser.add_argument("--tokenizer-type", choices=get_args(TokenizerType), default="unigram",
                        help="kind of tokenizer; bpe is trained faster")  # fmt: skip
    parser.add_argument("--tokenizer", type=Path, help="use this SentencePiece model")
    parser.add_argument("--max-tokens", type=int, default=PRESETS[DEFAULT_MODEL].max_tokens,
                        help="drop pairs with a longer sentence")  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def _train(subparsers: Any) -> None:
    parser = _command(subparsers, "train", commands.train)
    _add_corpora(parser, "*")
    parser.add_argument("--output", required=True, type=Path, help="folder of the run")
    parser.add_argument("--model", choices=list(PRESETS), default=DEFAULT_MODEL,
                        help=f"preset of sizes; default: {DEFAULT_MODEL}")  # fmt: skip
    parser.add_argument("--eval-sets", type=Path, help="folder of evaluation sets")
    resuming = parser.add_mutually_exclusive_group()
    resuming.add_argument("--resume", action="store_true", help="continue the run in --output")
    resuming.add_argument(
        "--auto-resume",
        action="store_true",
        help="continue the run in --output if there is one, else start it",
    )
    parser.add_argument("--rank-timeout-minutes", type=float, default=RANK_TIMEOUT_MINUTES,
                        help="a rank that is silent for longer within a step is lost")  # fmt: skip
    parser.add_argument("--device", help="cpu, cuda, …; default: a GPU if there is one")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    group = parser.add_argument_group(
        "options of training",
        "A default is that of models with layers; the preset static brings its own.",
    )
    for name, option in option_fields().items():
        # SUPPRESS leaves out what was not given, so that --resume keeps the run's own value.
        settings: dict[str, Any] = {"default": argparse.SUPPRESS}
        if option.kind is bool:
            settings["action"] = argparse.BooleanOptionalAction
        elif get_origin(option.kind) is Literal:
            settings["choices"] = get_args(option.kind)
        else:
            settings["type"] = option.kind
            settings["metavar"] = "N" if option.kind is int else "X"
        default = "" if option.default is None else f" (default: {option.default})"
        group.add_argument(f"--{name.replace('_', '-')}", help=option.meaning + default, **settings)


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, type=Path, help="folder of a run")
    parser.add_argument("--device", help="cpu, cuda, …; default: a GPU if there is one")


def _add_margin(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--k", type=int, default=4, help="neighbours that the margin considers")
    parser.add_argument("--margin", choices=MARGINS, default="ratio", help="how pairs are ranked")


def _encode(subparsers: Any) -> None:
    parser = _command(subparsers, "encode", commands.encode)
    parser.add_argument("source", type=Path, help="text file, one sentence a line; .gz, .xz, .zst")
    # SUPPRESS: the one that is not given must not overwrite the other.
    parser.add_argument("output", nargs="?", type=Path, default=argparse.SUPPRESS,
                        help="float32 array [sentences, D] in .npy format")  # fmt: skip
    parser.add_argument("--output", dest="output", type=Path, metavar="OUTPUT",
                        default=argparse.SUPPRESS, help="the same, as an option")  # fmt: skip
    _add_model(parser)
    parser.add_argument("--dtype", choices=get_args(Dtype), default="float32",
                        help="what to compute in; the vectors are float32")  # fmt: skip
    parser.add_argument("--normalize", action="store_true", help="scale vectors to length 1")
    parser.add_argument("--batch-tokens", type=int, default=4096, help="tokens of a batch")
    parser.add_argument("--on-overlong", choices=get_args(OnOverlong), default="truncate",
                        help="what to do with a line longer than the model reads")  # fmt: skip
    parser.add_argument("--workers", type=int, metavar="N",
                        help="processes; on a CPU they share the threads")  # fmt: skip
    parser.add_argument("--devices", nargs="+", metavar="DEVICE",
                        help="one process on each of these, such as cuda:0 cuda:1")  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def _evaluate(subparsers: Any) -> None:
    parser = _command(subparsers, "evaluate", commands.evaluate)
    parser.add_argument(
        "eval_sets", type=Path, nargs="+", metavar="FOLDER",
        help="evaluation sets; their layouts are recognised: Tatoeba, FLORES, SIB-200, STS, ...",
    )  # fmt: skip
    _add_model(parser)
    parser.add_argument("--languages", nargs="+", metavar="CODE",
                        help="only these; default: those the model was trained on")  # fmt: skip
    parser.add_argument("--all-languages", action="store_true", help="every set in the folders")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS, help="only these")
    _add_margin(parser)
    parser.add_argument("--bitext", action=argparse.BooleanOptionalAction, default=True,
                        help="also mine pairs hidden among distractors")  # fmt: skip
    parser.add_argument("--source-language", default="en", metavar="CODE",
                        help="train classifiers on it")  # fmt: skip
    parser.add_argument("--split", choices=get_args(Split), default="test",
                        help="for tasks other than retrieval; dev to choose models")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of the first classifier")
    parser.add_argument("--repeats", type=int, default=5, metavar="N",
                        help="classifiers with different seeds")  # fmt: skip
    parser.add_argument("--json", type=Path, help="also write the results here")
    parser.add_argument("--markdown", type=Path, help="also write the tables here")
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def _add_two_files(parser: argparse.ArgumentParser) -> None:
    for side in ("source", "target"):
        parser.add_argument(side, type=Path, help="one sentence a line; also .gz, .xz or .zst")
    parser.add_argument("output", type=Path, help="TSV file: source, target, score")
    _add_model(parser)
    _add_margin(parser)


def _mine(subparsers: Any) -> None:
    parser = _command(subparsers, "mine", commands.mine)
    _add_two_files(parser)
    parser.add_argument("--threshold", type=float, help="leave out pairs with a lower score")
    parser.add_argument("--index", choices=INDEXES, default="exact",
                        help="faiss (an extra) is for beyond a million lines")  # fmt: skip


def _score(subparsers: Any) -> None:
    _add_two_files(_command(subparsers, "score", commands.score))


def _export(subparsers: Any) -> None:
    parser = _command(subparsers, "export", commands.export)
    parser.add_argument("model", type=Path, metavar="RUN", help="folder of a run")
    parser.add_argument("--to", required=True, choices=get_args(Target), help="form to write")
    parser.add_argument("--output", required=True, type=Path, help="folder to write, new or empty")
    parser.add_argument("--int8", action="store_true", help="quantise an ONNX graph to 8 bits")
    parser.add_argument("--licence", default=UNKNOWN_LICENCE, help="of the model, for its card")


def _report(subparsers: Any) -> None:
    parser = _command(subparsers, "report", commands.report)
    parser.add_argument("run_folder", type=Path, help="folder of a run")


def _doctor(subparsers: Any) -> None:
    _command(subparsers, "doctor", commands.doctor)


def _demo(subparsers: Any) -> None:
    parser = _command(subparsers, "demo", commands.demo)
    parser.add_argument("--output", type=Path, default=Path("runs/demo"), help="folder of the run")
    parser.add_argument(
        "--packages", type=Path, help="folder of the packages whose translations are the text"
    )
    parser.add_argument("--minutes", type=float, default=2.0, help="minutes of training")
    parser.add_argument("--seed", type=int, default=0)
