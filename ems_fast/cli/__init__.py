"""The command line."""

from ems_fast.cli.parser import main

__all__ = ["main"]
