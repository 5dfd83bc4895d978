"""Which instruction set the compiled kernels use: the best there is, unless a variable says."""

from __future__ import annotations

import os
from types import ModuleType

from ems_fast.errors import check

VARIABLE = "EMS_FAST_ISA"


def choose_isa(module: ModuleType) -> None:
    """Have a module of kernels use the instruction set that the variable ``EMS_FAST_ISA`` names.

    Without the variable, or with an empty one, it keeps the best that this processor has.

    Raises:
        InputError: there is none of that name, or this processor does not have it.
    """
    name = os.environ.get(VARIABLE, "")
    if name:
        available = module.available_isas()
        check(name in available, VARIABLE, name, f"what this processor has, {', '.join(available)}")
        module.set_active_isa(name)
