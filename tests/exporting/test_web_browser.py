"""The page that `export(to="web")` writes, in a browser: the shipped model and 4,000 lines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.browser import WatchedPage, opened, served, width_beyond

import ems_fast
from ems_fast.demo.first_look import SENTENCES
from ems_fast.encoding.shipped import folder_of

HOSTILE = [
    "<img src=x onerror=\"document.title='owned'\">",
    "<script>document.title='owned'</script>",
    "</script><b>bold</b> \\u003c \u2028 \" ' ` ${0}",
]
LONG = "x" * 2000
LINES = 4000


@pytest.fixture(scope="module")
def spoken() -> dict[str, list[str]]:
    """A few sentences by language, the same in all."""
    rows = [line.split("\t") for line in SENTENCES.read_text(encoding="utf-8").splitlines()]
    return {code: sentences for code, *sentences in rows}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, spoken: dict[str, list[str]]) -> Path:
    folder = tmp_path_factory.mktemp("web")
    texts = {f"{code}.txt": sentences for code, sentences in spoken.items()}
    more = [f"Invoice {i}: payment of {i * 7} crowns" for i in range(LINES)]
    texts["lines.txt"] = [*HOSTILE, LONG, *more][: LINES - sum(map(len, texts.values()))]
    for name, lines in texts.items():
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    paths = [folder / name for name in texts]
    return ems_fast.export(folder_of(None), folder / "site", to="web", text=paths)


@contextmanager
def started(browser: Any, address: str, **options: Any) -> Iterator[WatchedPage]:
    """The page, ready."""
    with opened(browser, **options) as watched:
        watched.page.goto(address)
        watched.page.wait_for_selector("#query:enabled")
        yield watched
        assert watched.problems == []


@pytest.fixture(scope="module")
def ready(browser: Any, site: Path) -> Iterator[WatchedPage]:
    """One page for all tests that leave it as it is."""
    with started(browser, (site / "index.html").as_uri()) as watched:
        yield watched


def ask(page: Any, text: str, show: str | None = None) -> list[str]:
    """Type a sentence; the texts of the lines that are shown."""
    if show is not None:
        page.select_option("#show", label=show)
    page.fill("#query", text)
    return shown(page)


def shown(page: Any) -> list[str]:
    """The texts of the lines, after the next two frames."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    found: list[str] = page.locator("#results .text").all_text_contents()
    return found


@pytest.mark.parametrize("language", ["ar", "de", "el", "fr", "he", "ja", "ru", "tr", "uk", "zh"])
def test_a_sentence_finds_its_translation(
    ready: WatchedPage, spoken: dict[str, list[str]], language: str
) -> None:
    for asked, wanted in zip(spoken[language], spoken["en"], strict=True):
        assert ask(ready.page, asked, "English (en)")[0] == wanted


def test_the_nearest_of_all_are_those_of_the_library(
    ready: WatchedPage, spoken: dict[str, list[str]], site: Path
) -> None:
    encoder = ems_fast.load()
    lines = [line for sentences in spoken.values() for line in sentences]
    query = "Is it going to rain?"
    vectors = encoder.encode([query, *lines], normalize=True)
    cosines = vectors[1:] @ vectors[0]
    best = sorted(range(len(lines)), key=lambda i: -cosines[i])[:10]
    assert ask(ready.page, query, "the nearest lines") == [lines[i] for i in best]
    told = ready.page.locator("#results .cosine").all_text_contents()
    assert [float(x) for x in told] == pytest.approx([cosines[i] for i in best], abs=0.006)


def test_one_of_every_language(ready: WatchedPage, spoken: dict[str, list[str]]) -> None:
    found = ask(ready.page, "The cat is sleeping on the sofa.", "one of every language")
    assert len(found) == len(spoken) + 1  # and one of the lines without a language
    right = sum(sentences[2] in found for sentences in spoken.values())
    assert right >= len(spoken) - 2
    chips = ready.page.locator("#results .language").all_text_contents()
    assert {"German (de)", "Japanese (ja)", "Arabic (ar)"} <= set(chips)


