"""The learning rate and the end of a run, as pure functions of how far it has come."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ems_fast.errors import check

Schedule = Literal["cosine", "linear", "constant"]
# The share of a run in which a constant learning rate ends.
CONSTANT_ENDS = 0.2


@dataclass(frozen=True)
class Limits:
    """When a run ends: at the first limit reached. Without any, after ten epochs.

    Attributes:
        max_steps: most optimiser steps.
        max_epochs: most passes over as many pairs as the corpus has.
        max_minutes: most minutes of wall-clock time in the training loop, validation included.
    """

    max_steps: int | None = None
    max_epochs: float | None = None
    max_minutes: float | None = None

    def __post_init__(self) -> None:
        for name in ("max_steps", "max_epochs", "max_minutes"):
            value = getattr(self, name)
            check(value is None or value > 0, name, value, "more than 0")

    def progress(self, step: int, epochs: float, minutes: float) -> float:
        """How far the run has come: 0 at its start, 1 or more at its end."""
        max_epochs = self.max_epochs
        if self.max_steps is None and max_epochs is None and self.max_minutes is None:
            max_epochs = 10.0
        return max(
            step / self.max_steps if self.max_steps else 0.0,
            epochs / max_epochs if max_epochs else 0.0,
            minutes / self.max_minutes if self.max_minutes else 0.0,
        )


def learning_rate_factor(
    step: int,
    progress: float,
    *,
    schedule: Schedule,
    warmup_steps: int | None,
    warmup_fraction: float,
) -> float:
    """Linear warm-up × a way down to 0, between 0 and 1, after `step` steps.

    The way down is a cosine (EMS, section 4.1), a line, or for ``constant`` a line over the last
    fifth alone: a run that stops before can be resumed with later limits as if it had had them.
    """
    if warmup_steps is not None:
        warmup = (step + 1) / max(warmup_steps, 1)
    else:
        warmup = progress / warmup_fraction if warmup_fraction else 1.0
    left = 1.0 - min(progress, 1.0)
    way_down = {
        "cosine": 0.5 * (1.0 - math.cos(math.pi * left)),
        "linear": left,
        "constant": min(1.0, left / CONSTANT_ENDS),
    }
    return min(1.0, warmup) * way_down[schedule]
