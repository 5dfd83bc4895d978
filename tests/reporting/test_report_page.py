"""The report in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.browser import WatchedPage, opened, width_beyond
from test_report import BAD, findings, history

import ems_fast
from ems_fast.reporting.page import run_page

DESKTOP, PHONE = {"width": 1200, "height": 900}, {"width": 360, "height": 740}

# Of every element with text of its own: the contrast to what is behind it, where that is plain.
_CONTRASTS = """
() => {
  const parse = (c) => (c.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const lum = (c) => {
    const [r, g, b] = c.slice(0, 3).map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !node.checkVisibility() || node.closest("svg, script")) continue;
    let behind = node, colour;
    do colour = parse(getComputedStyle(behind).backgroundColor);
    while (colour[3] === 0 && (behind = behind.parentElement));
    const [a, b] = [lum(parse(getComputedStyle(node).color)), lum(colour)].sort((x, y) => x - y);
    found.push([(b + 0.05) / (a + 0.05), node.tagName + "." + node.className + " " + node.textContent.slice(0, 30)]);
  }
  return found;
}
"""  # noqa: E501


@pytest.fixture(scope="module")
def page_of_run(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ems_fast.report(run, output=tmp_path_factory.mktemp("page") / "page.html")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_it_loads_fits_and_can_be_read(
    browser: Any, page_of_run: Path, scheme: str, viewport: dict[str, int]
) -> None:
    with opened(browser, viewport=viewport, color_scheme=scheme) as watched:
        page = watched.page
        page.goto(page_of_run.as_uri())
        page.evaluate("document.querySelectorAll('details').forEach((d) => (d.open = true))")
        assert width_beyond(page) == 0
        contrasts = page.evaluate(_CONTRASTS)
        assert len(contrasts) > 100
        assert [entry for entry in contrasts if entry[0] < 4.5] == []
        assert watched.problems == []


def test_many_languages_and_hostile_text_fit_a_phone(browser: Any, tmp_path: Path) -> None:
    codes = ["en", BAD, *(f"l{at}" for at in range(59))]
    path = tmp_path / "page.html"
    path.write_text(run_page(history(codes), findings(codes, BAD)), encoding="utf-8")
    with opened(browser, viewport=PHONE) as watched:
        watched.page.goto(path.as_uri())
        assert width_beyond(watched.page) == 0
        watched.page.locator(".pt").first.dispatch_event("pointerenter")
        assert watched.page.locator(".panel").inner_text().count("onerror=alert(1)") >= 1
        assert watched.page.locator("img").count() == 0
        assert watched.problems == []


def test_pointing_at_a_sentence_shows_it_and_its_translations(
    watched: WatchedPage, page_of_run: Path
) -> None:
    page = watched.page
    page.goto(page_of_run.as_uri())
    point = page.locator(".pt").nth(3)
    code, _, text = (point.get_attribute("aria-label") or "").partition(": ")
    point.hover()
    lines = page.locator(".panel li")
    assert text in lines.first.inner_text()
    assert code in lines.first.inner_text()
    same = page.locator(f".pt[data-m='{point.get_attribute('data-m')}']").count()
    assert lines.count() == same == page.locator(".pt.kin").count() > 1
    page.locator("h1").hover()
    assert page.locator(".pt.kin").count() == 0
    button = page.locator(".legend-buttons button").first
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    number = button.get_attribute("data-l")
    assert page.locator(".pt.lit").count() == page.locator(f".pt[data-l='{number}']").count() > 0
    assert watched.problems == []


def test_the_keyboard_reaches_sentences_cells_and_curves(
    watched: WatchedPage, page_of_run: Path
) -> None:
    page = watched.page
    page.goto(page_of_run.as_uri())
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.locator(".pt:focus").count():
            break
    label = page.locator(".pt:focus").get_attribute("aria-label")
    assert label.partition(": ")[2] in page.locator(".panel").inner_text()
    page.keyboard.press("ArrowDown")
    following = page.locator(".pt:focus").get_attribute("aria-label")
    assert following != label
    assert following.partition(": ")[2] in page.locator(".panel").inner_text()
    page.keyboard.press("Tab")  # one stop, however many sentences
    assert page.locator(".pt:focus").count() == 0

    page.locator(".matrix tbody td").first.focus()
    page.keyboard.press("ArrowRight")
    readout = page.locator("#matrix .readout")
    assert "% found, of" in readout.inner_text() or "too few" in readout.inner_text()
    page.locator("#training .chart svg").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert "pairs seen: " in page.locator("#training .readout").first.inner_text()
    page.locator(".languages tr[data-key]").first.focus()
    assert page.locator(".curve.on").count() == 1
    assert watched.problems == []


def test_comparison(watched: WatchedPage, run: Path, table_run: Path, tmp_path: Path) -> None:
    path = ems_fast.report(run, table_run, output=tmp_path / "compare.html")
    watched.page.set_viewport_size(PHONE)
    watched.page.goto(path.as_uri())
    assert width_beyond(watched.page) == 0
    watched.page.locator(".chart svg").first.hover()
    assert run.name in watched.page.locator(".chart .readout").first.inner_text()
    assert watched.problems == []
