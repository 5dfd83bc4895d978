"""Data sets of the library `datasets`, in memory, on disk or streaming."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ems_fast.corpus.readers.base import RawPair
from ems_fast.corpus.readers.records import Layout, check_text, find_layout, text_fields
from ems_fast.errors import EmsError, InputError
from ems_fast.text.languages import check_pair

_ROWS = 1024


@dataclass(frozen=True, eq=False)
class HuggingFace:
    """A `datasets.Dataset` or `datasets.IterableDataset` that you have opened.

    Nothing is downloaded but what the data set itself fetches while it streams. Two features are
    the text: those named in `columns`, those called by the languages, also inside another as in
    ``{"translation": {"en": …, "de": …}}``, usual names such as ``source`` and ``target``, or the
    only two. A pair's line is its row, counted from 1; null is no text.

    Args:
        dataset: one split.
        source_lang: language of the first text; without it, the features' names say it.
        target_lang: language of the second text.
        columns: the two features of text; ``translation.en`` is one inside another.
    """

    dataset: Any
    source_lang: str | None = None
    target_lang: str | None = None
    columns: Sequence[str] | None = field(default=None, kw_only=True)

    @property
    def name(self) -> str:
        """What the data set calls itself."""
        info = getattr(self.dataset, "info", None)
        called = getattr(info, "dataset_name", None) or type(self.dataset).__name__
        return f"datasets:{called}"

    def check(self) -> None:
        """Look at the first row: which features are the text, and in which languages."""
        _ = self._layout

    @cached_property
    def _layout(self) -> Layout:
        if isinstance(self.dataset, dict):
            raise InputError(
                f"{self.name}: holds splits ({', '.join(map(str, self.dataset))}), expected one of "
                "them, such as dataset['train']"
            )
        if not hasattr(self.dataset, "iter"):
            raise InputError(
                f"dataset: got a {type(self.dataset).__name__}, expected a Dataset or "
                "IterableDataset of the library datasets"
            )
        given = None
        if self.source_lang is not None or self.target_lang is not None:
            given = check_pair(self.source_lang or "", self.target_lang or "", self.name)
        first = next(iter(self._batches(1)), None)
        if first is None:
            raise InputError(f"{self.name}: has no rows")
        record = {name: values[0] for name, values in first.items()}
        return find_layout(self.name, text_fields(record), self.columns, given)

    def _batches(self, rows: int) -> Iterator[dict[str, list[Any]]]:
        count = 0
        try:
            for batch in self.dataset.iter(rows):
                yield batch
                count += len(next(iter(batch.values()), ()))
        except EmsError:
            raise
        except Exception as error:  # those of every file system and format that it reads
            raise InputError(
                f"{self.name}: failed after {count:,} rows ({' '.join(str(error).split())}); what "
                "was read is not the whole data set"
            ) from error

    def __iter__(self) -> Iterator[RawPair]:
        """The pairs in the order of the data set."""
        layout = self._layout
        source_lang, target_lang = layout.languages
        number = 0
        for batch in self._batches(_ROWS):
            sides = (_values(batch, name) for name in (layout.source, layout.target))
            for source, target in zip(*sides, strict=True):
                number += 1
                if not (isinstance(source, str) and isinstance(target, str)):
                    source = check_text(source, self.name, number, layout.source, "row")
                    target = check_text(target, self.name, number, layout.target, "row")
                yield RawPair(source, target, source_lang, target_lang, number)


def _values(batch: dict[str, list[Any]], name: str) -> list[Any]:
    """The values of a feature by its name, which may be a path into others."""
    if name in batch:
        return batch[name]
    outer, *inner = name.split(".")
    values = batch[outer]
    for part in inner:
        values = [None if value is None else value.get(part) for value in values]
    return values
