"""The page on what a run has learnt, and the one that compares runs."""

from ems_fast.reporting.api import report, write_report

__all__ = ["report", "write_report"]
