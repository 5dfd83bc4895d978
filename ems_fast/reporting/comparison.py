"""The page on several runs: their curves together, and what tells them apart."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from html import escape
from typing import Any

from ems_fast.reporting.charts import Chart, Curve, number, scrolling, table
from ems_fast.reporting.colours import mark_class
from ems_fast.reporting.findings import Findings
from ems_fast.reporting.history import History, Points, label_pairs
from ems_fast.reporting.page import page
from ems_fast.reporting.sections import missing, section

# Sections of config.toml that say what a run was, before those that say how it went.
_ORDER = ("model", "data", "objective", "optimizer", "batches", "limits")
_EQUAL = 0.05  # percentage points, less than which is no difference to show


def comparison_page(histories: Sequence[History], measured: Sequence[Findings]) -> str:
    """The page.

    Args:
        histories: of the runs, the first of which the others are compared with.
        measured: what was found with each on the same sentences; none: each run's own evaluations
            are shown.
    """
    names = _names(histories)
    legend = "".join(
        f"<li class='{mark_class(at)}'>{escape(name)}</li>" for at, name in enumerate(names)
    )
    accuracies, note = _accuracies(histories, measured)
    found = [
        section("figures", "Figures", _figures(names, histories)),
        section("curves", "Curves", _curves(names, histories)),
        section("languages", "Languages", _languages(names, accuracies), note),
        section("settings", "What differs in their settings", _settings(names, histories)),
    ]
    links = {
        "figures": "Figures", "curves": "Curves", "languages": "Languages", "settings": "Settings",
    }  # fmt: skip
    header = f"<ul class='legend'>{legend}</ul>"
    return page(f"{len(names)} runs", header, links, found, kicker="comparison")


def _names(histories: Sequence[History]) -> list[str]:
    """Those of the folders, numbered where two are the same."""
    names = [history.name for history in histories]
    return [
        f"{name} ({names[: at + 1].count(name)})" if names.count(name) > 1 else name
        for at, name in enumerate(names)
    ]


def _figures(names: Sequence[str], histories: Sequence[History]) -> str:
    def last(history: History, name: str, form: Callable[[Any], str]) -> str:
        value = history.train[-1].get(name) if history.train else None
        return "–" if value is None else form(value)

    def speed(history: History) -> str:
        found = [line["pairs_per_second"] for line in history.train if "pairs_per_second" in line]
        return number(statistics.median(found)) if found else "–"

    def size(history: History) -> str:
        model = history.config.get("model", {})
        phrases = f", {model['phrases']:,} phrases" if model.get("phrases") else ""
        return (
            f"{model.get('layers', '?')} layers × {model.get('width', '?')}, vocabulary "
            f"{model.get('vocab_size', 0):,}{phrases}"
        )

    collections = list(
        dict.fromkeys(name for history in histories for name in (history.best or {}).get(
            "accuracy", {}))
    )  # fmt: skip
    rows = [
        [f"found, {name}, %", *(_best(history, name) for history in histories)]
        for name in collections
    ]
    rows += [
        ["loss at the end", *(last(h, "loss", number) for h in histories)],
        ["pairs seen", *(last(h, "pairs", number) for h in histories)],
        ["steps", *(last(h, "step", number) for h in histories)],
        ["minutes", *(last(h, "minutes", number) for h in histories)],
        ["pairs per second, median", *map(speed, histories)],
        ["model", *map(size, histories)],
        ["languages", *(str(len(h.config["model"].get("languages", ()))) for h in histories)],
        ["trained on", *(_machine(h) for h in histories)],
    ]
    return table(["", *names], rows, kind="compare")


def _best(history: History, collection: str) -> str:
    value = (history.best or {}).get("accuracy", {}).get(collection)
    return "–" if value is None else f"{100 * value:.1f}"


def _machine(history: History) -> str:
    if not history.sessions:
        return "not logged"
    line = history.sessions[-1]
    return f"{line.get('device', '?')} × {line.get('ranks', 1)}, {line.get('processor', '')}"


def _curves(names: Sequence[str], histories: Sequence[History]) -> str:
    def chart(
        title: str, curve: Callable[[History], Points], x: str, unit: str = "", **scale: Any
    ) -> str:
        drawn = [
            Curve(name, curve(history), at)
            for at, (name, history) in enumerate(zip(names, histories, strict=True))
        ]
        return Chart(title, drawn, x, unit, **scale).html()

    def accuracy(history: History) -> Points:
        return next(iter(history.averages("minutes").values()), [])

    lowest = min((y for history in histories for _, y in accuracy(history)), default=0.0)
    floor = 10.0 * max(0, (lowest - 1) // 10)
    parts = [
        chart("Translations found", accuracy, "minutes", "%", floor=floor, ceiling=100.0),
        chart("Loss", lambda h: h.curve("loss", "minutes"), "minutes"),
        chart("Loss", lambda h: h.curve("loss"), "pairs seen"),
    ]
    for name in ("xtr", "contrastive"):
        drawn = [history.curve(name) for history in histories]
        # Where it is the whole loss everywhere it has been drawn already.
        if all(any(y for _, y in points) for points in drawn) and any(
            points != history.curve("loss")
            for points, history in zip(drawn, histories, strict=True)
        ):
            parts.append(chart(f"Loss, {name}", partial(History.curve, name=name), "pairs seen"))
    parts.append(
        chart("Throughput", lambda h: h.curve("pairs_per_second", "minutes"), "minutes", "pairs/s",
              floor=0.0)
    )  # fmt: skip
    drawn_parts = "".join(parts)
    if not drawn_parts:
        return missing("none of the runs has logged a step yet")
    return f"<div class='charts'>{drawn_parts}</div>"


# -- languages -----------------------------------------------------------------------------------


def _accuracies(
    histories: Sequence[History], measured: Sequence[Findings]
) -> tuple[list[dict[str, float]], str]:
    """Percent by language of each run, and what they were measured on."""
    if measured:
        found = [
            {} if one.matrix is None else {k: 100 * v for k, v in one.matrix.means().items()}
            for one in measured
        ]
        return found, (
            f"Translations found among {measured[0].text_name} sentences, the same for all runs: "
            "the mean of each language with all others, both ways."
        )
    note = "Translations found at the best evaluation of each run."
    texts = {
        (h.config.get("data", {}).get("corpus"), h.config.get("data", {}).get("pairs"))
        for h in histories
    }
    if len(texts) > 1:
        note += (
            " The runs have different corpora, and so different held-out pairs: give evaluation "
            "sets to compare them on the same text."
        )
    return [_by_language(history) for history in histories], note


def _by_language(history: History) -> dict[str, float]:
    rows = (history.best or {}).get("rows", [])
    first = rows[0]["set"] if rows else None
    shown = [row for row in rows if row["set"] == first]
    labels = label_pairs([row["languages"] for row in shown])
    return {labels[row["languages"]]: 100 * row["accuracy"] for row in shown}


def _languages(names: Sequence[str], accuracies: Sequence[Mapping[str, float]]) -> str:
    base, *others = accuracies
    codes = list(dict.fromkeys(code for one in accuracies for code in one))
    if not codes:
        return missing("none of the runs has scores by language")

    # Where the runs differ most comes first.
    def spread(code: str) -> float:
        values = [one[code] for one in accuracies if code in one]
        return max(values) - min(values)

    head = "".join(f"<th scope='col'>{escape(name)}</th>" for name in names)
    rows = []
    for code in sorted(codes, key=lambda code: (-spread(code), code)):
        cells = [f"<td>{base[code]:.1f}</td>" if code in base else "<td>–</td>"]
        for other in others:
            if code not in other:
                cells.append("<td>–</td>")
            elif code not in base:
                cells.append(f"<td>{other[code]:.1f}</td>")
            else:
                cells.append(f"<td>{other[code]:.1f} {_difference(other[code] - base[code])}</td>")
        rows.append(
            f"<tr><th scope='row' data-lang='{escape(code)}'>{escape(code)}</th>"
            f"{''.join(cells)}</tr>"
        )
    return scrolling(
        f"<table class='compare'><caption>found, %; in signs, against {escape(names[0])}"
        f"</caption><thead><tr><th scope='col'>language</th>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>",
        "accuracy by language and run",
    )


def _difference(value: float) -> str:
    if abs(value) < _EQUAL:
        return "<span>=</span>"
    kind, sign = ("better", "+") if value > 0 else ("worse", "−")
    return f"<span class='{kind}'>{sign}{abs(value):.1f}</span>"


# -- settings ------------------------------------------------------------------------------------


def _settings(names: Sequence[str], histories: Sequence[History]) -> str:
    flat = [_flat(history.config) for history in histories]
    keys = dict.fromkeys(key for one in flat for key in one)
    ordered = sorted(keys, key=lambda key: _rank(key.partition(".")[0]))  # stable
    rows = [
        [key, *(one.get(key, "–") for one in flat)]
        for key in ordered
        if len({one.get(key) for one in flat}) > 1
    ]
    if not rows:
        return "<p>Nothing: their settings are the same.</p>"
    return table(["setting", *names], rows, kind="compare")


def _rank(group: str) -> int:
    return _ORDER.index(group) if group in _ORDER else len(_ORDER)


def _flat(config: Mapping[str, Any]) -> dict[str, str]:
    """Every setting by ``section.name``, as text."""
    found = {}
    for group, values in config.items():
        if not isinstance(values, dict):
            continue
        for name, value in values.items():
            if isinstance(value, dict):
                for inner, entry in value.items():
                    found[f"{group}.{name}.{inner}"] = str(entry)
            else:
                found[f"{group}.{name}"] = (
                    " ".join(map(str, value)) if isinstance(value, list) else str(value)
                )
    return found
