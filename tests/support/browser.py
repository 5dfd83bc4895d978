"""A headless browser for pages: what went wrong in them is remembered, and nothing leaves them.

A test takes the fixture ``watched``, or ``browser`` and `opened` for a page of another size::

    def test_page(watched: WatchedPage) -> None:
        watched.page.goto(path.as_uri())
        assert watched.problems == []
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

# Names of Chromium on the PATH, and the variable that names another one.
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
VARIABLE = "EMS_BROWSER"
# What a page may be made of: files, itself, and a server of this machine.
_LOCAL_SCHEMES = {"file", "data", "blob", "about"}
_LOCAL_HOST = "127.0.0.1"
# In a container its sandbox cannot start, and what processes may share is little.
_FLAGS = (
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    f"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE {_LOCAL_HOST}",
)


@dataclass
class WatchedPage:
    """A page of the browser, and all that it complained about or asked the network for.

    Attributes:
        page: playwright's ``Page``.
        problems: console errors and warnings, exceptions that nothing caught, and addresses beyond
            this machine, which are refused; in the order in which they came.
    """

    page: Any
    problems: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium, as playwright's ``Browser``; skips where there is none.

    It lives for a module only: playwright's loop would be in the way of others' asyncio.
    """
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright (extra browser)")
    executable = os.environ.get(VARIABLE) or next(filter(None, map(shutil.which, _NAMES)), None)
    if executable is None:
        pytest.skip(f"needs a browser: {', '.join(_NAMES)} in PATH, or its path in {VARIABLE}")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=executable, args=list(_FLAGS))
        yield started
        started.close()


@contextmanager
def opened(browser: Any, **options: Any) -> Iterator[WatchedPage]:
    """A new page in a context of its own, with options such as ``viewport`` or ``color_scheme``."""
    context = browser.new_context(**options)
    watched = WatchedPage(context.new_page())

    def route(asked: Any) -> None:
        address = urlsplit(asked.request.url)
        if address.scheme in _LOCAL_SCHEMES or address.hostname == _LOCAL_HOST:
            asked.continue_()
        else:
            watched.problems.append(f"network: {asked.request.url}")
            asked.abort()

    def hear(message: Any) -> None:
        if message.type in ("error", "warning"):
            watched.problems.append(f"console: {message.text}")

    context.route("**/*", route)
    watched.page.on("console", hear)
    watched.page.on("pageerror", lambda error: watched.problems.append(f"exception: {error}"))
    try:
        yield watched
    finally:
        context.close()


@pytest.fixture
def watched(browser: Any) -> Iterator[WatchedPage]:
    """A new page of ordinary size; what it complains about is in ``problems``."""
    with opened(browser) as page:
        yield page


def width_beyond(page: Any) -> int:
    """How many pixels wider than the window the page is: more than 0 scrolls sideways."""
    wider: int = page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    return wider


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a server on this machine that gives the files of a folder."""

    class Silent(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer((_LOCAL_HOST, 0), partial(Silent, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://{_LOCAL_HOST}:{server.server_address[1]}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
