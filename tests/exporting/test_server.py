"""A server of others on an exported folder: the recipe of docs/deploy.md."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import ems_fast

SENTENCES = ["bade gi", "mo", "kafu teru bade nile", "bade gi " * 200]


def answer(url: str, content: object) -> dict[str, object]:
    request = urllib.request.Request(
        url, json.dumps(content).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        found: dict[str, object] = json.load(response)
    return found


@pytest.fixture(scope="module")
def server(phrases_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of infinity, with a model of phrases."""
    program = shutil.which("infinity_emb")
    if program is None:
        pytest.skip("needs the program infinity_emb")
    pytest.importorskip("onnxscript")
    folder = tmp_path_factory.mktemp("exported") / "table"
    ems_fast.export(phrases_run, folder, to="sentence-transformers", with_onnx=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [program, "v2", "--model-id", folder, "--served-model-name", "own", "--engine", "optimum",
         "--pooling-method", "mean", "--device", "cpu", "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder.parent), "HF_HUB_OFFLINE": "1",
             "INFINITY_ANONYMOUS_USAGE_STATS": "0"},
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            assert process.poll() is None, "the server ended"
            try:
                urllib.request.urlopen(f"{url}/health", timeout=5).close()
                break
            except urllib.error.URLError:
                time.sleep(0.5)
        yield url
    finally:
        process.terminate()
        process.wait()


def test_infinity_serves_a_table_with_phrases(server: str, phrases_run: Path) -> None:
    found = answer(f"{server}/embeddings", {"model": "own", "input": SENTENCES})
    vectors = np.array([entry["embedding"] for entry in found["data"]])
    with pytest.warns(ems_fast.EncodingWarning):
        wanted = ems_fast.load(phrases_run).encode(SENTENCES, normalize=True)
    np.testing.assert_allclose(vectors, wanted, atol=1e-5)
