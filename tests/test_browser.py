"""What the tests of pages rest on: that problems are seen, and that nothing leaves the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.browser import WatchedPage, opened, served, width_beyond


def write_page(folder: Path, body: str) -> Path:
    path = folder / "index.html"
    icon = '<link rel="icon" href="data:,">'
    path.write_text(f'<!doctype html><meta charset="utf-8"><title>t</title>{icon}{body}')
    return path


def test_a_quiet_page_has_no_problems(watched: WatchedPage, tmp_path: Path) -> None:
    path = write_page(tmp_path, "<p>Σ</p><script src='a.js'></script>")
    (tmp_path / "a.js").write_text("document.title = 'ran'")
    watched.page.goto(path.as_uri())
    assert watched.page.title() == "ran"
    with served(tmp_path) as address:
        watched.page.goto(address)
        assert watched.page.title() == "ran"
    assert watched.problems == []


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("<script>console.error('alas')</script>", "console: alas"),
        ("<script>console.warn('mind')</script>", "console: mind"),
        ("<script>undefinedFunction()</script>", "exception: undefinedFunction is not defined"),
        ("<script src='missing.js'></script>", "console: Failed to load resource"),
        ("<img src='https://example.org/a.png'>", "network: https://example.org/a.png"),
        ("<script>fetch('http://10.0.0.1/').catch(() => 0)</script>", "network: http://10.0.0.1/"),
    ],
)
def test_problems_are_seen(watched: WatchedPage, tmp_path: Path, body: str, problem: str) -> None:
    watched.page.goto(write_page(tmp_path, body).as_uri(), wait_until="networkidle")
    assert any(found.startswith(problem) for found in watched.problems), watched.problems


def test_what_is_too_wide_is_told(browser: Any, tmp_path: Path) -> None:
    path = write_page(tmp_path, "<div style='width: 600px'>wide</div>")
    with opened(browser, viewport={"width": 390, "height": 800}) as phone:
        phone.page.goto(path.as_uri())
        assert width_beyond(phone.page) > 200
    with opened(browser, viewport={"width": 900, "height": 800}) as desktop:
        desktop.page.goto(path.as_uri())
        assert width_beyond(desktop.page) == 0
