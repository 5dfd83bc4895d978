"""Numbers of a short training and of encoding, from one process with its threads and instructions.

``python -m support.fingerprint CORPUS FOLDER`` writes ``FOLDER/numbers.npz``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from support.synthetic import TINY, pairs

import ems_fast
from ems_fast.runs.folder import RunFolder

MODELS = {
    "layers": ems_fast.ModelConfig(**TINY),
    "phrases": ems_fast.ModelConfig(layers=0, width=32, phrases=50, reconstruction=False),
}


def main(corpus: Path, folder: Path) -> None:
    """Train and encode with both kinds of model."""
    numbers: dict[str, np.ndarray] = {}
    sentences = [pair[1] for pair in pairs("de", 200)]
    for name, model in MODELS.items():
        run = RunFolder(folder / name)
        ems_fast.train(
            corpus, run.path, model=model, max_steps=8, batch_pairs=32, log_steps=1,
            evaluations=1, evaluation_pairs=5, precision="fp32", device="cpu", progress=False,
        )  # fmt: skip
        losses = [line["loss"] for line in run.read_metrics() if line["event"] == "train"]
        numbers[f"{name} losses"] = np.array(losses)
        for key, tensor in run.read_weights().items():
            numbers[f"{name} {key}"] = tensor.to(torch.float64).numpy()
        encoder = ems_fast.load(run.path, device="cpu")
        numbers[f"{name} vectors"] = encoder.encode(sentences, normalize=True)
    np.savez(folder / "numbers.npz", **numbers)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
