"""Python as it is deployed without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# Everything that is not in the recipe of docs/deploy.md; None lets an import fail.
BLOCKED = (
    "torch", "tqdm", "zstandard", "tomli_w", "transformers", "sentence_transformers", "faiss",
    "onnxruntime", "ems_fast._kernels", "ems_fast._batching",
)  # fmt: skip


def python_without_torch(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run code where none of those packages can be imported, and every warning is an error."""
    block = f"import sys; sys.modules.update(dict.fromkeys({BLOCKED}))\n"
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", block + code, *map(str, arguments)],
        cwd=Path(__file__).parent, capture_output=True, text=True,
    )  # fmt: skip
