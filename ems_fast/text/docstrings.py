"""Docstrings as the one place where options are explained."""

from __future__ import annotations

import inspect
import re


def described(documented: object, heading: str) -> dict[str, str]:
    """What a docstring says, under a heading such as ``Args``, of each name; without markup."""
    section = (inspect.getdoc(documented) or "").partition(f"{heading}:\n")[2]
    entries = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", section, re.MULTILINE)
    return {name: " ".join(words.replace("`", "").split()) for name, words in entries}
