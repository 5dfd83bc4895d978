"""The command line: ``ems-fast <command>``."""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from types import SimpleNamespace, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import ems_fast
from ems_fast.cli import commands
from ems_fast.errors import EmsError
from ems_fast.model.config import DEFAULT_MODEL, PRESETS
from ems_fast.text.docstrings import described

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130
# What a deployment may do without, docs/deploy.md.
_DEPENDENCIES = ("torch", "tqdm", "zstandard", "tomli_w")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 if all went well, 2 after one sentence of what did not."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        options = vars(build_parser(given[0] if given else "").parse_args(given))
        run: Callable[..., None] = options.pop("run")
        run(**options)
    except EmsError as error:
        print(f"ems-fast: {error}", file=sys.stderr)
        return EXIT_ERROR
    except ModuleNotFoundError as error:
        if error.name not in _DEPENDENCIES:
            raise
        package = error.name.replace("_", "-")
        words = f"{given[0]} needs {package} here, which is not installed; pip install {package}"
        print(f"ems-fast: {words}", file=sys.stderr)
        return EXIT_ERROR
    except OSError as error:  # of a path that cannot be one, or a machine in trouble
        named = f"{error.filename}: " if error.filename is not None else ""
        print(f"ems-fast: {named}{error.strerror or error}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return 0


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """The parser of all commands; if one is named, only that one knows its options.

    Options are made from the functions that they are of, and most of these need torch.
    """
    parser = argparse.ArgumentParser(
        prog="ems-fast",
        description="Train multilingual sentence embeddings on your own parallel text.",
    )
    parser.add_argument("--version", action="version", version=f"ems-fast {ems_fast.__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="command")
    for name, add in _COMMANDS.items():
        run = getattr(commands, name)
        summary = (run.__doc__ or "").splitlines()[0]
        own = subparsers.add_parser(name, help=summary, description=summary)
        own.set_defaults(run=run)
        if command is None or command == name:
            add(own)
    return parser


def _add_options(
    parser: argparse.ArgumentParser,
    function: Callable[..., Any],
    *names: str,
    told_by: Callable[..., Any] | None = None,
) -> None:
    """Options for parameters of a public function: its types, choices, defaults and explanations.

    With `told_by`, the docstring of that function explains them.
    """
    # Modules that load without torch know its name only for type checkers.
    hints = get_type_hints(function, localns={"torch": SimpleNamespace(device=str)})
    parameters = inspect.signature(function).parameters
    meanings = described(told_by or function, "Args")
    for name in names:
        default, words = parameters[name].default, meanings.get(name, "")
        settings = {"action": "store_true"} if default is False else _settings(hints[name])
        parser.add_argument(_flag(name), default=default, help=_help(words, default), **settings)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _help(meaning: str, default: Any) -> str:
    words = meaning.replace("%", "%%")
    return (
        words
        if default is None or default is False or default == ()
        else f"{words} (default: {default})"
    )


def _settings(hint: Any) -> dict[str, Any]:
    """How argparse reads a value of a type; of a union, a path or else the first kind."""
    kinds = get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        return _settings(Path if Path in kinds else kinds[0])
    if get_origin(hint) in (Sequence, Collection, tuple):
        return {"nargs": "+", **_settings(kinds[0])}
    if get_origin(hint) is Literal:
        return {"choices": kinds, "type": type(kinds[0])}
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction}
    return {"type": hint, "metavar": {int: "N", float: "X"}.get(hint)}


def _add_files(parser: argparse.ArgumentParser, nargs: str) -> None:
    parser.add_argument(
        "corpora", nargs=nargs, metavar="FILE_OR_FOLDER",
        help="parallel text: TSV, CSV, JSON Lines, Parquet, TMX, XLIFF, gettext, Moses pairs (also "
             "in a .zip), folders of them, or URLs",
    )  # fmt: skip


def _add_corpora(parser: argparse.ArgumentParser, nargs: str) -> None:
    _add_files(parser, nargs)
    _add_options(parser, ems_fast.prepare, "languages", "tags", "valid_pairs")


def _add_output(parser: argparse.ArgumentParser, words: str) -> None:
    parser.add_argument("--output", required=True, type=Path, help=words)


def _add_quiet(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def _prepare(parser: argparse.ArgumentParser) -> None:
    _add_corpora(parser, "+")
    _add_output(parser, "folder of the prepared corpus")
    names = ("vocab_size", "tokenizer_type", "tokenizer", "max_tokens")
    _add_options(parser, ems_fast.prepare, *names)
    _add_quiet(parser)


def _train(parser: argparse.ArgumentParser) -> None:
    _add_corpora(parser, "*")
    parser.set_defaults(valid_pairs=None)  # a prepared corpus has held some out already
    _add_output(parser, "folder of the run")
    parser.add_argument(
        "--model", choices=list(PRESETS),
        help=f"preset of sizes (default: that of --init, else {DEFAULT_MODEL})",
    )  # fmt: skip
    resuming = parser.add_mutually_exclusive_group()
    resuming.add_argument("--resume", action="store_true", help="continue the run in --output")
    resuming.add_argument(
        "--auto-resume", action="store_true",
        help="continue the run in --output if there is one, else start it",
    )  # fmt: skip
    _add_options(
        parser, ems_fast.train, "init", "eval_sets", "trackers", "rank_timeout_minutes", "device"
    )
    _add_quiet(parser)
    _add_training(parser)


def _add_training(parser: argparse.ArgumentParser, without: Collection[str] = ()) -> None:
    """The options of training, those `without` left out."""
    from ems_fast.training.options import option_fields

    group = parser.add_argument_group(
        "options of training",
        "A default is that of models with layers; token tables bring their own.",
    )
    for name, option in option_fields().items():
        if name in without:
            continue
        # SUPPRESS leaves out what was not given, so that --resume keeps the run's own value.
        settings = {**_settings(option.kind), "default": argparse.SUPPRESS}
        group.add_argument(_flag(name), help=_help(option.meaning, option.default), **settings)


def _plan(parser: argparse.ArgumentParser) -> None:
    _add_files(parser, "+")
    parser.add_argument(
        "--model", choices=list(PRESETS), default=DEFAULT_MODEL,
        help=f"preset to plan for (default: {DEFAULT_MODEL})",
    )  # fmt: skip
    _add_options(parser, ems_fast.plan, "minutes", "probe_minutes", "device", "languages", "tags")
    parser.add_argument("--json", type=Path, help="also write it here")


def _extend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="folder of a run, or the name of a shipped model")
    _add_corpora(parser, "+")
    parser.set_defaults(valid_pairs=None)
    _add_output(parser, "folder of the new run")
    parser.add_argument("--replay", nargs="+", metavar="FILE_OR_FOLDER",
                        help=described(ems_fast.extend, "Args")["replay"])  # fmt: skip
    _add_options(parser, ems_fast.extend, "keep", "new_pieces", "new_phrases")
    _add_options(parser, ems_fast.train, "eval_sets", "trackers", "device")
    _add_quiet(parser)
    _add_training(parser, ("teacher_weight", "contrastive_weight", "xtr_weight"))


def _grow(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--texts", required=True, action="append", nargs=3, metavar=("LANGUAGES", "FILE", "FILE"),
        help="a language pair such as en-de, and a file of lines in each; give it for each pair",
    )  # fmt: skip
    _add_output(parser, "folder of the rounds and the best model; the same command goes on with it")
    meanings = described(ems_fast.grow, "Args")
    parser.add_argument("--model", help=meanings["model"])
    for name in ("pairs", "held_out"):
        parser.add_argument(_flag(name), nargs="+", metavar="FILE_OR_FOLDER", help=meanings[name])
    parser.add_argument("--preset", choices=list(PRESETS), help=meanings["preset"])
    names = ("rounds", "from_scratch", "threshold", "min_gain", "index", "held_out_pairs",
             "distractors", "device")  # fmt: skip
    _add_options(parser, ems_fast.grow, *names)
    _add_quiet(parser)
    _add_training(parser, ("teacher_weight", "teacher_loss"))


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        help="folder of a run, the name of a shipped model (default: that), or hf:org/name",
    )
    _add_options(parser, ems_fast.load, "device")


