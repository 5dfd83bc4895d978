"""Align files, or folders of files that have the same names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from ems_fast.alignment.align import align
from ems_fast.alignment.tmx import write_tmx
from ems_fast.encoding.protocol import Encodes
from ems_fast.errors import InputError, check_one_of
from ems_fast.files.streams import check_file, read_lines
from ems_fast.mining.search import write_pairs
from ems_fast.text.languages import check_pair, parse_pair

Form = Literal["tsv", "tmx"]


@dataclass(frozen=True)
class AlignedFiles:
    """What `align_files` did.

    Attributes:
        documents: pairs of documents that were aligned.
        skipped: those of a folder whose output was there already.
        pairs: pairs of text that were written.
        unaligned: lines, of both sides, that have no translation.
    """

    documents: int
    skipped: int
    pairs: int
    unaligned: int


def align_files(
    encoder: Encodes,
    source: str | Path,
    target: str | Path,
    output: str | Path,
    *,
    to: Form = "tsv",
    languages: str | None = None,
    min_score: float | None = None,
    max_lines: int = 4,
) -> AlignedFiles:
    """Align two files, a line a sentence, or every file of a folder with its namesake in another.

    Of folders, `output` is a folder too, with ``NAME.tsv`` or ``NAME.tmx`` for each NAME. What is
    there already is left as it is, so that the same call goes on where an earlier one was stopped;
    give a new folder for another model or other options.

    Args:
        encoder: encodes both sides.
        source: a file of lines, also .gz, .xz or .zst, or a folder of them.
        target: the same of the other language.
        output: what to write.
        to: ``tsv``: lines of source, target, score; ``tmx``: a translation memory.
        languages: of source and target, such as ``en-de``; needed for ``tmx``.
        min_score: leave out blocks that score less.
        max_lines: lines of a side of a block, at most.

    Raises:
        InputError: a file is missing, empty, blank or no text, a file of one folder has no namesake
            in the other, languages are missing. Documents that were aligned before are kept.
    """
    check_one_of("to", to, get_args(Form))
    pair = _languages(to, languages)
    source, target, output = Path(source), Path(target), Path(output)
    todo, skipped = _documents(source, target, output, to)
    for *files, _ in todo:
        for file in files:
            check_file(file)
    if source.is_dir():
        _make_folder(output)
    written = unaligned = 0
    for source_file, target_file, result in todo:
        sides = [_lines(source_file), _lines(target_file)]
        aligned = align(encoder, *sides, max_lines=max_lines)
        unaligned += sum(not (block.source and block.target) for block in aligned.blocks)
        found = list(aligned.pairs(min_score))
        written += len(found)
        if pair is None:
            write_pairs(result, found)
        else:
            write_tmx(result, found, *pair)
    return AlignedFiles(len(todo), skipped, written, unaligned)


def _languages(to: str, languages: str | None) -> tuple[str, str] | None:
    if to == "tsv":
        if languages is not None:
            raise InputError(f"languages: got {languages!r}, but a TSV file names none; omit them")
        return None
    pair = None if languages is None else parse_pair(languages)
    if pair is None:
        raise InputError(
            f"languages: got {languages!r}, but TMX names them; expected both, such as 'en-de'"
        )
    return check_pair(*pair, "languages")


def _documents(
    source: Path, target: Path, output: Path, to: str
) -> tuple[list[tuple[Path, Path, Path]], int]:
    """Source, target and result of every pair of documents, and how many results are there."""
    if source.is_dir() != target.is_dir():
        folder, file = (source, target) if source.is_dir() else (target, source)
        raise InputError(f"{folder} is a folder, but {file} is not; give two files or two folders")
    if not source.is_dir():
        if output.is_dir():
            raise InputError(f"{output}: is a folder, expected the file to write")
        return [(source, target, output)], 0
    names = [
        {path.name for path in folder.iterdir() if path.is_file() and path.name[0] != "."}
        for folder in (source, target)
    ]
    for folder, alone in ((target, names[0] - names[1]), (source, names[1] - names[0])):
        if alone:
            raise InputError(
                f"{folder}: lacks {min(alone)!r}{_and_others(len(alone))}, which the other folder "
                "has; documents that belong together have the same name in both"
            )
    if not names[0]:
        raise InputError(f"{source}: holds no files, expected documents")
    every = [(source / n, target / n, output / f"{n}.{to}") for n in sorted(names[0])]
    todo = [document for document in every if not document[2].exists()]
    return todo, len(every) - len(todo)


def _and_others(count: int) -> str:
    return f" and {count - 1} other files" if count > 1 else ""


def _make_folder(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{output}: cannot be made ({error.strerror})") from error


def _lines(path: Path) -> list[str]:
    lines = [line for _, line in read_lines(path)]
    if not any(line.strip() for line in lines):
        raise InputError(f"{path}: all {len(lines)} lines are blank, expected a document")
    return lines
