"""How far a baseline's run has come, by the clock or by pairs, and its learning rate there."""

from __future__ import annotations

import math
import time
from typing import Literal

Shape = Literal["linear", "cosine"]


class Budget:
    """What a run may spend; the clock starts with `start`, after everything is set up.

    Args:
        minutes: of wall-clock time; None for any.
        pairs: seen; None for any.
    """

    def __init__(self, minutes: float | None, pairs: int | None):
        self._seconds = 60 * minutes if minutes is not None else math.inf
        self._pairs = pairs if pairs is not None else math.inf
        self._begun: float | None = None
        self._ended: float | None = None
        self.pairs = 0
        self.steps = 0

    def start(self) -> None:
        """Begin to count time."""
        self._begun = time.perf_counter()

    def step(self, pairs: int) -> None:
        """Count a step of so many pairs."""
        self.pairs += pairs
        self.steps += 1

    def stop(self) -> None:
        """Stop to count time."""
        self._ended = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Between `start` and `stop`, or until now."""
        if self._begun is None:
            return 0.0
        return (self._ended or time.perf_counter()) - self._begun

    @property
    def progress(self) -> float:
        """0 at the start, 1 or more at the end."""
        return max(self.seconds / self._seconds, self.pairs / self._pairs)


def learning_rate_factor(progress: float, warmup: float, shape: Shape) -> float:
    """Linear warm-up over a share of the run, then down to 0 at its end.

    Both are functions of the run's progress and not of its steps: how many of them fit into the
    minutes is not known before.
    """
    progress = min(progress, 1.0)
    if progress < warmup:
        return progress / warmup
    if shape == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    return (1.0 - progress) / (1.0 - warmup)
