"""Align the lines of a document with those of its translation."""

from ems_fast.alignment.align import Alignment, Block, align
from ems_fast.alignment.documents import AlignedFiles, align_files

__all__ = ["AlignedFiles", "Alignment", "Block", "align", "align_files"]