def _encode(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, help="text file, one sentence a line; .gz, .xz, .zst")
    # SUPPRESS: the one that is not given must not overwrite the other.
    parser.add_argument("output", nargs="?", type=Path, default=argparse.SUPPRESS,
                        help="array [sentences, D] in .npy format")  # fmt: skip
    parser.add_argument("--output", dest="output", type=Path, metavar="OUTPUT",
                        default=argparse.SUPPRESS, help="the same, as an option")  # fmt: skip
    _add_model(parser)
    _add_options(parser, ems_fast.load, "dtype")
    encode = ems_fast.SentenceEncoder.encode
    _add_options(parser, encode, "normalize", "precision", "dim")
    _add_options(parser, encode, "batch_tokens", "on_overlong")
    _add_options(parser, ems_fast.encode_file, "workers", "devices")
    _add_quiet(parser)


def _evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "eval_sets", type=Path, nargs="+", metavar="FOLDER",
        help="evaluation sets; their layouts are recognised: Tatoeba, FLORES, SIB-200, STS, ...",
    )  # fmt: skip
    _add_model(parser)
    parser.add_argument("--languages", nargs="+", metavar="CODE",
                        help="only these; default: those the model was trained on")  # fmt: skip
    parser.add_argument("--all-languages", action="store_true", help="every set in the folders")
    suite, classification = ems_fast.evaluate_folders, ems_fast.evaluate_classification
    _add_options(parser, suite, "tasks")
    _add_options(parser, suite, "k", "margin", "bitext", told_by=ems_fast.evaluate)
    names = ("source_language", "split", "seed", "repeats")
    _add_options(parser, suite, *names, told_by=classification)
    parser.add_argument("--json", type=Path, help="also write the results here")
    parser.add_argument("--markdown", type=Path, help="also write the tables here")
    _add_quiet(parser)


