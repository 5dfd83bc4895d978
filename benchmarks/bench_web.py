"""The page of `export(to="web")` in a headless Chromium: until it is ready, and a query.

    python -m benchmarks.bench_web de.txt ja.txt ... [--model RUN] [--queries 200]

The page searches at most `--lines` lines, as many of every file, and is opened as a file. Queries
are other lines of the same files. A query's time is what the page itself tells: from the text to
which lines are to be shown, so tokenising, vector and search; drawing them is not in it. Needs the
extra ``browser`` and a Chromium: in the PATH, or `--browser`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

import ems_fast
from ems_fast.encoding.shipped import folder_of
from ems_fast.files.streams import read_lines

ASK = """async (texts) => {
  const query = document.querySelector("#query"), timing = document.querySelector("#timing");
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  const times = [];
  for (const text of texts) {
    query.value = text;
    query.dispatchEvent(new Event("input"));
    await frame();
    await frame();
    times.push(Number(timing.dataset.ms));
  }
  return times;
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", nargs="+", type=Path, help="a file of sentences for each language")
    parser.add_argument("--model", type=Path, default=folder_of(None), help="default: the shipped")
    parser.add_argument("--lines", type=int, default=4000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--browser", default=shutil.which("chromium"))
    options = parser.parse_args()
    each = options.lines // len(options.text)
    with tempfile.TemporaryDirectory() as scratch:
        folder, queries, texts = Path(scratch), [], []
        for path in options.text:
            lines = [line for _, line in read_lines(path) if line.strip()]
            texts.append(folder / path.name)
            texts[-1].write_text("".join(f"{line}\n" for line in lines[:each]), encoding="utf-8")
            queries += lines[each : each + options.queries // len(options.text)]
        if not queries:
            parser.error(f"no file has more than its share of {each} lines, which queries need")
        site = ems_fast.export(options.model, folder / "site", to="web", text=texts)
        size = sum(path.stat().st_size for path in site.rglob("*") if path.is_file())
        with sync_playwright() as playwright:
            flags = ["--no-sandbox"] if os.geteuid() == 0 else []
            browser = playwright.chromium.launch(executable_path=options.browser, args=flags)
            page = browser.new_page()
            began = time.perf_counter()
            page.goto((site / "index.html").as_uri())
            page.wait_for_selector("#query:enabled", timeout=0)
            ready = time.perf_counter() - began
            times = sorted(page.evaluate(ASK, queries))
            print(
                f"Chromium {browser.version}: {size / 1e6:.1f} MB, ready after {ready:.1f} s; "
                f"{len(times)} queries: median {statistics.median(times):.2f} ms, "
                f"95 % {times[len(times) * 95 // 100]:.2f}, slowest {times[-1]:.2f}"
            )
            browser.close()


if __name__ == "__main__":
    main()
