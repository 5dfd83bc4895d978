"""A small classifier on frozen vectors: what can be read off them with little effort."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from tqdm import tqdm

# LASER's classifier for documents (its MLDoc recipe): two hidden layers, tanh, dropout before
# every layer, Adam.
HIDDEN = (10, 8)
DROPOUT = 0.2
LEARNING_RATE = 1e-3
BATCH = 12


@contextmanager
def _one_thread() -> Iterator[None]:
    """Products this small gain nothing from threads, and lose much where processors are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Probes:
    """R multilayer perceptrons of the same shape, one a seed, trained side by side.

    Side by side because one of them keeps no processor busy: five take little longer than one.
    Each draws from its own generator, so that what a seed gives does not depend on the others.

    Args:
        sizes: D, the widths of the hidden layers, and the number of classes.
        seeds: one for each of the R.
    """

    def __init__(self, sizes: Sequence[int], seeds: Sequence[int]):
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._sizes = tuple(sizes)
        self.parameters: list[Tensor] = []  # weight (R, in, out) and bias (R, 1, out) of each layer
        for wide, narrow in pairwise(sizes):
            bound = wide**-0.5
            for shape in ((wide, narrow), (1, narrow)):
                start = self._draw(*shape) * (2 * bound) - bound
                self.parameters.append(start.requires_grad_())

    def __call__(self, x: Tensor, masks: Sequence[Tensor] | None = None) -> Tensor:
        """Logits (R, b, classes) of x (R, b, D) or (b, D); `masks` scale each layer's input."""
        for layer in range(len(self._sizes) - 1):
            if layer:
                x = x.tanh()
            if masks is not None:
                x = x * masks[layer]
            weight, bias = self.parameters[2 * layer : 2 * layer + 2]
            x = x @ weight + bias
        return x

    @_one_thread()
    def fit(
        self,
        train: tuple[Tensor, Tensor],
        dev: tuple[Tensor, Tensor],
        epochs: int,
        *,
        progress: bool = False,
    ) -> npt.NDArray[np.float64]:
        """Train, and keep for each seed the parameters of its best epoch on `dev`.

        Of equally good epochs the last counts, as in LASER's code.

        Args:
            train: vectors float32 (n, D) and classes int64 (n,).
            dev: the same for the choice of the epoch.

        Returns:
            float64 (R,), accuracy on `dev`.
        """
        x, y = train
        optimizer = torch.optim.Adam(self.parameters, lr=LEARNING_RATE, fused=True)
        best = torch.full((len(self._generators),), -1.0, dtype=torch.float64)
        kept = [parameter.detach().clone() for parameter in self.parameters]
        for _ in tqdm(range(epochs), desc="classifier", unit="epoch", disable=not progress):
            order = torch.stack([torch.randperm(len(x), generator=g) for g in self._generators])
            masks = [
                (self._draw(len(x), size) >= DROPOUT) / (1 - DROPOUT) for size in self._sizes[:-1]
            ]
            for start in range(0, len(x), BATCH):
                rows = order[:, start : start + BATCH]
                logits = self(x[rows], [mask[:, start : start + BATCH] for mask in masks])
                # Summed over the seeds and averaged over the batch: each has its own gradient.
                loss = nn.functional.cross_entropy(
                    logits.flatten(0, 1), y[rows].flatten(), reduction="sum"
                ) / logits.shape[1]  # fmt: skip
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            accuracy = torch.from_numpy(self.accuracy(*dev))
            better = accuracy >= best
            best[better] = accuracy[better]
            for keep, parameter in zip(kept, self.parameters, strict=True):
                keep[better] = parameter.detach()[better]
        self.parameters = kept
        return best.numpy()

    def accuracy(self, x: Tensor, y: Tensor) -> npt.NDArray[np.float64]:
        """Share of vectors (n, D) whose class (n,) has the highest logit, float64 (R,)."""
        with torch.no_grad():
            right = self(x).argmax(dim=-1) == y
        return right.double().mean(dim=1).numpy()

    def _draw(self, *shape: int) -> Tensor:
        """Uniform numbers (R, *shape), each seed's from its own generator."""
        return torch.stack([torch.rand(shape, generator=g) for g in self._generators])
