"""Parallel text without its noise: no translations, other languages, what is there already."""

from ems_fast.filtering.api import filter_pairs
from ems_fast.filtering.report import FilterReport

__all__ = ["FilterReport", "filter_pairs"]
