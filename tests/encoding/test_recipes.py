"""The recipes of docs/recipes.md, where the tools they need are installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.synthetic import pairs

import ems_fast

SENTENCES = [sentence for pair in pairs("de", 20) for sentence in pair]

# Other people's libraries warn of their own affairs, so each recipe runs in a process of its own.
DATASETS = """
import sys
import datasets
import numpy as np
import ems_fast

if __name__ == "__main__":
    run, text, output = sys.argv[1:]
    datasets.disable_progress_bars()
    encoder = ems_fast.load(run, device="cpu")

    def embed(batch):
        return {"embedding": encoder.encode(batch["text"], progress=False)}

    lines = open(text).read().splitlines()
    dataset = datasets.Dataset.from_dict({"text": lines}).map(embed, batched=True, batch_size=16)
    np.save(output, np.array(dataset["embedding"], dtype=np.float32))
"""

RAY = """
import sys
import numpy as np
import ray
import ems_fast


class Embed:
    def __init__(self, run):
        self.encoder = ems_fast.load(run, device="cpu")

    def __call__(self, batch):
        batch["embedding"] = self.encoder.encode(batch["text"], progress=False)
        return batch


if __name__ == "__main__":
    run, text, output = sys.argv[1:]
    ray.init(num_cpus=2, include_dashboard=False, configure_logging=False)
    dataset = ray.data.read_text(text).map_batches(
        Embed,
        fn_constructor_args=(run,),
        batch_size=16,
        compute=ray.data.ActorPoolStrategy(size=1),
    )
    of = {row["text"]: row["embedding"] for row in dataset.take_all()}
    np.save(output, np.array([of[line] for line in open(text).read().splitlines()]))
    ray.shutdown()
"""


@pytest.mark.parametrize(
    ("module", "recipe"),
    [
        ("datasets", DATASETS),
        pytest.param("ray", RAY, marks=pytest.mark.slow),  # starts a cluster
    ],
)
def test_recipe(module: str, recipe: str, run: Path, tmp_path: Path) -> None:
    found = subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True)
    if found.returncode:
        pytest.skip(f"needs {module}")
    (tmp_path / "recipe.py").write_text(recipe)
    (tmp_path / "text.txt").write_text("\n".join(SENTENCES) + "\n")
    done = subprocess.run(
        [sys.executable, "recipe.py", str(run), "text.txt", "vectors.npy"],
        cwd=tmp_path, capture_output=True, text=True, timeout=280,
        env={"HF_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path), "HF_HUB_OFFLINE": "1",
             "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    expected = ems_fast.load(run, device="cpu").encode(SENTENCES)
    np.testing.assert_allclose(np.load(tmp_path / "vectors.npy"), expected, rtol=0, atol=1e-6)
