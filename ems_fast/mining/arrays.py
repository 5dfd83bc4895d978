"""The few operations in which the search on the CPU, in NumPy, and on a GPU, in torch, differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ems_fast.encoding.encoder import CPU
from ems_fast.ops.threads import num_threads

if TYPE_CHECKING:
    import torch

# Lines of scores that are worth a thread of their own.
LINES = 512
# A NumPy array or a torch tensor: of what both can do by the same name, the search makes use.
Array = Any


class Arrays:
    """Those of the CPU: products by NumPy's BLAS, all else in `num_threads` threads."""

    def of(self, array: npt.NDArray[Any]) -> Array:
        """The array where it is computed with; it may be the same memory."""
        return array

    def empty(self, size: int) -> Array:
        """Float32 [size] of any content."""
        return np.empty(size, np.float32)

    def arange(self, start: int, stop: int) -> Array:
        """Int64: start … stop − 1."""
        return np.arange(start, stop)

    def numpy(self, array: Array) -> npt.NDArray[Any]:
        """The array as one of NumPy's."""
        found: npt.NDArray[Any] = array
        return found

    def lengths(self, rows: Array) -> Array:
        """The Euclidean lengths of rows [b, D], float32 [b, 1]."""
        return np.sqrt(np.einsum("bd,bd->b", rows, rows))[:, None]

    def products(self, queries: Array, items: Array, out: Array) -> None:
        """Out [b, c] = queries [b, D] · items [c, D]ᵀ."""
        np.matmul(queries, items.T, out=out)

    def maxima(self, array: Array, axis: int) -> Array:
        """The largest along one axis, which is lost."""
        return array.max(axis)

    def largest(self, lines: Array, k: int) -> Array:
        """The places of the k largest of each line, int64 [lines, k], in any order."""
        rest = lines.shape[1] - k
        return np.argpartition(lines, rest, axis=1)[:, rest:]

    def take(self, lines: Array, places: Array) -> Array:
        """What stands at those places of each line."""
        return np.take_along_axis(lines, places, axis=1)

    def join(self, arrays: list[Array]) -> Array:
        """Lines behind lines: arrays [b, ·] as one."""
        return np.concatenate(arrays, axis=1)

    def each(self, lines: int, work: Callable[[slice], None]) -> None:
        """Do the work for all parts of so many lines."""
        threads = min(num_threads(), lines // LINES)
        if threads <= 1:
            work(slice(0, lines))
            return
        from concurrent.futures import ThreadPoolExecutor

        bounds = [lines * i // threads for i in range(threads + 1)]
        with ThreadPoolExecutor(threads) as pool:  # NumPy frees the interpreter's lock
            _finish(pool.map(work, map(slice, bounds, bounds[1:])))


class TorchArrays(Arrays):
    """Those of torch, on another device than the CPU."""

    def __init__(self, device: torch.device | str) -> None:
        import torch

        self._torch = torch
        self._device = torch.device(device)

    def of(self, array: npt.NDArray[Any]) -> Array:
        """Send the array there."""
        return self._torch.from_numpy(array).to(self._device)

    def empty(self, size: int) -> Array:
        """Float32 [size] there."""
        return self._torch.empty(size, device=self._device)

    def arange(self, start: int, stop: int) -> Array:
        """Int64 there."""
        return self._torch.arange(start, stop, device=self._device)

    def numpy(self, array: Array) -> npt.NDArray[Any]:
        """Fetch the array."""
        found: npt.NDArray[Any] = array.cpu().numpy()
        return found

    def lengths(self, rows: Array) -> Array:
        """Float32 [b, 1]."""
        return self._torch.linalg.vector_norm(rows, dim=1, keepdim=True)

    def products(self, queries: Array, items: Array, out: Array) -> None:
        """Into `out` [b, c]."""
        self._torch.mm(queries, items.T, out=out)

    def maxima(self, array: Array, axis: int) -> Array:
        """Without that axis."""
        return array.amax(axis)

    def largest(self, lines: Array, k: int) -> Array:
        """Int64 [lines, k]."""
        return lines.topk(k, dim=1, sorted=False).indices

    def take(self, lines: Array, places: Array) -> Array:
        """One for each place."""
        return lines.gather(1, places)

    def join(self, arrays: list[Array]) -> Array:
        """Along the lines."""
        return self._torch.cat(arrays, dim=1)

    def each(self, lines: int, work: Callable[[slice], None]) -> None:
        """All lines at once: the device has its own threads."""
        work(slice(0, lines))


def arrays_on(device: torch.device | str) -> Arrays:
    """What computes on a device: torch, which is needed for that, on all but the CPU."""
    return Arrays() if str(device) in CPU else TorchArrays(device)


def _finish(done: Iterable[None]) -> None:
    """Wait for all; the first error is raised."""
    for _ in done:
        pass
