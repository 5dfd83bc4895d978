"""What a run leaves: its folder and its model card."""

from ems_fast.runs.folder import RunFolder

__all__ = ["RunFolder"]
