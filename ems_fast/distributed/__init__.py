"""The processes that train together."""

from ems_fast.distributed.ranks import Ranks, process_group, resolve_device

__all__ = ["Ranks", "process_group", "resolve_device"]
