"""Hostile input for everything that reads: files, command lines, arrays (docs/reliability.md).

A case is drawn by a generator that is seeded with the target's name and the case's number, so that
both name it for good. Allowed outcomes are a result and an error of ours.
"""

from __future__ import annotations

from fuzzing.target import Target


def all_targets() -> list[Target]:
    """Everything that is attacked."""
    from fuzzing import arrays, commands, models, readers

    return [*readers.targets(), *models.targets(), *arrays.targets(), *commands.targets()]
