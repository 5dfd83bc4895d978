"""What a person sees of a run: the bar and the scores."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

if TYPE_CHECKING:
    from ems_fast.training.trainer import Progress
    from ems_fast.training.validation import Scores


class Console:
    """Tells a person how a run goes, if it is to `show`."""

    def __init__(self, show: bool):
        self._show = show
        self._bar: tqdm[Any] | None = None
        self._metrics = ""

    @contextmanager
    def bar(self) -> Iterator[None]:
        """Draw a bar while the block runs: the share done, loss and speed, and the time left."""
        if self._show:
            form = "{percentage:5.1f}%|{bar:24}| {elapsed}{desc}"
            self._bar = tqdm(total=100.0, file=sys.stderr, bar_format=form)
        try:
            yield
        finally:
            if self._bar is not None:
                self._bar.close()

    def update(self, done: float, progress: Progress) -> None:
        """Move the bar to `done`, a share of the run."""
        if self._bar is None:
            return
        seconds = progress.seconds * (1 - min(done, 1.0)) / done if done > 0 else None
        left = "?" if seconds is None else tqdm.format_interval(seconds)
        described = f", {left} left, {progress.pairs:,} pairs{self._metrics}"
        self._bar.set_description_str(described, refresh=False)
        self._bar.update(min(100 * done, 100.0) - self._bar.n)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        if self._show:
            tqdm.write(text, file=sys.stderr)

    def metrics(self, values: Mapping[str, Any]) -> None:
        """Show a line of the log."""
        self._metrics = (
            f", loss {values['loss']:.3f} (xtr {values['xtr']:.2f}, "
            f"contrastive {values['contrastive']:.2f}), {values['pairs_per_second']:,.0f} pairs/s"
        )

    def scores(self, progress: Progress, scores: Scores) -> None:
        """Show an evaluation."""
        self.say(f"step {progress.step:,}, {progress.pairs:,} pairs: {scores.summary()}")
