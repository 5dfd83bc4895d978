"""What happens to a step whose loss or gradient is not a finite number.

It never reaches the weights: the optimiser is told on the device to leave them, by the flag that
mixed-precision scaling uses too, so no step waits for it. All ranks see the same flag and decide
alike. The host looks at once on a CPU, and one step later on a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ems_fast.corpus import BinaryCorpus
from ems_fast.distributed.ranks import Ranks
from ems_fast.errors import TrainingError, check
from ems_fast.runs.folder import RunFolder
from ems_fast.training.batch_file import save_batch
from ems_fast.training.batches.batch import Batch

OnNan = Literal["stop", "skip"]
# Batches that a run which skips keeps; a later one tells little that these do not.
MAX_SAVED = 10


@dataclass(frozen=True)
class NonfiniteConfig:
    """What to do with steps whose loss or gradient is NaN or infinite.

    Attributes:
        on_nan: after a NaN or infinite loss, ``stop`` the run or ``skip`` the step. The batch is
            saved for inspection.
        max_nan_steps: so many skipped steps in a row stop the run, too.
    """

    on_nan: OnNan = "stop"
    max_nan_steps: int = 5

    def __post_init__(self) -> None:
        check(self.max_nan_steps >= 1, "max_nan_steps", self.max_nan_steps, "at least 1")


@dataclass
class Skipped:
    """Steps that were skipped, in the whole run and since the last good one."""

    total: int = 0
    in_a_row: int = 0


class NonfiniteGuard:
    """Flags bad steps on the device, and saves, counts or reports them on the host."""

    def __init__(
        self,
        folder: RunFolder,
        corpus: BinaryCorpus,
        config: NonfiniteConfig,
        ranks: Ranks,
        say: Callable[[str], None],
    ):
        self.skipped = Skipped()
        self._folder, self._corpus, self._config = folder, corpus, config
        self._ranks, self._say = ranks, say
        self._pending: tuple[torch.cuda.Event, int, Batch, Tensor] | None = None

    def flag(self, total: Tensor, norm: Tensor) -> Tensor:
        """Float32 scalar on the device: 1 if the step is bad on any rank, else 0."""
        bad = ~(torch.isfinite(total.detach()) & torch.isfinite(norm))
        return self._ranks.largest(bad.float())

    def watch(self, step: int, batch: Batch, losses: Tensor) -> None:
        """Look at a step now or, on a GPU, when the next one is watched.

        Losses are (total, xtr, contrastive, gradient norm, flag) [5].

        Raises:
            TrainingError: it was bad and the run is to stop.
        """
        if losses.device.type == "cpu":
            self._look(step, batch, losses)
            return
        copied = losses.to("cpu", non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(losses.device))
        self.settle()
        self._pending = event, step, batch, copied

    def settle(self) -> None:
        """Look at what is still pending, as `watch` does, before anything of the run is written."""
        pending, self._pending = self._pending, None
        if pending is not None:
            event, step, batch, losses = pending
            event.synchronize()
            self._look(step, batch, losses)

    def _look(self, step: int, batch: Batch, losses: Tensor) -> None:
        total, _, _, norm, bad = losses.tolist()
        if not bad:
            self.skipped.in_a_row = 0
            return
        self.skipped.total += 1
        self.skipped.in_a_row += 1
        what = f"the loss became {total} and the gradient's norm {norm} by step {step}"
        stopping = self._config.on_nan == "stop"
        too_many = self.skipped.in_a_row >= self._config.max_nan_steps
        saved = ""
        if stopping or too_many or self.skipped.total <= MAX_SAVED:
            name = f"step{step}-rank{self._ranks.rank}.safetensors"
            path = self._folder.bad_batches / name
            save_batch(path, batch, self._corpus, what)
            saved = f"; its batch is in {path}, as text in {path.with_suffix('.txt').name}"
        if not stopping:
            if self._ranks.main:
                # JSON has no NaN.
                values = {"loss": str(total), "gradient_norm": str(norm)}
                self._folder.log("skipped", step=step, total=self.skipped.total, **values)
            self._say(f"Skipped: {what}{saved}")
        if stopping or too_many:
            row = "" if stopping else f", bad step {self.skipped.in_a_row} in a row"
            elsewhere = (
                " (this rank's loss is a number, so the cause is on another)"
                if math.isfinite(total) and self._ranks.world > 1
                else ""
            )
            raise TrainingError(
                f"{what}{row}{elsewhere}{saved}; the last checkpoint is from before: resume it "
                "with a lower learning_rate or precision='fp32'"
                + (", or with on_nan='skip'" if stopping else "")
            )


def require_finite_weights(model: torch.nn.Module, step: int) -> None:
    """Raise `TrainingError` rather than write weights that are no numbers.

    A step can have a finite gradient and still throw the weights out of the numbers' range.
    """
    finite = [torch.isfinite(parameter).all() for parameter in model.parameters()]
    if not bool(torch.stack(finite).all()):
        raise TrainingError(
            f"the weights are no longer numbers after step {step}; the last checkpoint is from "
            "before: resume it with a lower learning_rate"
        )
