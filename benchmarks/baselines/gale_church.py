"""Sentence alignment by lengths alone (Gale and Church 1993), written plainly."""

from __future__ import annotations

import math
from collections.abc import Sequence

# -log of how often blocks of so many lines are (table 5), shared between both directions.
PRIORS = {
    (1, 1): -math.log(0.89), (1, 0): -math.log(0.00495), (0, 1): -math.log(0.00495),
    (2, 1): -math.log(0.0445), (1, 2): -math.log(0.0445), (2, 2): -math.log(0.011),
}  # fmt: skip
VARIANCE = 6.8
RADIUS = 100  # of the band about the diagonal


def gale_church(source: Sequence[str], target: Sequence[str]) -> set[tuple[int, int, int, int]]:
    """The blocks that have lines on both sides: (begin, end, begin, end).

    The characters of the target that one of the source makes are those of the documents.
    """
    n, m = len(source), len(target)
    lengths = [[len(line) for line in lines] for lines in (source, target)]
    ratio = sum(lengths[1]) / sum(lengths[0])
    best: list[dict[int, tuple[float, int, int]]] = [{} for _ in range(n + 1)]
    best[0][0] = (0.0, 0, 0)
    for i in range(n + 1):
        middle = i * m // n
        for j in range(max(0, middle - RADIUS), min(m, middle + RADIUS) + 1):
            for (a, b), prior in PRIORS.items():
                before = best[i - a].get(j - b) if a <= i else None
                if before is None:
                    continue
                own, other = sum(lengths[0][i - a : i]), sum(lengths[1][j - b : j])
                cost = before[0] + prior + _length_cost(own, other, ratio)
                if j not in best[i] or cost < best[i][j][0]:
                    best[i][j] = (cost, a, b)
    found = set()
    i, j = n, m
    while i or j:
        _, a, b = best[i][j]
        if a and b:
            found.add((i - a, i, j - b, j))
        i, j = i - a, j - b
    return found


def _length_cost(own: int, other: int, ratio: float) -> float:
    """-log of twice the chance of a difference in length at least as large."""
    mean = (own + other / ratio) / 2
    delta = (other - own * ratio) / math.sqrt(VARIANCE * max(mean, 1))
    tail = math.erfc(abs(delta) / math.sqrt(2))
    return -math.log(max(tail, 1e-300))
