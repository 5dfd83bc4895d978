"""JavaScript of the package outside of a browser: its files in node, JSON in and out."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

_READ = 'const input = JSON.parse(require("fs").readFileSync(0, "utf-8"));'
_RUN = """
for (const file of input.files) {
  require("vm").runInThisContext(require("fs").readFileSync(file, "utf-8"), file);
}
"""


def run_javascript(files: Sequence[Path], body: str, value: Any = None) -> Any:
    """What `body` returns after the files have run; it sees `value` as ``value``.

    Skips where there is no node.
    """
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node in PATH")
    told = f"const told = (function (value) {{ {body} }})(input.value);"
    script = f"{_READ}{_RUN}{told}process.stdout.write(JSON.stringify(told));"
    done = subprocess.run(
        [node, "-e", script],
        input=json.dumps({"files": [str(file) for file in files], "value": value}),
        capture_output=True, text=True, encoding="utf-8",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