def test_a_query_takes_less_than_10_ms(ready: WatchedPage, spoken: dict[str, list[str]]) -> None:
    times = []
    for text in (sentence for sentences in spoken.values() for sentence in sentences[:2]):
        ask(ready.page, text, "the nearest lines")
        times.append(float(ready.page.get_attribute("#timing", "data-ms")))
    assert sorted(times)[len(times) // 2] <= 10


def test_typing_shows_results_and_emptying_ends_them(ready: WatchedPage) -> None:
    page = ready.page
    ask(page, "", "the nearest lines")
    assert page.inner_text("#heading") == "Type a sentence, or take one of the 4,000 lines"
    page.locator("#query").press_sequentially("It will rain tomorrow")
    assert shown(page)[0] == "It will rain tomorrow."
    assert page.inner_text("#heading") == "Nearest lines"
    assert page.inner_text("#timing").endswith(" ms")
    assert len(ask(page, "  ")) == 6


def test_what_is_said_to_a_screen_reader(ready: WatchedPage) -> None:
    ask(ready.page, "It will rain tomorrow.", "the nearest lines")
    ready.page.locator("#status", has_text="10 lines").wait_for(state="attached")
    assert ready.page.inner_text("#status").startswith("10 lines; the nearest: It will rain")
    for role, name in (("textbox", "Your sentence"), ("combobox", "Show")):
        assert ready.page.get_by_role(role, name=name).count() == 1
    assert ready.page.get_by_role("list").get_by_role("button").count() == 10


def test_pieces_are_shown_with_their_pairs(ready: WatchedPage) -> None:
    ask(ready.page, "I would like to go.")
    ready.page.locator("#reading summary").click()
    tokenizer = ems_fast.load().tokenizer
    pieces = "".join(tokenizer.piece(i) for i in tokenizer.encode("I would like to go."))
    assert ready.page.text_content("#pieces") == pieces
    assert ready.page.locator("#pieces .pair").count() >= 1


def test_hostile_text_stays_text(ready: WatchedPage) -> None:
    page = ready.page
    for text in HOSTILE:
        assert ask(page, text, "the nearest lines")[0] == text
    assert page.locator("main img, main script, main b").count() == 0
    assert page.title() == "Nearest sentences · multilingual"


def test_neighbours_of_a_line_by_mouse_and_keyboard(ready: WatchedPage) -> None:
    page = ready.page
    first = ask(page, "The cat is sleeping", "the nearest lines")[0]
    page.locator("#results button").first.click()
    assert first not in shown(page)
    assert page.input_value("#query") == first
    assert page.inner_text("#heading") == "Neighbours of this line"
    third = shown(page)[2]
    for key in ("ArrowDown", "ArrowDown", "ArrowDown", "ArrowUp", "ArrowDown"):
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    assert third not in shown(page)
    assert page.input_value("#query") == third
    page.keyboard.press("Escape")
    assert len(shown(page)) == 6
    assert page.input_value("#query") == ""
    assert page.evaluate("document.activeElement.id") == "query"


def test_a_phone_and_the_dark(browser: Any, site: Path) -> None:
    grounds = set()
    for scheme in ("light", "dark"):
        options = {"viewport": {"width": 360, "height": 740}, "color_scheme": scheme}
        with started(browser, (site / "index.html").as_uri(), **options) as watched:
            page = watched.page
            assert ask(page, LONG)[0] == LONG
            page.locator("#reading summary").click()
            assert width_beyond(page) == 0
            ground = "getComputedStyle(document.body).backgroundColor"
            grounds.add(page.evaluate(ground))
    assert len(grounds) == 2


def test_from_a_server(browser: Any, site: Path) -> None:
    with served(site) as address, started(browser, address) as watched:
        assert (
            ask(watched.page, "Il pleuvra demain.", "English (en)")[0] == "It will rain tomorrow."
        )


def test_a_missing_file_is_told(browser: Any, site: Path) -> None:
    scales = site / "data" / "scales.0.js"
    scales.rename(scales.with_suffix(".away"))
    try:
        with opened(browser) as watched:
            watched.page.goto((site / "index.html").as_uri())
            alert = watched.page.get_by_role("alert")
            alert.wait_for()
            assert alert.inner_text().endswith("data/scales.0.js cannot be read")
    finally:
        scales.with_suffix(".away").rename(scales)
