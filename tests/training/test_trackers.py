"""What is told a run's figures."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from support.synthetic import ending_after

import ems_fast
from ems_fast import BinaryCorpus, InputError, ModelConfig
from ems_fast.runs.folder import RunFolder
from ems_fast.training.trackers import open_trackers

OPTIONS = {
    "model": ModelConfig(layers=0, width=8, reconstruction=False), "batch_pairs": 16,
    "log_steps": 2, "evaluations": 2, "max_steps": 4, "device": "cpu", "progress": False,
}  # fmt: skip


class Notes:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def begin(self, folder: Path, config: Mapping[str, Any]) -> None:
        self.told.append(("begin", folder, config["optimizer"]["optimizer"]))

    def log(self, group: str, values: Mapping[str, float], step: int) -> None:
        self.told.append((group, dict(values), step))

    def end(self) -> None:
        self.told.append(("end",))


def test_an_object_is_told_everything(corpus: BinaryCorpus, tmp_path: Path) -> None:
    notes = Notes()
    ems_fast.train(corpus.path, tmp_path / "run", trackers=[notes], **OPTIONS)
    assert isinstance(notes, ems_fast.Tracker)
    assert notes.told[0] == ("begin", tmp_path / "run", "rowwise-adagrad")
    assert [(told[0], told[2]) for told in notes.told[1:-1]] == [
        ("train", 2), ("evaluation", 2), ("train", 4), ("evaluation", 4),
    ]  # fmt: skip
    lines = [ln for ln in RunFolder(tmp_path / "run").read_metrics() if ln["event"] == "train"]
    assert notes.told[1][1] == {k: v for k, v in lines[0].items() if k not in ("event", "step")}
    assert notes.told[2][1].keys() == {"held-out"}
    assert notes.told[-1] == ("end",)
    assert not (tmp_path / "run" / "tensorboard").exists()  # only what is asked for


def test_the_end_is_told_of_a_run_that_fails(
    corpus: BinaryCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ems_fast.training.api.Trainer.run", fails)
    notes = Notes()
    with pytest.raises(KeyboardInterrupt):
        ems_fast.train(corpus.path, tmp_path / "run", trackers=[notes], **OPTIONS)
    assert [told[0] for told in notes.told] == ["begin", "end"]


def test_a_resumed_run_goes_on_with_named_trackers(corpus: BinaryCorpus, tmp_path: Path) -> None:
    run, notes = tmp_path / "run", Notes()
    with ending_after(2):
        ems_fast.train(corpus.path, run, trackers=["tensorboard", notes], **OPTIONS)
    assert RunFolder(run).read_config()["data"]["trackers"] == ["tensorboard"]
    files = len(list((run / "tensorboard").iterdir()))
    ems_fast.train(None, run, resume=True, device="cpu", progress=False)
    assert len(list((run / "tensorboard").iterdir())) == files + 1
    ems_fast.train(None, run, resume=True, trackers=[], max_steps=6, device="cpu", progress=False)
    assert len(list((run / "tensorboard").iterdir())) == files + 1


def test_wandb_is_called_as_it_wants(
    corpus: BinaryCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    run = SimpleNamespace(
        log=lambda values, step: told.append((values, step)), finish=lambda: told.append("finished")
    )
    module = ModuleType("wandb")
    module.init = lambda **given: told.append(given) or run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    ems_fast.train(corpus.path, tmp_path / "run", trackers=["wandb"], **OPTIONS)
    assert told[0]["name"] == told[0]["group"] == "run"
    assert told[0]["dir"] == str(tmp_path / "run")
    assert told[0]["config"]["limits"]["max_steps"] == 4
    assert "train/loss" in told[1][0]
    assert told[1][1] == 2
    assert told[-1] == "finished"


def test_mlflow_is_called_as_it_wants(
    corpus: BinaryCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    module = ModuleType("mlflow")
    for name in ("start_run", "log_params", "log_metrics", "end_run"):
        setattr(module, name, lambda *a, _name=name, **k: told.append((_name, a, k)))
    monkeypatch.setitem(sys.modules, "mlflow", module)
    ems_fast.train(corpus.path, tmp_path / "run", trackers=["mlflow"], **OPTIONS)
    assert told[0] == ("start_run", (), {"run_name": "run"})
    assert told[1][1][0]["optimizer.optimizer"] == "rowwise-adagrad"
    assert all(len(value) <= 500 for value in told[1][1][0].values())
    assert told[2][0] == "log_metrics"
    assert "train/loss" in told[2][1][0]
    assert told[2][2] == {"step": 2}
    assert told[-1][0] == "end_run"


@pytest.mark.parametrize("name", ["wandb", "mlflow", "tensorboard"])
def test_a_missing_library_is_named_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    module = "torch.utils.tensorboard" if name == "tensorboard" else name
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        InputError, match=rf"{name} is not installed; pip install 'ems-fast\[{name}"
    ):
        ems_fast.train(tmp_path / "missing", tmp_path / "run", trackers=[name])
    assert not (tmp_path / "run").exists()


def test_what_is_no_tracker_is_refused() -> None:
    with pytest.raises(InputError, match="trackers: got 'tensorbord', expected one of"):
        open_trackers(["tensorbord"])
    with pytest.raises(InputError, match="trackers: got 'wandb', expected a list"):
        open_trackers("wandb")
    for wrong in (3, Notes):
        with pytest.raises(InputError, match="trackers: got an object of type"):
            open_trackers([wrong])  # type: ignore[list-item]
