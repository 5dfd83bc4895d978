"""How a run came about: what its log says, as curves."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ems_fast.reporting.matrix import pivot
from ems_fast.runs.folder import RunFolder, best_evaluation

Points = list[tuple[float, float]]
Axis = Literal["pairs", "minutes"]

MOST_POINTS = 200  # of a curve; of longer ones, neighbours are averaged


@dataclass(frozen=True)
class History:
    """A run's configuration and the lines of its log, by event; some may be missing.

    Attributes:
        name: of the folder.
        config: the sections of ``config.toml``.
        train, evaluations, sessions, certificates: lines of ``metrics.jsonl``.
    """

    name: str
    config: dict[str, Any]
    train: list[dict[str, Any]]
    evaluations: list[dict[str, Any]]
    sessions: list[dict[str, Any]]
    certificates: list[dict[str, Any]]

    @classmethod
    def of(cls, folder: RunFolder) -> History:
        """Read a run's.

        Raises:
            InputError: the folder holds no run.
        """
        config = folder.read_config()
        events: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for line in folder.read_metrics():
            events[line.get("event")].append(line)
        names = ("train", "evaluation", "session", "certificate")
        return cls(folder.path.resolve().name, config, *(events[name] for name in names))

    @property
    def best(self) -> dict[str, Any] | None:
        """The evaluation whose weights were kept, if there was one."""
        return best_evaluation(self.evaluations)

    @property
    def last(self) -> dict[str, Any] | None:
        """The last line that says how far the run has come; None before there is one."""
        lines = [
            one for one in (*self.train, *self.evaluations) if {"pairs", "minutes"} <= set(one)
        ]
        return max(lines, key=lambda line: int(line["step"]), default=None)

    def curve(self, name: str, axis: Axis = "pairs") -> Points:
        """A value of the training lines over `axis`; lines without a finite one are left out."""
        lines = [x for x in self.train if _finite(x.get(axis)) and _finite(x.get(name))]
        return thinned([(float(line[axis]), float(line[name])) for line in lines])

    def place(self, line: dict[str, Any], axis: Axis) -> float:
        """Where on `axis` a line lies, also of one that knows its step alone."""
        if _finite(line.get(axis)):
            return float(line[axis])
        known = [one for one in self.train if _finite(one.get("step")) and _finite(one.get(axis))]
        if not known:
            return 0.0
        steps = np.array([0.0, *(one["step"] for one in known)])
        return float(np.interp(line.get("step", 0), steps, [0.0, *(one[axis] for one in known)]))

    def averages(self, axis: Axis = "pairs") -> dict[str, Points]:
        """Accuracy in percent by collection, over `axis`."""
        found: dict[str, Points] = defaultdict(list)
        for line in self.evaluations:
            for name, value in line.get("accuracy", {}).items():
                if _finite(value):
                    found[name].append((self.place(line, axis), 100 * value))
        return dict(found)

    def by_language(self, axis: Axis = "pairs") -> dict[str, dict[str, Points]]:
        """Accuracy in percent by collection and language, over `axis`.

        Where every set has one language in common, such as English, the other stands for it.
        """
        found: dict[str, dict[str, Points]] = {}
        for collection, rows in self._rows().items():
            labels = label_pairs([languages for _, languages, _ in rows])
            curves: dict[str, Points] = defaultdict(list)
            for line, languages, value in rows:
                curves[labels[languages]].append((self.place(line, axis), 100 * value))
            found[collection] = dict(curves)
        return found

    def _rows(self) -> dict[str, list[tuple[dict[str, Any], str, float]]]:
        found: dict[str, list[tuple[dict[str, Any], str, float]]] = defaultdict(list)
        for line in self.evaluations:
            for row in line.get("rows", ()):
                if _finite(row.get("accuracy")):
                    found[row["set"]].append((line, row["languages"], float(row["accuracy"])))
        return found


def label_pairs(names: Sequence[str]) -> dict[str, str]:
    """Of names such as ``en-de``, what tells them apart: ``de``, if all have English."""
    pairs = {name: tuple(name.split("-", 1)) for name in dict.fromkeys(names)}
    links = [(pair[0], pair[-1]) for pair in pairs.values()]
    common = pivot(links)
    if common is None or not all(len(pair) == 2 for pair in pairs.values()):
        return {name: name for name in pairs}
    return {name: pair[1] if pair[0] == common else pair[0] for name, pair in pairs.items()}


def thinned(points: Points, most: int = MOST_POINTS) -> Points:
    """At most so many points: the means of as many stretches of neighbours."""
    if len(points) <= most:
        return points
    found = []
    for i in range(most):
        part = points[i * len(points) // most : (i + 1) * len(points) // most]
        found.append((sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)))
    return found


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
