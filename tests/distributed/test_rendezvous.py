from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch.distributed as dist

from ems_fast.distributed.rendezvous import common_name
from ems_fast.errors import TrainingError

SOON = timedelta(seconds=20)


def test_every_start_has_a_name_of_its_own() -> None:
    """The store keeps what earlier starts wrote; whoever comes first, all agree on the new one."""
    store = dist.HashStore()
    names = []
    with ThreadPoolExecutor(3) as pool:
        for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2]):
            found = list(pool.map(lambda rank: common_name(store, rank, 3, SOON), order))
            assert len(set(found)) == 1
            names.append(found[0])
    assert len(set(names)) == 3


def test_a_start_that_some_did_not_live_to_see() -> None:
    store = dist.HashStore()
    with pytest.raises(Exception, match=r"(?i)timeout|timed out"):
        common_name(store, 0, 2, timedelta(seconds=0.05))  # rank 1 never came
    with pytest.raises(TrainingError, match="rank 0 of this run did not come"):
        common_name(store, 1, 2, timedelta(seconds=0.1))
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda rank: common_name(store, rank, 2, SOON), [1, 0])
    assert one == other
