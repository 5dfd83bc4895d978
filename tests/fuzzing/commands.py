"""Target: command lines."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import shutil
from pathlib import Path
from typing import Any

from support.synthetic import pairs, write_text

from ems_fast.cli import main
from ems_fast.cli.parser import build_parser
from ems_fast.corpus.prepare import prepare
from fuzzing.models import write_run
from fuzzing.mutation import NUMBERS
from fuzzing.target import Attempt, ChangedError, Target

# Asks a hub; takes minutes.
_LEFT_OUT = ("push", "demo")
# No NUL: there is none in the arguments of a process.
_INPUTS = (
    "in/a.txt", "in/b.txt", "in/text", "in/text/en-de.tsv", "in/corpus", "in/run", "in/binary",
    "in/empty", "in", "missing", "in/a.txt/x", "", ".", "-", "\udcff", "x" * 300, "hf:", "://",
    "http://", "a\nb",
)  # fmt: skip
_OUTPUTS = (
    "out/x",
    "out/x.npy",
    "out/x.tsv.zst",
    "out",
    "in",
    "no/x",
    "",
    ".",
    "out/\udcff",
    "y" * 300,
)
_WORDS = ("", "x", "en", "de", "en-de", "{stem}", "en-{stem}", "xx-yy", "\udcff", "%s", "{", "--")
# Large ones would be granted, and start so many processes.
_SMALL = {"--workers", "--devices", "--repeats", "--k", "--new-pieces"}


def _values(rng: random.Random, action: argparse.Action) -> str:
    if action.choices is not None and rng.random() < 0.9:
        return str(rng.choice(list(action.choices)))
    if action.type in (int, float):
        small = _SMALL & set(action.option_strings)
        numbers = (
            (0, 1, 2, -1) if small else (*NUMBERS, 1, 2, 0.5, "nan", "inf", "1e999", "9" * 5000)
        )
        return str(rng.choice(numbers))
    if action.dest in ("output", "json", "markdown"):
        return rng.choice(_OUTPUTS)
    if action.type is Path or action.dest in ("corpora", "model", "init", "replay", "tokenizer"):
        return rng.choice(_INPUTS)
    return rng.choice((*_WORDS, *_INPUTS[:6]))


def _many(rng: random.Random, action: argparse.Action) -> int:
    if isinstance(action.nargs, int):
        return action.nargs
    return {None: 1, "?": rng.randrange(2)}.get(action.nargs, rng.choice((1, 1, 2)))  # type: ignore[arg-type]


def _line(rng: random.Random, name: str, actions: list[argparse.Action]) -> list[str]:
    """A command with its arguments, some options, and now and then a word too many."""
    words = [name]
    for action in actions:
        if not action.option_strings:
            words += [_values(rng, action) for _ in range(_many(rng, action))]
    options = [a for a in actions if a.option_strings and a.dest != "help"]
    chosen = [a for a in options if a.required] + rng.sample(options, min(len(options), 2))
    for action in chosen:
        words.append(rng.choice(action.option_strings))
        if action.nargs != 0:
            words += [_values(rng, action) for _ in range(_many(rng, action))]
    if rng.random() < 0.1:
        words.insert(rng.randrange(len(words) + 1), rng.choice((*_WORDS, "--x", "-1", "--help")))
    if name in ("train", "extend"):
        words += ["--max-steps", "1", "--batch-pairs", "4", "--device", "cpu", "--model", "static"]
        if name == "extend":
            del words[-2:]
    return words


def _make(where: Path) -> Attempt:
    inputs = where / "in"
    text = write_text(inputs / "text", n=40)
    prepare(text, inputs / "corpus", vocab_size=400, valid_pairs=4, progress=False)
    write_run(inputs / "run", "phrases")
    lines = pairs("de", 8)
    (inputs / "a.txt").write_text("".join(f"{a}\n" for a, _ in lines))
    (inputs / "b.txt").write_text("".join(f"{b}\n" for _, b in lines))
    (inputs / "binary").write_bytes(bytes(range(256)))
    (inputs / "empty").touch()
    subparsers: Any = next(a for a in build_parser()._actions if a.choices and not a.option_strings)
    commands = {n: p._actions for n, p in subparsers.choices.items() if n not in _LEFT_OUT}
    content = _content(inputs)
    copy = where.with_name(f"{where.name}.copy")
    shutil.copytree(inputs, copy)
    os.chdir(where)

    def attempt(rng: random.Random) -> None:
        (where / "out").mkdir()
        name = rng.choice(list(commands))
        try:
            with (
                contextlib.redirect_stdout(io.StringIO()),
                contextlib.redirect_stderr(io.StringIO()),
            ):
                assert main(_line(rng, name, commands[name])) in (0, 2)
        except SystemExit as error:
            if error.code not in (0, 2):
                raise ValueError(f"exit code {error.code}") from error
        finally:
            for path in where.iterdir():
                if path != inputs:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            changed = _content(inputs) != content
            if changed:
                shutil.rmtree(inputs)
                shutil.copytree(copy, inputs)
        if changed:
            raise ChangedError("an input was written")

    return attempt


def _content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def targets() -> list[Target]:
    """One."""
    return [Target("command lines", _make, 0.5)]
