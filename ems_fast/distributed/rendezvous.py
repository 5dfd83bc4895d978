"""Where the processes of a run find each other, also when torchrun has started them again.

torchrun keeps one store over all its restarts, in which the addresses of processes that are gone
still lie. A restarted process that reads one of those tries to reach a peer that is no more. So the
processes of one start first agree on a name that no earlier start had, and keep to keys under it.
"""

from __future__ import annotations

import time
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING

import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from ems_fast.errors import TrainingError

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

_LOOK_SECONDS = 0.02


def fresh_store(timeout: timedelta) -> tuple[Store, int, int]:
    """A store that only the processes of this start use, this one's rank, and their number.

    Raises:
        TrainingError: the others do not come within `timeout`.
    """
    store, rank, world = next(rendezvous("env://", timeout=timeout))
    name = common_name(store, rank, world, timeout)
    return dist.PrefixStore(name, store), rank, world  # type: ignore[attr-defined]


def common_name(store: Store, rank: int, world: int, timeout: timedelta) -> str:
    """A new name on which all ranks agree, whatever earlier starts left in `store`.

    Rank 0 makes it up. Another rank may read an older one first; it has the right one when rank 0
    repeats under it the token that this rank has just made up.
    """
    token = uuid.uuid4().hex
    if rank == 0:
        store.set("ems_fast/name", token)
        for other in range(1, world):
            key = f"ems_fast/{token}/{other}"
            store.wait([key], timeout)
            store.set(f"{key}/seen", store.get(key).decode())
        return token
    deadline = time.monotonic() + timeout.total_seconds()
    while time.monotonic() < deadline:
        name: str = store.get("ems_fast/name").decode()
        key = f"ems_fast/{name}/{rank}"
        store.set(key, token)
        if store.check([f"{key}/seen"]) and store.get(f"{key}/seen").decode() == token:
            return name
        time.sleep(_LOOK_SECONDS)
    raise TrainingError(
        f"rank {rank}: rank 0 of this run did not come within {timeout}; see what it says"
    )
