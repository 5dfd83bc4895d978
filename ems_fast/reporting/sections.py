"""The sections of a report: each says what it has, or why it has nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ems_fast.corpus.report import REASONS
from ems_fast.reporting.charts import (
    Chart,
    Curve,
    details,
    number,
    scrolling,
    sparkline,
    swatch,
    table,
)
from ems_fast.reporting.colours import heat_class, mark_class, shape
from ems_fast.reporting.findings import Findings
from ems_fast.reporting.history import History, Points
from ems_fast.reporting.matrix import FEWEST, Matrix, Mistake
from ems_fast.reporting.sentence_map import SentenceMap
from ems_fast.reporting.text_facts import TextFacts

_LOSSES = {"loss": "total", "xtr": "XTR", "contrastive": "contrastive", "teacher": "teacher"}
_DENSE = 26  # languages, beyond which a matrix is drawn small
_MAP_WIDTH, _MAP_HEIGHT, _MARGIN = 640, 520, 16


def section(anchor: str, title: str, content: str, lead: str = "") -> str:
    """A part of the page with a heading; `content` is HTML, `title` and `lead` are text."""
    words = f"<p class='lead'>{escape(lead)}</p>" if lead else ""
    return (
        f"<section id='{anchor}' aria-labelledby='{anchor}-title'>"
        f"<h2 id='{anchor}-title'>{escape(title)}</h2>{words}{content}</section>"
    )


def missing(reason: str) -> str:
    """A paragraph on what is not there."""
    return f"<p class='missing'>Not shown: {escape(reason)}.</p>"


def tiles(facts: Sequence[tuple[str, str, str]]) -> str:
    """Large figures: value, what it is, and a word more."""
    return "<ul class='tiles'>{}</ul>".format(
        "".join(
            f"<li><strong>{escape(value)}</strong><span>{escape(name)}</span>"
            f"<small>{escape(more)}</small></li>"
            for value, name, more in facts
        )
    )


def definitions(facts: Mapping[str, str]) -> str:
    """Names and values, a line each."""
    return "<dl>{}</dl>".format(
        "".join(
            f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
            for name, value in facts.items()
        )
    )


# -- the run -------------------------------------------------------------------------------------


def overview(history: History, findings: Findings) -> str:
    """The figures that matter most, and a sentence on where the model is strong and weak."""
    facts = []
    best, last = history.best, history.last
    if best is not None:
        (name, value), *_ = best["accuracy"].items()
        facts.append((f"{100 * value:.1f} %", "translations found", f"of {name} sentences"))
    if last is not None:
        facts.append((number(last["pairs"]), "pairs seen", f"in {last['step']:,} steps"))
        minutes = last["minutes"]
        facts.append(
            (f"{minutes:.1f} min" if minutes < 90 else f"{minutes / 60:.1f} h", "trained", "")
        )
    languages = history.config.get("model", {}).get("languages", [])
    pairs = history.config.get("data", {}).get("pairs")
    facts.append(
        (str(len(languages)), "languages" if len(languages) != 1 else "language",
         f"{number(pairs)} pairs of text" if pairs is not None else "")
    )  # fmt: skip
    said = "".join(f"<p class='lead'>{escape(line)}</p>" for line in _in_words(findings.matrix))
    return tiles(facts) + said


def _in_words(matrix: Matrix | None) -> list[str]:
    if matrix is None:
        return []
    means = matrix.means()
    cells = sorted(matrix.cells())
    if len(means) < 3 or not cells:
        return []
    strong, weak = list(means)[:3], list(means)[-3:][::-1]
    low, source, target = cells[0]
    named = [f"{code} ({100 * means[code]:.0f} %)" for code in (*strong, *weak)]
    return [
        f"Between all languages, translations are found best for {', '.join(named[:3])} and worst "
        f"for {', '.join(named[len(strong) :])}. Farthest apart are {source} → {target}, where "
        f"{100 * low:.0f} % are found."
    ]


def curves(history: History) -> str:
    """Losses and throughput over the pairs seen."""
    if not history.train:
        return missing("the run has logged no step yet")
    marks = [
        (history.place(line, "pairs"), f"resumed {line.get('started', '')}")
        for line in history.sessions[1:]
    ]
    losses = [
        Curve(words, history.curve(name), colour)
        for colour, (name, words) in enumerate(_LOSSES.items())
    ]
    # One that is all of the total, or has no part in it, would hide or flatten it.
    parts = [curve for curve in losses[1:] if any(y for _, y in curve.points)]
    shown = [losses[0], *parts] if len(parts) > 1 else losses[:1]
    title = "Losses" if len(shown) > 1 else f"Loss ({parts[0].name})" if parts else "Loss"
    speed = [Curve("pairs per second", history.curve("pairs_per_second"), 2)]
    rate = [Curve("learning rate", history.curve("learning_rate"), 3)]
    norm = [Curve("gradient norm", history.curve("gradient_norm"), 4)]
    x = "pairs seen"
    charts = [
        Chart(title, shown, x, marks=marks),
        Chart("Throughput", speed, x, "pairs/s", floor=0.0, marks=marks),
        Chart("Learning rate", rate, x, floor=0.0, marks=marks),
        Chart("Gradient norm", norm, x, floor=0.0, marks=marks),
    ]
    drawn = "".join(chart.html() for chart in charts)
    resumed = f"<p>Dashed lines: the run was resumed {len(marks)} times.</p>" if marks else ""
    return f"<div class='charts'>{drawn}</div>{resumed}"


def languages(history: History, findings: Findings) -> str:
    """Accuracy of each language over time, and its last figures beside what it was trained on."""
    by_collection = history.by_language()
    if not by_collection:
        return missing("nothing was scored; the run had no held-out pairs, or ended too early")
    averages = history.averages()
    parts = []
    for name, found in by_collection.items():
        drawn = [Curve(code, points, None, code) for code, points in found.items()]
        drawn.append(Curve("mean", averages.get(name, []), 0))
        lowest = min(y for points in found.values() for _, y in points)
        floor = 10.0 * max(0, (lowest - 1) // 10)
        chart = Chart(
            f"Translations found, {name}", drawn, "pairs seen", "%",
            floor=floor, ceiling=100.0,
        )  # fmt: skip
        rows = _language_rows(found, floor, history, findings.text)
        parts.append(
            f"<div class='beside'>{chart.html(table=False)}"
            f"{scrolling(rows, f'accuracy by language, {name}')}</div>"
        )
    return "".join(parts)


def _language_rows(
    found: Mapping[str, Points], floor: float, history: History, text: TextFacts | None
) -> str:
    trained: dict[str, int] = defaultdict(int)
    for pair, count in history.config.get("data", {}).get("language_pairs", {}).items():
        for code in {*pair.split("-", 1), pair}:
            trained[code] += count
    lengths = text.lengths if text else {}
    rows = []
    for code, points in sorted(found.items(), key=lambda item: -item[1][-1][1]):
        last = points[-1][1]
        half, most = lengths.get(code, (None, None))
        rows.append(
            f"<tr data-key='{escape(code)}' tabindex='-1'>"
            f"<th scope='row' data-lang='{escape(code)}'>{escape(code)}</th>"
            f"<td class='bar' style='--v:{last:.1f}'>{last:.1f}</td>"
            f"<td>{sparkline(points, floor)}</td>"
            f"<td>{f'{trained[code]:,}' if trained[code] else '–'}</td>"
            f"<td>{'–' if half is None else f'{half} / {most}'}</td></tr>"
        )
    return (
        "<table class='languages'><thead><tr><th scope='col'>language</th>"
        "<th scope='col'>found, %</th><th scope='col'>over time</th>"
        "<th scope='col'>pairs of training</th>"
        "<th scope='col'><abbr title='tokens that half and 95 % of its sentences stay within'>"
        f"tokens</abbr></th></tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


# -- what was learnt -----------------------------------------------------------------------------


def matrix(found: Matrix) -> str:
    """The matrix as a table whose cells are coloured."""
    values = [value for value, *_ in found.cells()]
    if not values:
        return missing(f"no two languages have {FEWEST} translations of each other")
    low = min(0.9, int(10 * min(values)) / 10)
    head = "".join(f"<th scope='col'><span>{escape(code)}</span></th>" for code in found.languages)
    rows = []
    for code, shares, asked in zip(found.languages, found.accuracy, found.queries, strict=True):
        cells = []
        for other, share, number_asked in zip(found.languages, shares, asked, strict=True):
            if other == code:
                cells.append("<td class='same'></td>")
            elif share is None:
                cells.append(f"<td data-n='{number_asked}'>·</td>")
            else:
                step = heat_class((share - low) / (1 - low))
                cells.append(f"<td class='{step}' data-n='{number_asked}'>{100 * share:.0f}</td>")
        rows.append(f"<tr><th scope='row'>{escape(code)}</th>{''.join(cells)}</tr>")
    dense = " dense" if len(found.languages) > _DENSE else ""
    steps = "".join(f"<span class='h{step}'></span>" for step in range(11))
    drawn = (
        f"<table class='matrix{dense}' style='--n:{len(found.languages) + 1}'>"
        "<caption>from (row) to (column), %</caption>"
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )
    return (
        scrolling(drawn, "languages against languages")
        + f"<p class='readout' aria-live='polite'></p><p class='scale'>{100 * low:.0f} % "
        f"<span class='ramp' aria-hidden='true'>{steps}</span> 100 %</p>"
        f"<p>How often the nearest of up to {found.candidates} sentences of the column's language "
        "is a translation. Two languages are compared over the sentences that both translate; a "
        f"dot stands where these are fewer than {FEWEST}.</p>"
    )


def sentence_map(found: SentenceMap) -> str:
    """The map, its legend, and the sentences as a table."""
    codes = sorted(set(found.languages), key=lambda code: (-found.languages.count(code), code))
    numbers = {code: at for at, code in enumerate(codes)}
    places = [
        (_MARGIN + x * (_MAP_WIDTH - 2 * _MARGIN), _MARGIN + (1 - y) * (_MAP_HEIGHT - 2 * _MARGIN))
        for x, y in zip(found.x, found.y, strict=True)
    ]
    members: dict[int, list[int]] = defaultdict(list)
    for at, meaning in enumerate(found.meanings):
        members[meaning].append(at)
    joined: list[str] = []
    points: list[str] = []
    rows: list[str] = []
    for meaning, group in members.items():
        x = sum(places[at][0] for at in group) / len(group)
        y = sum(places[at][1] for at in group) / len(group)
        rays = "".join(f"M{x:.0f} {y:.0f}L{places[at][0]:.0f} {places[at][1]:.0f}" for at in group)
        joined.append(f"<path class='ray' data-m='{meaning}' d='{rays}'/>")
        for at in group:
            code, (px, py) = found.languages[at], places[at]
            mark = numbers[code]
            points.append(
                f"<g class='pt {mark_class(mark)}' transform='translate({px:.1f} {py:.1f})' "
                f"data-m='{meaning}' data-l='{mark}' tabindex='{-1 if points else 0}' role='img' "
                f"aria-label='{escape(code)}: {escape(found.texts[at])}'><path d='{shape(mark)}'/>"
                "</g>"
            )
        rows.append(
            "<li><ul>"
            + "".join(_sentence(found.languages[at], found.texts[at]) for at in group)
            + "</ul></li>"
        )
    legend = "".join(
        f"<button type='button' aria-pressed='false' data-l='{at}'>{swatch(at)}"
        f"<span data-lang='{escape(code)}'>{escape(code)}</span></button>"
        for code, at in numbers.items()
    )
    picture = (
        f"<svg class='map' viewBox='0 0 {_MAP_WIDTH} {_MAP_HEIGHT}' role='group' "
        "aria-label='Map of sentences. Arrow keys: left and right go through the translations of a "
        "sentence, up and down to the next sentence.'>"
        f"{''.join(joined)}{''.join(points)}</svg>"
    )
    return (
        f"<p>{len(found.texts)} of {found.of:,} sentences, t-SNE of their vectors. On the map "
        f"{100 * found.near:.0f} % of them lie next to a translation; among the vectors themselves "
        f"{100 * found.near_vectors:.0f} %. Distances between far groups mean little, and what "
        "lies away from its group is where to look.</p>"
        f"<div class='legend-buttons' role='group' aria-label='languages to highlight'>{legend}"
        f"</div><div class='map-and-text'>{picture}<div class='panel' aria-live='polite'>"
        "<p class='hint'>Point at a sentence, or move through them with the arrow keys.</p></div>"
        "</div>" + details("the sentences as a list", f"<ol class='meanings'>{''.join(rows)}</ol>")
    )


def _sentence(code: str, text: str) -> str:
    return f"<li><b>{escape(code)}</b> {_text(code, text)}</li>"


def _text(code: str, text: str) -> str:
    """A sentence that screen readers read in its language, and browsers in its direction."""
    return f"<span lang='{escape(code.replace('_', '-'))}' dir='auto'>{escape(text)}</span>"


def mistakes(found: Mapping[str, Sequence[Mistake]]) -> str:
    """The worst mistakes, by language, the weakest language first."""
    if not found:
        return "<p>None: of the sentences that were asked, each found its translation.</p>"
    parts = []
    for at, (code, wrong) in enumerate(reversed(list(found.items()))):
        rows = "".join(
            f"<tr><td data-label='asked'><b>{escape(one.source)}</b> "
            f"{_text(one.source, one.query)}</td>"
            f"<td data-label='taken instead'><b>{escape(one.target)}</b> "
            f"{_text(one.target, one.taken)} <i>{one.taken_cosine:.2f}</i></td>"
            f"<td data-label='its translation'><b>{escape(one.target)}</b> "
            f"{_text(one.target, one.right)} <i>{one.right_cosine:.2f}</i></td></tr>"
            for one in wrong
        )
        parts.append(
            f"<details{' open' if at < 2 else ''}><summary><span data-lang='{escape(code)}'>"
            f"{escape(code)}</span></summary><table class='mistakes'><thead><tr>"
            "<th scope='col'>asked</th><th scope='col'>taken instead</th>"
            f"<th scope='col'>its translation</th></tr></thead><tbody>{rows}</tbody></table>"
            "</details>"
        )
    return "".join(parts)


# -- text and machine ----------------------------------------------------------------------------


def text(facts: TextFacts) -> str:
    """What became of the pairs that were read, and how long sentences are."""
    reasons = [reason for reason in REASONS if facts.total["dropped"].get(reason)]
    read = max(1, facts.total["read"])
    kept = [
        ("read", facts.total["read"]), ("kept", facts.total["kept"]),
        ("held out", facts.total["held_out"]),
    ]  # fmt: skip
    kept += [(f"dropped: {r.replace('_', ' ')}", facts.total["dropped"][r]) for r in reasons]
    rows = [[name, f"{count:,}", f"{100 * count / read:.1f} %"] for name, count in kept]
    header = ["input", "read", "kept", "held out", *(r.replace("_", " ") for r in reasons)]
    inputs = [
        [entry["name"], *(f"{entry[key]:,}" for key in ("read", "kept", "held_out")),
         *(f"{entry['dropped'].get(reason, 0):,}" for reason in reasons)]
        for entry in facts.inputs
    ]  # fmt: skip
    more = f" (and {facts.other_inputs:,} more)" if facts.other_inputs else ""
    notes = "".join(f"<li>{escape(note)}</li>" for note in facts.notes)
    most = max((share for *_, share in facts.histogram), default=0.0) or 1.0
    bars = "".join(
        f"<tr><th scope='row'>{low}{'+' if high is None else f'–{high}'}</th>"
        f"<td class='bar' style='--v:{100 * share / most:.1f}'>{100 * share:.1f} %</td></tr>"
        for low, high, share in facts.histogram
    )
    return (
        "<div class='charts'>"
        + table(["pairs", "number", "of those read"], rows, caption="What became of the pairs")
        + "<table class='lengths'><caption>Tokens of a sentence, a sample</caption><tbody>"
        f"{bars}</tbody></table></div>"
        + details(f"by input file{more}", table(header, inputs))
        + (f"<ul>{notes}</ul>" if notes else "")
    )


def machine(history: History, findings: Findings) -> str:
    """The commands and machines of the run, its configuration, and the digests of its files."""
    parts = []
    for line in history.sessions:
        facts = {
            "began": f"{line.get('started', '')}, at step {line.get('step', 0):,}",
            "versions": ", ".join(f"{k} {v}" for k, v in line.get("versions", {}).items()),
            "processor": f"{line.get('processor', '')}, {line.get('threads', '?')} threads",
            "memory": f"{line['memory_gib']:.1f} GiB" if line.get("memory_gib") else "unknown",
            "trained on": f"{line.get('device', '')} × {line.get('ranks', 1)}, "
            f"{line.get('system', '')}",
        }
        parts.append(
            f"<pre tabindex='0'><code>{escape(str(line.get('command', '')))}</code></pre>"
            + definitions(facts)
        )
    if not parts:
        parts.append(missing("the run was made by a version that did not log command and machine"))
    if findings.digests:
        files = {name: f"SHA-256 {digest}" for name, digest in findings.digests.items()}
        parts.append(f"<div class='digests'>{definitions(files)}</div>")
    for name, values in history.config.items():
        if isinstance(values, dict):
            facts = {key: _plain(value) for key, value in values.items()}
            parts.append(details(f"[{name}]", definitions(facts)))
    return "".join(parts)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(entry)}" for key, entry in value.items())
    if isinstance(value, list):
        return " ".join(map(_plain, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def certificate(history: History) -> str:
    """What an extended model keeps of the one before; nothing for other runs."""
    if not history.certificates:
        return ""
    last = history.certificates[-1]
    rows = [
        [f"{row['set']} {row['languages']}", "old" if row["old"] else "new",
         *(f"{100 * row[name]:.1f}" for name in ("neighbours", "before", "after"))]
        for row in last["rows"]
    ]  # fmt: skip
    header = ["languages", "", "neighbours kept, %", "found before, %", "found after, %"]
    lead = f"Extended from {last['model']} with keep={last['keep']}."
    return section("kept", "What it keeps of the earlier model", table(header, rows), lead)
