"""A map of sentences: few enough to look at, translations together, languages alike in number."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ems_fast.reporting.meanings import Pool, shown
from ems_fast.reporting.projection import FloatArray, neighbours_kept, tsne

MOST_POINTS = 400
_FEWEST_MEANINGS = 25  # if there are as many: a map of three tells little
_LEAST, _PUSHES = 0.017, 30  # the distance of two marks, and steps towards it
_LOOKED_AT = 300  # meanings, those in the most languages


@dataclass(frozen=True)
class SentenceMap:
    """n sentences, each with a place.

    Attributes:
        x, y: places, from 0 to 1.
        meanings: sentences with the same number are translations.
        languages, texts: of each.
        of: the number of sentences that they were chosen from.
        near: the share of sentences whose nearest point on the map is a translation.
        near_vectors: the same by cosine, before the map lost what two dimensions cannot hold.
    """

    x: list[float]
    y: list[float]
    meanings: list[int]
    languages: list[str]
    texts: list[str]
    of: int
    near: float
    near_vectors: float


def draw_map(found: Sequence[Pool]) -> SentenceMap | None:
    """A map of the languages' sentences; None if no sentence has a translation."""
    by_meaning: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for number, pool in enumerate(found):
        for row, meaning in enumerate(pool.meanings.tolist()):
            by_meaning[meaning].append((number, row))
    groups = [group for group in by_meaning.values() if len(group) > 1]
    chosen = _choose(sorted(groups, key=lambda group: -len(group))[:_LOOKED_AT])
    points = [(number, row, at) for at, group in enumerate(chosen) for number, row in group]
    if not points:
        return None
    vectors = np.stack([found[number].vectors[row] for number, row, _ in points])
    meanings = np.array([at for *_, at in points])
    places = tsne(vectors)
    low, extent = places.min(axis=0), np.ptp(places, axis=0)
    places = apart((places - low) / np.where(extent > 0, extent, 1.0))
    return SentenceMap(
        x=places[:, 0].round(4).tolist(),
        y=places[:, 1].round(4).tolist(),
        meanings=meanings.tolist(),
        languages=[found[number].language for number, *_ in points],
        texts=[shown(found[number].texts[row]) for number, row, _ in points],
        of=sum(len(pool.texts) for pool in found),
        near=neighbours_kept(places, meanings),
        near_vectors=neighbours_kept(vectors, meanings),
    )


def apart(places: FloatArray) -> FloatArray:
    """Places [n, 2] in the unit square, moved as little as lets marks be told from each other."""
    places = places.copy()
    for _ in range(_PUSHES):
        offsets = places[:, None] - places  # (n, n, 2)
        distances = np.hypot(offsets[..., 0], offsets[..., 1])
        # Of marks in the same place, the order decides which goes where.
        same = (distances == 0) & ~np.eye(len(places), dtype=bool)
        offsets[..., 0] += same * np.sign(np.subtract.outer(*[np.arange(len(places))] * 2)) * 1e-6
        push = np.where(distances < _LEAST, (_LEAST - distances) / (distances + 1e-6), 0.0)
        places += 0.4 * (push[..., None] * offsets).sum(axis=1)
    clipped: FloatArray = places.clip(0, 1)
    return clipped


def _choose(groups: list[list[tuple[int, int]]]) -> list[list[tuple[int, int]]]:
    """Meanings of at most `MOST_POINTS` sentences, in turn the one whose languages lack points."""
    widest = MOST_POINTS // _FEWEST_MEANINGS
    points: Counter[int] = Counter()
    chosen: list[list[tuple[int, int]]] = []
    while groups:
        best = max(groups, key=lambda group: sum(1 / (1 + points[number]) for number, _ in group))
        groups.remove(best)
        rarest = sorted(best, key=lambda one: (points[one[0]], one[0]))[:widest]
        if sum(map(len, chosen)) + len(rarest) > MOST_POINTS:
            break
        chosen.append(sorted(rarest))  # the language with the most sentences first
        points.update(number for number, _ in rarest)
    return chosen
