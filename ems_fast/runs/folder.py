"""A run's folder: what is where, and how it is written so that no moment leaves it broken."""

from __future__ import annotations

import errno
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from mmap import mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ems_fast.errors import InputError
from ems_fast.files.atomic import replacing, temporary_files, write_errors, write_text
from ems_fast.files.locks import locked
from ems_fast.files.tensors import MappedTensors
from ems_fast.model.config import ModelConfig
from ems_fast.text.tokenizer import Tokenizer

# What needs torch imports it itself: a run's folder is also read where there is none.
if TYPE_CHECKING:
    from torch import Tensor

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FORMAT = 1


class RunFolder:
    """The files of one run.

    ``config.toml``, ``tokenizer.model``, ``model.safetensors`` (the best so far),
    ``metrics.jsonl``, ``report.html`` and the ``findings.json`` that it shows,
    ``checkpoints/last.pt``, if the run prepared it,
    ``corpus/``, ``teacher.npy`` if it has a teacher and, if a step went wrong, ``bad_batches/``.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.config = self.path / "config.toml"
        self.tokenizer = self.path / "tokenizer.model"
        self.weights = self.path / "model.safetensors"
        self.metrics = self.path / "metrics.jsonl"
        self.report = self.path / "report.html"
        self.findings = self.path / "findings.json"
        self.corpus = self.path / "corpus"
        self.checkpoint = self.path / "checkpoints" / "last.pt"
        self.teacher = self.path / "teacher.npy"
        self.bad_batches = self.path / "bad_batches"
        self.lock = self.path / ".lock"  # of the process that trains it

    def require_new(self, *, keep_corpus: bool, interrupted: bool = False) -> None:
        """Raise `InputError` if something is here already.

        Args:
            keep_corpus: ``corpus/`` may be here: it is what will be trained on.
            interrupted: so may what a start leaves behind that ended before the run began.
        """
        if self.config.exists():
            raise InputError(
                f"output_dir: {self.path} already holds a run; continue it with resume=True "
                "(--resume), or choose another folder"
            )
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"output_dir: {self.path} is a file; choose a folder")
        found = {path.name for path in self.path.iterdir()} if self.path.is_dir() else set()
        # What an interrupted preparation left is removed by the next one.
        found -= {f".{self.corpus.name}.partial", f".{self.corpus.name}.lock", self.lock.name}
        if interrupted:
            found -= {self.checkpoint.parent.name, self.tokenizer.name, "tensorboard", "wandb"}
            found.discard(self.teacher.name)
            for path in (self.tokenizer, self.config, self.teacher):
                found -= {temporary.name for temporary in temporary_files(path)}
        if keep_corpus:
            found.discard(self.corpus.name)
        if found == {self.corpus.name}:
            raise InputError(
                f"output_dir: {self.path} holds a corpus and no run; to train on that, give "
                f"{self.corpus} instead of the files, else choose another folder"
            )
        if found:
            raise InputError(f"output_dir: {self.path} is not empty; choose another folder")

    def create(self) -> None:
        """Make the folder."""
        try:
            self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"output_dir: {self.path} cannot be made ({error.strerror})"
            ) from error

    @contextmanager
    def training(self, *, begun: bool) -> Iterator[None]:
        """Keep other processes from training this run.

        Args:
            begun: the run is there, to be resumed.

        Raises:
            InputError: another process trains it, or began it after this one had looked for it.
        """
        with locked(self.lock, self.path, "output_dir"):
            if self.config.exists() and not begun:
                raise InputError(f"output_dir: {self.path} was just begun by another process")
            yield

    def write_config(self, sections: dict[str, dict[str, Any]]) -> None:
        """Write ``config.toml``; None values are left out, as TOML has none."""
        import tomli_w

        document = {
            name: {key: value for key, value in section.items() if value is not None}
            for name, section in sections.items()
        }
        write_text(self.config, tomli_w.dumps({"format": FORMAT, **document}))

    def read_config(self) -> dict[str, Any]:
        """The sections of ``config.toml``.

        Raises:
            InputError: no run here, or one of another version.
        """
        try:
            document = tomllib.loads(self.config.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise InputError(
                f"{self.path}: holds no model (there is no {self.config.name}); give the folder "
                "of a run"
            ) from error
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"{self.config}: cannot be read ({error})") from error
        if document.get("format") != FORMAT:
            raise InputError(
                f"{self.config}: has format {document.get('format')!r}, this version reads {FORMAT}"
            )
        for name, section in document.items():
            if name != "format" and not isinstance(section, dict):
                raise InputError(f"{self.config}: {name} is {section!r}, expected a section")
        return document

    def read_model_config(self) -> ModelConfig:
        """The model's sizes and languages."""
        return self.model_config(self.read_config())

    def model_config(self, document: dict[str, Any]) -> ModelConfig:
        """The model's sizes and languages, as ``config.toml`` tells them."""
        section = dict(document.get("model", {}))
        try:
            section["languages"] = tuple(section.get("languages", ()))
            return ModelConfig(**section)
        except TypeError as error:
            raise InputError(f"{self.config}: [model] is not one of ours ({error})") from error

    def digests(self) -> dict[str, str]:
        """SHA-256 of the files that make the model, for the section [files] of ``config.toml``."""
        files = (self.tokenizer, self.weights)
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def open_model(self, document: dict[str, Any]) -> tuple[Tokenizer, MappedTensors]:
        """The tokenizer and the weights, each read once, compared with their digests if there are.

        Args:
            document: what `read_config` gave.

        Raises:
            InputError: one is missing or damaged.
        """
        try:
            tokenizer = self.tokenizer.read_bytes()
        except OSError as error:
            raise InputError(f"{self.tokenizer}: cannot be read ({error.strerror})") from error
        weights = MappedTensors(self.weights)
        recorded: dict[str, Any] = document.get("files", {})
        if recorded:
            self._compare(self.tokenizer, tokenizer, recorded)
            self._compare(self.weights, weights.content, recorded)
        return Tokenizer(tokenizer, name=str(self.tokenizer)), weights

    def _compare(self, path: Path, content: bytes | mmap, recorded: dict[str, Any]) -> None:
        if recorded.get(path.name) != hashlib.sha256(content).hexdigest():
            raise InputError(
                f"{path}: is damaged (its SHA-256 is not the one in {self.config.name}); export or "
                "install the model again"
            )

    def write_tokenizer(self, model: bytes) -> None:
        """Write ``tokenizer.model``."""
        with replacing(self.tokenizer) as path:
            path.write_bytes(model)

    def write_weights(self, state: dict[str, Tensor]) -> None:
        """Replace ``model.safetensors``."""
        from safetensors.torch import save

        tensors = {name: tensor.contiguous().cpu() for name, tensor in state.items()}
        with replacing(self.weights) as path:  # safetensors' own writing would drop the lock
            path.write_bytes(save(tensors))

    def read_weights(self) -> dict[str, Tensor]:
        """The tensors of ``model.safetensors``."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from ems_fast.model.quantisation import dequantise

        try:
            return dequantise(load_file(self.weights))
        except (OSError, SafetensorError, KeyError, RuntimeError) as error:
            raise InputError(
                f"{self.weights}: cannot be read ({error}); is the run finished?"
            ) from error

    def write_checkpoint(self, state: dict[str, Any]) -> None:
        """Replace ``checkpoints/last.pt``."""
        import torch

        with replacing(self.checkpoint) as path:
            try:
                torch.save(state, path)
            except RuntimeError as error:  # torch's word for a write that failed, without a reason
                reason = str(error).partition("\n")[0]
                raise OSError(errno.EIO, reason, str(path)) from error

    def is_unbegun(self) -> bool:
        """True for a run that was killed before its first checkpoint, with nothing to lose."""
        return not self.checkpoint.exists() and not self.weights.exists()

    def read_checkpoint(self) -> dict[str, Any]:
        """What `write_checkpoint` wrote last."""
        import torch

        try:
            state: dict[str, Any] = torch.load(
                self.checkpoint, map_location="cpu", weights_only=True
            )
        except FileNotFoundError as error:
            raise InputError(
                f"{self.path}: has no checkpoint to resume from; start the run anew in another "
                "folder"
            ) from error
        except Exception as error:
            raise InputError(f"{self.checkpoint}: cannot be read ({error})") from error
        return state

    def log(self, event: str, **values: Any) -> None:
        """Append a line to ``metrics.jsonl``."""
        with write_errors(self.metrics), self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"event": event, **values}) + "\n")

    def read_metrics(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl``; what a crash or a bad disk left is left out."""
        if not self.metrics.exists():
            return []
        lines = []
        for line in self.metrics.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError, RecursionError):
                found = json.loads(line)
                if isinstance(found, dict) and isinstance(found.get("event"), str):
                    lines.append(found)
        return lines

    def forget_after(self, step: int) -> None:
        """Drop the lines of ``metrics.jsonl`` that a run resumed at `step` will write again."""
        kept = []
        for line in self.read_metrics():
            with suppress(TypeError):  # of no number
                if line.get("step", 0) <= step:
                    kept.append(line)
        write_text(self.metrics, "".join(json.dumps(line) + "\n" for line in kept))


def best_evaluation(lines: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Of the lines of ``metrics.jsonl``, the evaluation whose weights were kept.

    That is the best by the trainer's criterion, the first collection, which is that of the held-out
    pairs if there are any; the later of equals. None if nothing was scored.
    """
    scored = [line for line in lines if line.get("event") == "evaluation" and line["accuracy"]]
    if not scored:
        return None
    best: dict[str, Any] = max(
        reversed(scored), key=lambda line: float(next(iter(line["accuracy"].values())))
    )
    return best


def model_section(config: ModelConfig) -> dict[str, Any]:
    """The [model] section of ``config.toml``."""
    return {**asdict(config), "languages": list(config.languages)}
