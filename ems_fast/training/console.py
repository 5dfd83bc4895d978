"""What a person sees of a run: the bar, the scores, and TensorBoard's curves."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from ems_fast.training.trainer import Progress
    from ems_fast.training.validation import Scores


def tensorboard_writer(folder: Path) -> SummaryWriter | None:
    """A writer of TensorBoard events, or None where the package is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder))


class Bar:
    """The bar over a run: its share done, the latest loss and speed, and the time left."""

    def __init__(self, show: bool):
        self._tqdm = tqdm(
            total=100.0,
            disable=not show,
            file=sys.stderr,
            bar_format="{percentage:5.1f}%|{bar:24}| {elapsed}{desc}",
        )
        self._left = "?"
        self._metrics = ""

    def update(self, done: float, progress: Progress) -> None:
        """Move to `done`, a share of the run."""
        if self._tqdm.disable:
            return
        if done > 0:
            left = progress.seconds * (1 - min(done, 1.0)) / done
            self._left = tqdm.format_interval(left)
        self._tqdm.set_description_str(
            f", {self._left} left, {progress.pairs:,} pairs{self._metrics}", refresh=False
        )
        self._tqdm.update(min(100 * done, 100.0) - self._tqdm.n)

    def metrics(self, values: Mapping[str, Any]) -> None:
        """Show the latest loss and speed from now on."""
        self._metrics = (
            f", loss {values['loss']:.3f} (xtr {values['xtr']:.2f}, "
            f"contrastive {values['contrastive']:.2f}), {values['pairs_per_second']:,.0f} pairs/s"
        )

    def close(self) -> None:
        """Leave the bar as it is."""
        self._tqdm.close()


class Console:
    """Tells a person how a run goes; silent on all ranks but the first.

    Args:
        show: print and draw; TensorBoard is written either way.
        events: folder for TensorBoard's events, None for none.
    """

    def __init__(self, show: bool, events: Path | None):
        self._show = show
        self._bar = Bar(show=False)
        self._writer = tensorboard_writer(events) if events is not None else None

    @contextmanager
    def bar(self) -> Iterator[Bar]:
        """Draw the bar while the block runs."""
        self._bar = Bar(self._show)
        try:
            yield self._bar
        finally:
            self._bar.close()
            if self._writer is not None:
                self._writer.flush()

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        if self._show:
            tqdm.write(text, file=sys.stderr)

    def metrics(self, group: str, values: Mapping[str, Any]) -> None:
        """Show a line of the log."""
        self._bar.metrics(values)
        if self._writer is not None:
            for name, value in values.items():
                if name != "step":
                    self._writer.add_scalar(f"{group}/{name}", value, values["step"])

    def scores(self, progress: Progress, scores: Scores) -> None:
        """Show an evaluation."""
        self.say(f"step {progress.step:,}, {progress.pairs:,} pairs: {scores.summary()}")
        if self._writer is not None:
            for name, value in scores.averages().items():
                self._writer.add_scalar(f"evaluation/{name}", value, progress.step)
            self._writer.flush()
