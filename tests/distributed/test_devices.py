"""Which device is whose: what a GPU is asked for, and by whom, without one."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.distributed as dist

from ems_fast.distributed.ranks import Ranks, process_group, resolve_device
from ems_fast.errors import InputError
from ems_fast.training.options import OptimizerConfig


def test_a_second_gpu_is_the_current_one_while_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    current: list[torch.device] = []

    @contextmanager
    def device(which: torch.device):
        current.append(which)
        yield
        current.pop()

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "device", device)
    with process_group("cuda:1") as ranks:
        assert current == [ranks.device] == [torch.device("cuda:1")]
    assert current == []


def test_ranks_on_gpus_agree_through_their_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """No device is waited for: what they agree on never lies on one."""
    made: list[dict[str, Any]] = []
    asked: list[tuple[torch.device, Any]] = []

    def new_group(**options: Any) -> str:
        made.append(options)
        return f"group {len(made)}"

    def all_reduce(tensor: torch.Tensor, op: Any, group: Any = None) -> None:
        asked.append((tensor.device, group))

    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    for name, does in {
        "is_initialized": lambda: True, "get_backend": lambda: "nccl", "get_rank": lambda: 0,
        "get_world_size": lambda: 2, "new_group": new_group, "all_reduce": all_reduce,
        "destroy_process_group": made.append,
    }.items():  # fmt: skip
        monkeypatch.setattr(dist, name, does)
    with process_group("cuda", timeout_minutes=2) as ranks:
        assert ranks.agree([1.0, 2.0]) == [1.0, 2.0]
    assert asked == [(torch.device("cpu"), "group 2")]
    assert [options["backend"] for options in made[:2]] == ["gloo", "gloo"]
    assert made[1]["timeout"].total_seconds() == 120  # a silent rank is noticed as before
    assert made[2:] == ["group 1", "group 2"]


@pytest.mark.parametrize(
    ("raised", "why"),
    [
        (RuntimeError("The NVIDIA driver on your system is too old (found version 11040). Please "
                      "update"), r"The NVIDIA driver on your system is too old \(found .*11040\)"),
        (RuntimeError("Found no NVIDIA driver on your system."), "Found no NVIDIA driver"),
        (AssertionError("Torch not compiled with CUDA enabled"), "Torch not compiled with CUDA"),
    ],
)  # fmt: skip
def test_why_there_is_no_gpu(raised: Exception, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def init() -> None:
        raise raised

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "init", init)
    with pytest.raises(InputError, match=rf"device: got 'cuda', .* 0 CUDA devices .* \({why}"):
        resolve_device("cuda")


def test_alone_nobody_is_asked() -> None:
    assert Ranks(0, 1, torch.device("meta")).agree([3.0]) == [3.0]


def test_bfloat16_that_a_gpu_emulates_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda:1")
    monkeypatch.setattr(torch.cuda, "get_device_capability", {gpu: (7, 5)}.__getitem__)
    assert OptimizerConfig().autocast_dtype(gpu) is None
    monkeypatch.setattr(torch.cuda, "get_device_capability", {gpu: (8, 0)}.__getitem__)
    assert OptimizerConfig().autocast_dtype(gpu) == torch.bfloat16
