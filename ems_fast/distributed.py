"""The one place that knows about ranks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from ems_fast.errors import InputError


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together.

    Attributes:
        rank: 0 … world − 1.
        world: number of processes.
        device: where this process computes.
    """

    rank: int
    world: int
    device: torch.device

    @property
    def main(self) -> bool:
        """True in the one process that writes files and prints."""
        return self.rank == 0

    def share(self, values: list[float]) -> list[float]:
        """Rank 0's values, on every rank; how all ranks take one decision."""
        if self.world == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.broadcast(tensor, src=0)
        return [float(value) for value in tensor.tolist()]

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.world > 1:
            dist.barrier()


def resolve_device(device: str | torch.device | None) -> torch.device:
    """`device`, or the best one there is.

    Raises:
        InputError: the device does not exist here.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"device: got {device!r}, expected for example 'cpu' or 'cuda'") from error
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device: got {device!r}, but torch sees no CUDA device here; use 'cpu'")
    return resolved


def launched_ranks() -> tuple[int, int] | None:
    """(rank, world) that ``torchrun`` gave this process; None if it was not started by it."""
    if "RANK" not in os.environ:
        return None
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


@contextmanager
def process_group(device: str | torch.device | None) -> Iterator[Ranks]:
    """Join the processes that ``torchrun`` started, or stand alone if it did not.

    The group is gloo on CPU and nccl on GPUs; one that the caller made already is used as it is.
    """
    resolved = resolve_device(device)
    if "RANK" not in os.environ and not dist.is_initialized():
        yield Ranks(0, 1, resolved)
        return
    if resolved.type == "cuda":
        resolved = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(resolved)
    ours = not dist.is_initialized()
    if ours:
        dist.init_process_group("nccl" if resolved.type == "cuda" else "gloo")
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), resolved)
    finally:
        if ours:
            dist.destroy_process_group()


class _GatherRows(torch.autograd.Function):
    """All ranks' rows on every rank.

    Every rank then computes the same loss of the whole batch, so the gradient of its own rows is
    complete without communication; it is multiplied by the number of ranks because averaging the
    parameters' gradients over ranks divides by it.
    """

    @staticmethod
    def forward(ctx, rows: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        gathered = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(gathered, rows.contiguous())
        return torch.cat(gathered)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        world = dist.get_world_size()
        return gradient.chunk(world)[dist.get_rank()] * world


def gather_rows(rows: Tensor) -> Tensor:
    """Rows [B, …] of every rank, in the order of ranks [world · B, …], differentiable."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return rows
    gathered: Tensor = _GatherRows.apply(rows)  # type: ignore[no-untyped-call]
    return gathered
