"""Pictures as SVG, each with a table beside it for those who do not see it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

from ems_fast.reporting.colours import mark_class, shape
from ems_fast.reporting.history import Points

WIDTH, HEIGHT = 400, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 12, 30
_TABLE_ROWS = 12

Format = Callable[[float], str]


def number(value: float) -> str:
    """Short, with as many digits as say something."""
    if value and abs(value) < 0.001:
        return f"{value:.1e}"
    if abs(value) >= 1e6:
        return f"{value / 1e6:,.3g} M"
    if abs(value) >= 10_000:
        return f"{value / 1e3:,.0f} k" if abs(value) >= 100_000 else f"{value / 1e3:,.3g} k"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


@dataclass(frozen=True)
class Curve:
    """A line of a chart.

    Attributes:
        name: what it is called.
        points: x ascending.
        colour: number of its colour; None draws it pale, one of many.
        key: what a table's row calls it, to highlight each other.
    """

    name: str
    points: Points
    colour: int | None = 0
    key: str | None = None


@dataclass(frozen=True)
class Chart:
    """Curves over a common axis.

    Attributes:
        title: what is to be seen.
        curves: those without points are left out.
        x_label: of the axis.
        unit: of the values, such as ``%``.
        floor, ceiling: of the vertical axis; None: as the values need.
        marks: where on the axis something happened, and what.
    """

    title: str
    curves: Sequence[Curve]
    x_label: str
    unit: str = ""
    floor: float | None = None
    ceiling: float | None = None
    marks: Sequence[tuple[float, str]] = field(default=())

    def html(self, *, legend: bool = True, table: bool = True) -> str:
        """The figure; nothing if no curve has a point."""
        curves = [curve for curve in self.curves if curve.points]
        if not curves:
            return ""
        low, high, ticks = self._scale([y for curve in curves for _, y in curve.points])
        most = max(x for curve in curves for x, _ in curve.points) or 1.0
        wide, tall = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM

        def place(x: float, y: float) -> tuple[float, float]:
            return _LEFT + wide * x / most, _TOP + tall * (1 - (y - low) / (high - low))

        parts = []
        for tick in ticks:
            _, y = place(0, tick)
            parts.append(
                f"<line class='grid' x1='{_LEFT}' x2='{WIDTH - _RIGHT}' y1='{y:.1f}' y2='{y:.1f}'/>"
                f"<text x='{_LEFT - 7}' y='{y + 4:.1f}' text-anchor='end'>{number(tick)}</text>"
            )
        for tick in nice_ticks(0, most, 4):
            if tick <= most:
                x, _ = place(tick, 0)
                anchor = "start" if tick == 0 else "end" if x > WIDTH - 30 else "middle"
                parts.append(
                    f"<text x='{x:.1f}' y='{HEIGHT - 14}' text-anchor='{anchor}'>{number(tick)}"
                    "</text>"
                )
        parts.append(
            f"<text class='axis' x='{WIDTH - _RIGHT}' y='{HEIGHT - 2}' text-anchor='end'>"
            f"{escape(self.x_label)}</text>"
        )
        for x, words in self.marks:
            if 0 < x < most:
                at, _ = place(x, low)
                parts.append(
                    f"<line class='mark' x1='{at:.1f}' x2='{at:.1f}' y1='{_TOP}' "
                    f"y2='{HEIGHT - _BOTTOM}'><title>{escape(words)}</title></line>"
                )
        for curve in curves:
            corners = [place(*point) for point in curve.points]
            key = "" if curve.key is None else f" data-key='{escape(curve.key)}'"
            kind = "pale" if curve.colour is None else mark_class(curve.colour)
            common = f"class='curve {kind}' data-name='{escape(curve.name)}'{key}"
            if len(corners) == 1:
                (x, y), *_ = corners
                parts.append(f"<path {common} d='M{x:.1f} {y:.1f}h0'/>")
            else:
                line = "L".join(f"{x:.1f} {y:.1f}" for x, y in corners)
                parts.append(f"<path {common} d='M{line}'/>")
        scale = f"{_LEFT},{wide},{most:.8g},{_TOP},{tall},{low:.8g},{high:.8g}"
        label = f"{self.title}: " + "; ".join(
            f"{curve.name} from {number(curve.points[0][1])} to {number(curve.points[-1][1])}"
            f"{self.unit}"
            for curve in curves[:6]
        )
        return (
            f"<figure class='chart'><figcaption>{escape(self.title)}"
            f"{f' <small>{escape(self.unit)}</small>' if self.unit else ''}</figcaption>"
            f"{self._legend(curves) if legend else ''}"
            f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' role='img' tabindex='0' data-scale='{scale}' "
            f"data-unit='{escape(self.unit)}' data-x='{escape(self.x_label)}' "
            f"aria-label='{escape(label)}'>{''.join(parts)}"
            f"<line class='cross' y1='{_TOP}' y2='{HEIGHT - _BOTTOM}'/></svg>"
            f"<p class='readout' aria-live='polite'></p>"
            f"{self._table(curves) if table else ''}</figure>"
        )

    def _scale(self, values: Sequence[float]) -> tuple[float, float, list[float]]:
        low = min(values) if self.floor is None else self.floor
        high = max(values) if self.ceiling is None else self.ceiling
        if high <= low:
            low, high = low - abs(low) * 0.1 - 1e-9, high + abs(high) * 0.1 + 1e-9
        ticks = nice_ticks(low, high, 4)
        return min(low, ticks[0]), max(high, ticks[-1]), ticks

    @staticmethod
    def _legend(curves: Sequence[Curve]) -> str:
        if len(curves) < 2:
            return ""
        entries = "".join(
            f"<li class='{mark_class(curve.colour)}'>{escape(curve.name)}</li>"
            for curve in curves
            if curve.colour is not None
        )
        return f"<ul class='legend'>{entries}</ul>"

    def _table(self, curves: Sequence[Curve]) -> str:
        longest = max(curves, key=lambda curve: len(curve.points)).points
        step = max(1, math.ceil(len(longest) / _TABLE_ROWS))
        rows = []
        for x, _ in [*longest[:-1][::step], longest[-1]]:
            cells = [number(x), *(number(_at(curve.points, x)) for curve in curves)]
            rows.append(cells)
        return details("as a table", table([self.x_label, *(curve.name for curve in curves)], rows))


def _at(points: Points, x: float) -> float:
    """The value nearest to `x`."""
    return min(points, key=lambda point: abs(point[0] - x))[1]


def nice_ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers that span the interval from `low` to `high`."""
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [at * step for at in range(first, last + 1)]


