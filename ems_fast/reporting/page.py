"""The page: one file that asks nothing of a network, and lets nothing run but its own script."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from html import escape
from pathlib import Path

from ems_fast.reporting import sections
from ems_fast.reporting.colours import rules
from ems_fast.reporting.findings import Findings
from ems_fast.reporting.history import History

_HERE = Path(__file__).parent


def run_page(history: History, findings: Findings) -> str:
    """The report of one run."""
    reason = findings.missing.get("sentences", "the report was written while the run went on")
    absent = sections.missing(reason)
    text = findings.text_name
    after = "" if findings.step is None else f", weights of step {findings.step:,}"
    found = [
        sections.section("languages", "Languages", sections.languages(history, findings),
                         "How often the nearest sentence is the translation, both ways. A pale "
                         "line is a language: point at its row."),
        sections.section("matrix", "Languages against languages",
                         absent if findings.matrix is None else sections.matrix(findings.matrix),
                         f"On {text} sentences{after}." if text else ""),
        sections.section("map", "Map of sentences",
                         absent if findings.map is None else sections.sentence_map(findings.map),
                         "A mark is a sentence, its colour and shape the language; rays join "
                         "translations."),
        sections.section("mistakes", "Worst mistakes",
                         absent if findings.matrix is None
                         else sections.mistakes(findings.mistakes),
                         "Sentences that found another before their translation, by how much "
                         "nearer it was; with cosines. The weakest languages first."),
        sections.certificate(history),
        sections.section("training", "Training", sections.curves(history)),
        sections.section("text", "Text",
                         sections.text(findings.text) if findings.text
                         else sections.missing(findings.missing.get("text", reason))),
        sections.section("machine", "Command and machine", sections.machine(history, findings)),
    ]  # fmt: skip
    links = {
        "languages": "Languages", "matrix": "Matrix", "map": "Map", "mistakes": "Mistakes",
        "training": "Training", "text": "Text", "machine": "Machine",
    }  # fmt: skip
    header = sections.overview(history, findings)
    return page(history.name, header, links, found)


def page(
    title: str, header: str, links: dict[str, str], found: Sequence[str], kicker: str = "run report"
) -> str:
    """A page of sections; `header` and `found` are HTML."""
    style, script = _style(), _script()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    name = escape(title)
    nav = "".join(f"<a href='#{anchor}'>{escape(words)}</a>" for anchor, words in links.items())
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        "<meta name='color-scheme' content='light dark'>"
        f"<title>{name} · ems-fast</title><style>{style}</style></head><body>"
        f"<header><p class='kicker'>ems-fast · {escape(kicker)}</p><h1>{name}</h1>{header}</header>"
        f"<nav aria-label='sections'>{nav}</nav><main>{''.join(found)}</main>"
        f"<script>{script}</script></body></html>\n"
    )


@cache
def _style() -> str:
    sheet = (_HERE / "report.css").read_text(encoding="utf-8")
    return f"{sheet}{rules('light')}@media(prefers-color-scheme:dark){{{rules('dark')}}}"


@cache
def _script() -> str:
    return (_HERE / "report.js").read_text(encoding="utf-8")
