"""The one place that knows about ranks."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from ems_fast.distributed.rendezvous import fresh_store
from ems_fast.errors import InputError, TrainingError, check

RANK_TIMEOUT_MINUTES = 5.0
# While one rank prepares text or scores the model, the others may wait long.
_PATIENCE = timedelta(hours=24)
# torch reports a lost peer as a plain RuntimeError of the backend's words.
_LOST = ("gloo", "nccl", "connection closed", "connection reset", "timed out", "broken pipe")


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together.

    Attributes:
        rank: 0 … world − 1.
        world: number of processes.
        device: where this process computes.
        waiting: the group that `barrier` waits in; its timeout is long.
        deciding: the group that `agree` uses, whose members talk through the hosts; None: the
            default one, which does.
    """

    rank: int
    world: int
    device: torch.device
    waiting: dist.ProcessGroup | None = None
    deciding: dist.ProcessGroup | None = None

    @property
    def main(self) -> bool:
        """True in the one process that writes files and prints."""
        return self.rank == 0

    def largest(self, values: Tensor) -> Tensor:
        """The largest of all ranks' values, element by element, in place; no host waits for it."""
        if self.world > 1:
            dist.all_reduce(values, op=dist.ReduceOp.MAX)
        return values

    def agree(self, values: list[float]) -> list[float]:
        """The largest of all ranks' values, one by one; how all ranks take one decision.

        Hosts wait for each other, and none for its device, which goes on with what is queued.
        """
        if self.world == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX, group=self.deciding)
        return [float(value) for value in tensor.tolist()]

    def barrier(self) -> None:
        """Wait until every rank is here, however long one of them works."""
        if self.world > 1:
            dist.barrier(self.waiting)


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
    if resolved.type == "cuda":
        seen = torch.cuda.device_count()
        why = "" if seen else f" ({_why_none()})"
        wanted = f"'cpu' or one of the {seen} CUDA devices that torch sees here{why}"
        check((resolved.index or 0) < seen, "device", device, wanted)
    return resolved


def _why_none() -> str:
    """Why torch sees no GPU: no driver, one that is too old, or none to look for."""
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:  # the latter from a torch without CUDA
        return re.split(r"\.\s", str(error))[0]
    return "the driver shows none"


def launched_ranks() -> tuple[int, int] | None:
    """(rank, world) that ``torchrun`` gave this process; None if it was not started by it."""
    if "RANK" not in os.environ:
        return None
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


@contextmanager
def process_group(
    device: str | torch.device | None, *, timeout_minutes: float = RANK_TIMEOUT_MINUTES
) -> Iterator[Ranks]:
    """Join the processes that ``torchrun`` started, or stand alone if it did not.

    The group is gloo on CPU and nccl on GPUs; one that the caller made already is used as it is.
    A rank that keeps the others waiting for longer than `timeout_minutes` within a step is taken
    for lost. One whose process ends is noticed at once.

    Raises:
        InputError: `device` does not exist here, or `timeout_minutes` is not above 0.
        TrainingError: another rank was lost.
    """
    check(timeout_minutes > 0, "rank_timeout_minutes", timeout_minutes, "more than 0")
    resolved = resolve_device(device)
    if "RANK" not in os.environ and not dist.is_initialized():
        with _current(resolved):
            yield Ranks(0, 1, resolved)
        return
    if resolved.type == "cuda":
        resolved = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(resolved)
    ours = not dist.is_initialized()
    waiting = deciding = None
    try:
        timeout = timedelta(minutes=timeout_minutes)
        if ours:
            store, rank, world = fresh_store(timeout)
            backend = "nccl" if resolved.type == "cuda" else "gloo"
            dist.init_process_group(
                backend, store=store, rank=rank, world_size=world, timeout=timeout
            )
        waiting = dist.new_group(backend="gloo", timeout=_PATIENCE)
        if "gloo" not in dist.get_backend():
            deciding = dist.new_group(backend="gloo", timeout=timeout)
        yield Ranks(dist.get_rank(), dist.get_world_size(), resolved, waiting, deciding)
    except RuntimeError as error:
        if not _is_loss_of_a_rank(error):
            raise
        # The backend's first words, without the place in its source.
        words = re.sub(r"^\[[^\]]*\]\s*", "", str(error)).partition("\n")[0].split(". ")[0][:120]
        raise TrainingError(
            f"rank {os.environ.get('RANK', '?')}: another process of this run ended or is silent, "
            f"so this one stops too ({words}); see what the other says, then start all of them "
            "again with --resume: the last checkpoint is whole"
        ) from error
    finally:
        if ours and dist.is_initialized():
            dist.destroy_process_group()
        else:
            for group in (waiting, deciding):
                if group is not None:
                    dist.destroy_process_group(group)


def _current(device: torch.device) -> AbstractContextManager[object]:
    """Makes a GPU torch's current one, for the streams and events that name no device."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _is_loss_of_a_rank(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or (
        type(error) is RuntimeError and any(word in str(error).lower() for word in _LOST)
    )


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