def sparkline(points: Points, floor: float) -> str:
    """Percentages from `floor` to 100 over time, in the size of a word."""
    most = points[-1][0] or 1.0
    corners = [
        f"{2 + 76 * x / most:.1f} {20 - 18 * (y - floor) / (100 - floor):.1f}" for x, y in points
    ]
    line = "L".join(corners) if len(corners) > 1 else f"{corners[0]}h0"
    return f"<svg class='spark' viewBox='0 0 80 22' aria-hidden='true'><path d='M{line}'/></svg>"


def swatch(at: int) -> str:
    """The mark of language `at`, in its colour."""
    return (
        f"<svg class='swatch {mark_class(at)}' viewBox='-6 -6 12 12' aria-hidden='true'>"
        f"<path d='{shape(at)}'/></svg>"
    )


def table(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str = "", kind: str = ""
) -> str:
    """A table of text, the first column heading its rows; it scrolls by itself where it is wide."""
    head = "".join(f"<th scope='col'>{escape(cell)}</th>" for cell in header)
    body = "".join(
        f"<tr><th scope='row'>{escape(first)}</th>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in rest)
        + "</tr>"
        for first, *rest in rows
    )
    return scrolling(
        f"<table class='{kind}'>{f'<caption>{escape(caption)}</caption>' if caption else ''}"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>",
        caption or header[0] or "table",
    )


def scrolling(content: str, label: str) -> str:
    """Content that may be wider than the page, and is reached by keyboard."""
    return (
        f"<div class='scroll' tabindex='0' role='region' aria-label='{escape(label)}'>"
        f"{content}</div>"
    )


def details(summary: str, content: str) -> str:
    """Content that is shown when asked for; the summary is text."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"
