"""The systems that are compared: a module each, with one function, `train`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from ems_fast.corpus import BinaryCorpus
from ems_fast.encoding.protocol import Encodes
from study.config import Places, Row, System


@dataclass(frozen=True)
class Trained:
    """What a system made of a row.

    Attributes:
        encoder: to be scored.
        minutes: of training.
        pairs: seen.
        steps: of the optimiser.
        details: what else the JSON tells: the options that were in force, the last loss.
    """

    encoder: Encodes
    minutes: float
    pairs: int
    steps: int
    details: dict[str, Any] = field(default_factory=dict)


Train = Callable[[Row, BinaryCorpus, Places], Trained]
_MODULES: dict[System, str] = {
    "ems-fast": "ours",
    "sentence-transformers": "trainer_of_sentence_transformers",
    "recipe": "plain_recipe",
}


def system(name: System) -> Train:
    """The function that trains; what its module needs is imported now."""
    train: Train = import_module(f"study.systems.{_MODULES[name]}").train
    return train
