"""What a command left, so far as it must be the same after every interruption."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch

# They tell when and for how long: their names count, not their bytes.
TELLING_TIME = ("report.html", "README.md")


def snapshot(output: Path) -> dict[str, object]:
    """Every file below `output`, with what of it must be the same after every interruption."""
    return {
        str(path.relative_to(output)): _content(path)
        for path in sorted(output.rglob("*"))
        if path.is_file() and path.parent.name != "tensorboard"  # a file a start
    }


def _content(path: Path) -> object:
    if path.name in TELLING_TIME:
        return None
    if path.name == "metrics.jsonl":
        events = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        return [(event["step"], event["loss"]) for event in events if event["event"] == "train"]
    if path.name == "last.pt":
        state = torch.load(path, map_location="cpu", weights_only=True)
        state["progress"].pop("seconds")
        return hashlib.sha256(repr(_plain(state)).encode()).hexdigest()
    if path.name.endswith(".report.json"):  # of the filter: where it is and went on is told
        told = json.loads(path.read_text(encoding="utf-8"))
        return {key: told[key] for key in told.keys() - {"output", "resumed"}}
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _plain(state: object) -> object:
    if isinstance(state, torch.Tensor):
        return (str(state.dtype), tuple(state.shape), state.numpy().tobytes())
    if isinstance(state, dict):
        return [(key, _plain(value)) for key, value in state.items()]
    if isinstance(state, (list, tuple)):
        return [_plain(value) for value in state]
    return state