def _add_two_files(parser: argparse.ArgumentParser) -> None:
    for side in ("source", "target"):
        parser.add_argument(side, type=Path, help="one sentence a line; also .gz, .xz or .zst")
    parser.add_argument("output", type=Path, help="TSV file: source, target, score")
    _add_model(parser)


def _mine(parser: argparse.ArgumentParser) -> None:
    _add_two_files(parser)
    _add_options(parser, ems_fast.mine, "k", "margin", "threshold", "index", "precision", "dim")


def _score(parser: argparse.ArgumentParser) -> None:
    _add_two_files(parser)
    _add_options(parser, ems_fast.score_pairs, "k", "margin")


def _filter(parser: argparse.ArgumentParser) -> None:
    _add_files(parser, "+")
    _add_output(parser, "TSV file of the pairs that are kept, also .gz, .xz or .zst")
    _add_model(parser)
    names = ("languages", "min_score", "min_margin", "max_length", "identify", "near_duplicates",
             "top")  # fmt: skip
    _add_options(parser, ems_fast.filter_pairs, *names)
    _add_quiet(parser)


def _align(parser: argparse.ArgumentParser) -> None:
    for side in ("source", "target"):
        parser.add_argument(side, type=Path, help="one sentence a line, or a folder of such files")
    parser.add_argument("output", type=Path, help="what to write: a file, or a folder of them")
    _add_model(parser)
    _add_options(parser, ems_fast.align_files, "to", "languages", "min_score", "max_lines")


def _search(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, help="text file, one sentence a line; .gz, .xz, .zst")
    parser.add_argument("queries", nargs="+", metavar="QUERY", help="a sentence in any language")
    _add_options(parser, ems_fast.search, "k", "index", "precision", "dim")
    _add_model(parser)


def _export(parser: argparse.ArgumentParser) -> None:
    from ems_fast.exporting import Target

    parser.add_argument("model", type=Path, metavar="RUN", help="folder of a run")
    parser.add_argument("--to", required=True, choices=get_args(Target), help="form to write")
    _add_output(parser, "folder to write, new or empty")
    _add_options(parser, ems_fast.export, "bits", "with_onnx", "text", "licence")


def _push(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="RUN", help="folder of a run")
    parser.add_argument("repository", metavar="ORG/NAME", help="made if it is not there")
    _add_options(parser, ems_fast.push, "bits", "licence", "private", "endpoint")


def _report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run")
    _add_options(parser, ems_fast.report, "output", "eval_sets", "device")


def _doctor(parser: argparse.ArgumentParser) -> None:
    """It has no options."""


def _demo(parser: argparse.ArgumentParser) -> None:
    from ems_fast.demo.run import run

    _add_options(parser, run, "output", "packages", "minutes", "seed")


_COMMANDS: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "prepare": _prepare, "plan": _plan, "train": _train, "extend": _extend, "grow": _grow,
    "encode": _encode,
    "evaluate": _evaluate, "search": _search, "mine": _mine, "score": _score, "filter": _filter,
    "align": _align, "export": _export, "push": _push, "report": _report, "doctor": _doctor,
    "demo": _demo,
}  # fmt: skip
