"""``report.html``: a run at a glance, in one file without scripts or downloads."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from ems_fast.errors import InputError
from ems_fast.files.atomic import write_text
from ems_fast.runs.folder import RunFolder

WIDTH, HEIGHT = 640, 200
LEFT, BOTTOM = 52, 28
COLOURS = ("#2b6cb0", "#c05621", "#2f855a", "#805ad5")

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 46em; margin: 2em auto; padding: 0 1em;
       color: #1a202c; }
table { border-collapse: collapse; margin: 1em 0; }
td, th { padding: .15em .9em .15em 0; text-align: right; font-variant-numeric: tabular-nums; }
td:first-child, th:first-child { text-align: left; }
svg { display: block; margin: .5em 0 1.5em; } text { font-size: 11px; fill: #4a5568; }
.bar { background: #2b6cb0; height: .7em; display: inline-block; }
"""


def write_report(folder: RunFolder) -> None:
    """Write ``report.html`` from ``config.toml`` and ``metrics.jsonl``.

    Raises:
        InputError: the folder holds no run, or one that has not logged anything yet.
    """
    config = folder.read_config()
    lines = folder.read_metrics()
    train = [line for line in lines if line["event"] == "train"]
    scores = [line for line in lines if line["event"] == "evaluation"]
    if not lines:
        raise InputError(f"{folder.metrics}: has no line yet; train for longer")
    parts = [_facts(config, train)]
    if train:
        losses = {name: _curve(train, name) for name in ("loss", "xtr", "contrastive")}
        parts += ["<h2>Loss</h2>", chart(losses, "pairs seen")]
    if scores and scores[-1]["accuracy"]:
        accuracies = {
            name: [(s["step"], 100 * s["accuracy"][name]) for s in scores if name in s["accuracy"]]
            for name in scores[-1]["accuracy"]
        }
        parts += ["<h2>Retrieval accuracy, %</h2>", chart(accuracies, "steps")]
        parts.append(_scores_table(scores[-1]))
    if train:
        speed = {"pairs per second": _curve(train, "pairs_per_second")}
        parts += ["<h2>Speed</h2>", chart(speed, "pairs seen")]
    name = html.escape(folder.path.resolve().name)
    write_text(
        folder.report,
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{name}</title>"
        f"<style>{_STYLE}</style><h1>{name}</h1>{''.join(parts)}</html>\n",
    )


Points = list[tuple[float, float]]


def _curve(lines: Sequence[dict[str, Any]], name: str) -> Points:
    return [(line["pairs"], line[name]) for line in lines]


def chart(curves: dict[str, Points], x_label: str) -> str:
    """Curves as an SVG picture, their names beside it in the same colours."""
    points = [point for curve in curves.values() for point in curve]
    x_most = max(x for x, _ in points) or 1.0
    low, high = min(0.0, *(y for _, y in points)), max(y for _, y in points) or 1.0

    def place(x: float, y: float) -> str:
        px = LEFT + (WIDTH - LEFT) * x / x_most
        py = (HEIGHT - BOTTOM) * (1 - (y - low) / (high - low)) + 6
        return f"{px:.1f},{py:.1f}"

    drawn = []
    for i, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[i % len(COLOURS)]
        line = " ".join(place(x, y) for x, y in curve)
        drawn.append(
            f"<polyline points='{line}' fill='none' stroke='{colour}' stroke-width='1.6'/>"
        )
        drawn.append(
            f"<text x='{WIDTH + 10}' y='{18 + 16 * i}' style='fill:{colour}'>{html.escape(name)}"
            f" {curve[-1][1]:,.3g}</text>"
        )
    for share in (0.0, 0.5, 1.0):
        y = low + share * (high - low)
        py = place(0, y).split(",")[1]
        drawn.append(
            f"<line x1='{LEFT}' x2='{WIDTH}' y1='{py}' y2='{py}' stroke='#e2e8f0'/>"
            f"<text x='{LEFT - 6}' y='{float(py) + 4}' text-anchor='end'>{y:,.3g}</text>"
        )
    drawn.append(
        f"<text x='{WIDTH}' y='{HEIGHT}' text-anchor='end'>{x_most:,.0f} "
        f"{html.escape(x_label)}</text>"
    )
    return f"<svg width='{WIDTH + 170}' height='{HEIGHT + 6}'>{''.join(drawn)}</svg>"


def _facts(config: dict[str, Any], train: Sequence[dict[str, Any]]) -> str:
    model, data = config["model"], config["data"]
    facts = {
        "languages": " ".join(model["languages"]),
        "pairs in the corpus": f"{data['pairs']:,}",
        "model": f"{model['layers']} layers × {model['width']}, vocabulary {model['vocab_size']:,}",
    }
    if train:
        last = train[-1]
        facts["steps"] = f"{last['step']:,}"
        facts["pairs seen"] = f"{last['pairs']:,}"
        facts["minutes"] = f"{last['minutes']:.1f}"
    rows = "".join(
        f"<tr><td>{name}</td><td style='text-align:left'>{html.escape(value)}</td></tr>"
        for name, value in facts.items()
    )
    return f"<table>{rows}</table>"


def _scores_table(last: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(row['set'])}</td><td>{html.escape(row['languages'])}</td>"
        f"<td>{100 * row['accuracy']:.1f}</td><td style='text-align:left'>"
        f"<span class='bar' style='width:{1.5 * 100 * row['accuracy']:.0f}px'></span></td></tr>"
        for row in last["rows"]
    )
    return f"<table><tr><th>set</th><th>languages</th><th>%</th><th></th></tr>{rows}</table>"
