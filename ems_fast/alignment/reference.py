"""`cheapest_path` written plainly: its definition, which the tests hold the compiled one to."""

from __future__ import annotations

import numpy as np

from ems_fast.alignment.band import Band, Path
from ems_fast.alignment.path import Side

# What is nearer than rounding can tell counts as this far: equal lines are aligned one by one.
LEAST_DISTANCE = 1e-5


def cheapest_path_reference(
    source: Side, target: Side, band: Band, skip: float
) -> tuple[Path, float]:
    """`cheapest_path`, a cell at a time in float64."""
    S, n, _ = source.vectors.shape
    m = len(target)
    total = np.full((n + 1, m + 1), np.inf)
    back = np.zeros((n + 1, m + 1, 2), dtype=np.int64)
    blocks = [(a, b) for a in range(1, S + 1) for b in range(1, S + 1)] + [(1, 0), (0, 1)]
    total[0, 0] = 0
    for i in range(n + 1):
        begin, width = band.begins[i], band.offsets[i + 1] - band.offsets[i]
        for j in range(begin, begin + width):
            for a, b in blocks:
                if a > i or b > j:
                    continue
                cost = total[i - a, j - b] + _cost(source, target, i - a, j - b, a, b, skip)
                if cost < total[i, j]:
                    total[i, j], back[i, j] = cost, (a, b)
    corners = [(n, m)]
    while corners[-1] != (0, 0):
        i, j = corners[-1]
        corners.append((i - int(back[i, j, 0]), j - int(back[i, j, 1])))
    ends = np.array(corners[::-1], dtype=np.int64).T
    return Path(ends[0], ends[1]), float(total[n, m])


def _cost(source: Side, target: Side, i: int, j: int, a: int, b: int, skip: float) -> float:
    """What the block of `a` source lines from i on and `b` target lines from j on costs."""
    if a == 0 or b == 0:
        return skip
    x = source.vectors[a - 1, i].astype(np.float64)
    y = target.vectors[b - 1, j].astype(np.float64)
    distance = (source.distances[a - 1, i] + target.distances[b - 1, j]) / 2
    length = abs(float(source.lengths[a - 1, i]) - float(target.lengths[b - 1, j]))
    return float(a * b * (max(1 - x @ y, LEAST_DISTANCE) / distance + length))
