"""Names within Markdown."""

from __future__ import annotations

import html
import re

_SPECIAL = re.compile(r"[\\`*~\[\]|]|(?<!\w)_|_(?!\w)")  # an underscore within a word is a letter


def plain_markdown(text: object) -> str:
    """A name on one line, without any meaning to Markdown or HTML."""
    return _SPECIAL.sub(r"\\\g<0>", " ".join(html.escape(str(text), quote=False).split()))
