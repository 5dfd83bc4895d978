"""Tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(blocks: Sequence[Sequence[Sequence[str]]], labels: int = 1) -> str:
    """Blocks of rows in columns, a rule between two blocks.

    The cells of the first `labels` columns hold words and stand at the left, numbers at the right.
    """
    rows = [row for block in blocks for row in block]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = "<" * labels + ">" * (len(widths) - labels)
    form = "  ".join(f"{{:{side}{width}}}" for side, width in zip(sides, widths, strict=True))
    texts = [[form.format(*row).rstrip() for row in block] for block in blocks]
    rule = "-" * max(len(line) for text in texts for line in text)
    return f"\n{rule}\n".join("\n".join(text) for text in texts)
