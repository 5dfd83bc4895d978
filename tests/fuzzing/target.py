"""What is attacked: a target makes its examples once, and then tries one case after another."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ems_fast import EmsError
from fuzzing.mutation import mutate

Attempt = Callable[[random.Random], None]
Make = Callable[[Path], Attempt]


@dataclass(frozen=True)
class Target:
    """Something that reads.

    Attributes:
        make: in an empty folder, the examples; gives what tries one case, drawn by a generator.
        share: of the cases of a run, in relation to the other targets: what is fast gets more.
        allowed: the errors that are an answer.
    """

    name: str
    make: Make
    share: float = 1.0
    allowed: tuple[type[BaseException], ...] = (EmsError,)


class ChangedError(Exception):
    """A file that was only to be read is not what it was, or there is a new one."""


class Files:
    """Files of one folder: one of them damaged, the others as they were."""

    def __init__(self, folder: Path, content: Mapping[str, bytes]):
        self.folder = folder
        self.content = dict(content)
        self._damaged: dict[str, bytes] = {}
        for name in content:
            self._write(name, content[name])

    def _write(self, name: str, data: bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def put(self, name: str, data: bytes) -> None:
        """From now until `restore`, a file holds something else."""
        self._damaged[name] = data
        self._write(name, data)

    def damage(self, rng: random.Random, name: str) -> None:
        """`put` a mutation of the file, or now and then another file in its place."""
        others = list(self.content.values())
        if rng.random() < 0.03:
            self.put(name, rng.choice(others))
        else:
            self.put(name, mutate(rng, self.content[name], others))

    def restore(self) -> None:
        """Back to the examples; raises `ChangedError` if anybody else wrote here."""
        found = {str(p.relative_to(self.folder)) for p in self.folder.rglob("*") if p.is_file()}
        if found != set(self.content):
            for name in found - set(self.content):
                (self.folder / name).unlink()
            for name in set(self.content) - found:
                self._write(name, self.content[name])
            raise ChangedError(f"files {sorted(found ^ set(self.content))} came or went")
        damaged, self._damaged = self._damaged, {}
        for name, data in damaged.items():
            there = (self.folder / name).read_bytes()
            self._write(name, self.content[name])
            if there != data:
                raise ChangedError(f"{name} was written")
