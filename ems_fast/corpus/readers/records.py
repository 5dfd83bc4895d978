"""Which fields of a record are the two texts, for formats whose fields have names."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ems_fast.corpus.readers.base import FileReader
from ems_fast.errors import InputError
from ems_fast.text.languages import check_pair, is_known, pair_from_file_name, spell_code

# Names that a pair's fields have where they are not called by their languages.
_USUAL = (("source", "target"), ("src", "tgt"), ("src", "trg"), ("sentence1", "sentence2"))
# Objects inside of objects that are looked into.
_DEPTH = 16


@dataclass(frozen=True)
class Layout:
    """What the fields of a record are; ``translation.en`` is the field ``en`` in another."""

    source: str
    target: str
    languages: tuple[str, str]


def find_layout(
    name: str,
    fields: Sequence[str],
    columns: Sequence[str] | None,
    given: tuple[str, str] | None,
) -> Layout:
    """The layout of a source called `name`, from the names of its `fields` of text.

    The fields are those asked for by `columns`, those called by the two languages (the `given`
    ones, or all there are), those of usual names, or the only two. The languages are the given
    ones, the names of the fields, or in the file's name.

    Raises:
        InputError: it is not clear which fields, or which languages.
    """
    if columns is not None:
        if isinstance(columns, str) or len(columns) != 2 or len(set(columns)) != 2:
            raise InputError(f"{name}: columns must be two different fields, got {columns!r}")
        missing = [column for column in columns if column not in fields]
        if missing:
            raise InputError(
                f"{name}: has no field {missing[0]!r} of text; it has {_listed(fields)}"
            )
        chosen = tuple(columns)
    else:
        chosen = _choose(name, fields, given)
    by_field = [column.rpartition(".")[2] for column in chosen]
    if given is None and all(map(is_known, by_field)):
        given = spell_code(by_field[0]), spell_code(by_field[1])
    languages = given or pair_from_file_name(name.rpartition("/")[2])
    if languages is None:
        raise InputError(
            f"{name}: its languages are not known; name the file like 'en-de.jsonl' or its fields "
            f"'en' and 'de', or give source_lang='en' and target_lang='de'"
        )
    return Layout(chosen[0], chosen[1], check_pair(*languages, name))


def _choose(name: str, fields: Sequence[str], given: tuple[str, str] | None) -> tuple[str, ...]:
    codes = {spell_code(last): text for text in fields if is_known(last := text.rpartition(".")[2])}
    if given is None and len(codes) > 2:
        codes.pop("id", None)  # rather a record's number than Indonesian
    if given is not None and codes.keys() >= set(given):
        return codes[given[0]], codes[given[1]]
    if given is None and len(codes) == 2:
        return tuple(codes.values())
    for usual in _USUAL:
        if set(usual) <= set(fields):
            return usual
    if len(fields) == 2:
        return tuple(fields)
    raise InputError(
        f"{name}: it is not clear which two fields are the text; it has {_listed(fields)}; give "
        f"columns=, the names of two"
    )


def _listed(fields: Sequence[str]) -> str:
    return ", ".join(map(repr, fields)) or "none"


def text_fields(record: dict[str, object], depth: int = _DEPTH) -> list[str]:
    """The fields of a record that are or may be text, those inside of objects too."""
    names: list[str] = []
    for key, value in record.items():
        if isinstance(value, str) or value is None:
            names.append(key)
        elif isinstance(value, dict) and depth:
            names += [f"{key}.{inner}" for inner in text_fields(value, depth - 1)]
    return names


@dataclass(frozen=True)
class RecordReader(FileReader):
    """What readers of files of records have in common.

    Two of a record's fields are the text: those named in `columns`, those called by the languages
    (``en`` and ``de``, also inside another, as in ``{"translation": {"en": …, "de": …}}``), usual
    names such as ``source`` and ``target``, or the only two. The languages come from the
    arguments, the fields' names or the file's name. A null text is an empty one.
    """

    columns: Sequence[str] | None = field(default=None, kw_only=True)

    def _check_beginning(self) -> None:
        _ = self._layout

    @cached_property
    def _layout(self) -> Layout:
        return find_layout(self.name, self._fields(), self.columns, self._given)

    @abstractmethod
    def _fields(self) -> list[str]:
        """The names of the fields that may be text, from the beginning of the file."""


def check_text(value: object, name: str, number: int, column: str, unit: str = "line") -> str:
    """The text of a field; ``""`` for null, `InputError` for anything else."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    raise InputError(
        f"{name}, {unit} {number}: field {column!r} holds a {type(value).__name__}, expected text"
    )
