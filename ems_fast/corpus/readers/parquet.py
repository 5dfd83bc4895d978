"""Apache Parquet, with pyarrow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ems_fast.corpus.readers.base import RawPair
from ems_fast.corpus.readers.records import RecordReader
from ems_fast.errors import BackendError, EmsError, InputError
from ems_fast.files.streams import open_raw

_ROWS = 8192
# Columns are read through a buffer of this size; without one, a row group's column at once.
_BUFFER = 1 << 20


@dataclass(frozen=True)
class Parquet(RecordReader):
    """A .parquet file, read in blocks of rows; needs the extra ``parquet``.

    Two columns of strings are the text: those named in `columns`, those called by the languages
    (``en`` and ``de``, also inside a struct, as ``translation.en``), usual names such as ``source``
    and ``target``, or the only two. The languages come from the arguments, the columns' names or
    the file's name. A pair's line is its row, counted from 1; null is no text.

    Args:
        path: the file.
        source_lang: language of the first text.
        target_lang: language of the second text.
        columns: the names of the two columns of text; ``translation.en`` is one inside a struct.
    """

    def _fields(self) -> list[str]:
        with self._open() as file:
            if not file.metadata.num_rows:
                raise InputError(f"{self.path}: has no rows")
            return _strings(file.schema_arrow)

    @contextmanager
    def _open(self) -> Iterator[Any]:
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError as error:
            raise BackendError(
                f"{self.path}: reading Parquet needs pyarrow; pip install 'ems-fast[parquet]'"
            ) from error
        try:
            with open_raw(self.location, seekable=True) as raw:
                yield parquet.ParquetFile(raw, buffer_size=_BUFFER, pre_buffer=False)
        except EmsError:
            raise
        # Its own errors, names and texts that are not UTF-8, columns that are not there.
        except (pyarrow.ArrowException, OSError, ValueError, LookupError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{self.path}: is damaged or no Parquet ({reason})") from error

    def __iter__(self) -> Iterator[RawPair]:
        """The pairs in the order of the file."""
        layout = self._layout
        source_lang, target_lang = layout.languages
        columns = [layout.source, layout.target]
        number = 0
        with self._open() as file:
            for batch in file.iter_batches(batch_size=_ROWS, columns=columns):
                sides = (_column(batch, name).to_pylist() for name in columns)
                for source, target in zip(*sides, strict=True):
                    number += 1
                    yield RawPair(source or "", target or "", source_lang, target_lang, number)


def _strings(fields: Any, prefix: str = "") -> list[str]:
    """The names of the columns of strings, those inside of structs with their path."""
    from pyarrow import types

    names: list[str] = []
    for column in fields:
        kind = column.type.value_type if types.is_dictionary(column.type) else column.type
        if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
            names.append(prefix + column.name)
        elif types.is_struct(kind):
            inner = [kind.field(i) for i in range(kind.num_fields)]
            names += _strings(inner, f"{prefix}{column.name}.")
    return names


def _column(batch: Any, name: str) -> Any:
    """A column of a batch by its name, which may be a path into structs."""
    from pyarrow import compute

    if name in batch.schema.names:
        return batch.column(name)
    outer, *inner = name.split(".")
    return compute.struct_field(batch.column(outer), inner)
