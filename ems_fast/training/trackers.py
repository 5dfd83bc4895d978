"""Where a run's figures go on the way: TensorBoard, wandb, mlflow, or one's own object."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

from ems_fast.errors import InputError
from ems_fast.files.atomic import write_errors

# The longest value of a parameter that every server of mlflow takes.
_MLFLOW_CHARACTERS = 500


@runtime_checkable
class Tracker(Protocol):
    """What follows a run. All three are called on the main rank alone.

    An exception that one raises ends the run, which can be resumed.
    """

    def begin(self, folder: Path, config: Mapping[str, Any]) -> None:
        """The run in `folder` begins or goes on; `config` are the sections of its config.toml."""

    def log(self, group: str, values: Mapping[str, float], step: int) -> None:
        """Figures of a step, by name; `group` is ``train`` or ``evaluation``."""

    def end(self) -> None:
        """The run is over, interrupted or has failed; called once if `begin` was."""


class TensorBoard:
    """Events in the folder ``tensorboard`` of the run."""

    def __init__(self) -> None:
        self._module = _imported("tensorboard", "torch.utils.tensorboard")

    def begin(self, folder: Path, config: Mapping[str, Any]) -> None:
        """Open a file of events."""
        self._events = folder / "tensorboard"
        with write_errors(self._events):
            self._writer = self._module.SummaryWriter(str(self._events))

    def log(self, group: str, values: Mapping[str, float], step: int) -> None:
        """A scalar each."""
        with write_errors(self._events):
            for name, value in values.items():
                self._writer.add_scalar(f"{group}/{name}", value, step)
            self._writer.flush()

    def end(self) -> None:
        """Close the file, and with it the thread that writes it."""
        with write_errors(self._events):
            self._writer.close()


class Wandb:
    """A run of wandb, named like the folder; a resumed one is a further run of the same group.

    Project, account and mode are those of wandb's own settings, such as ``WANDB_PROJECT`` and
    ``WANDB_MODE=offline``.
    """

    def __init__(self) -> None:
        self._module = _imported("wandb", "wandb")

    def begin(self, folder: Path, config: Mapping[str, Any]) -> None:
        """Start the run; its files lie in the folder."""
        name = folder.resolve().name
        self._run = self._module.init(dir=str(folder), name=name, group=name, config=dict(config))

    def log(self, group: str, values: Mapping[str, float], step: int) -> None:
        """All figures of the step at once."""
        self._run.log({f"{group}/{name}": value for name, value in values.items()}, step=step)

    def end(self) -> None:
        """Finish the run."""
        self._run.finish()


class MLflow:
    """A run of mlflow, named like the folder; a resumed one is a further run of that name.

    Server and experiment are those of mlflow's own settings, such as ``MLFLOW_TRACKING_URI`` and
    ``MLFLOW_EXPERIMENT_NAME``.
    """

    def __init__(self) -> None:
        self._module = _imported("mlflow", "mlflow")

    def begin(self, folder: Path, config: Mapping[str, Any]) -> None:
        """Start the run; options become parameters, named ``section.option``."""
        self._module.start_run(run_name=folder.resolve().name)
        self._module.log_params(
            {
                f"{section}.{name}": str(value)[:_MLFLOW_CHARACTERS]
                for section, options in config.items()
                for name, value in options.items()
            }
        )

    def log(self, group: str, values: Mapping[str, float], step: int) -> None:
        """All figures of the step at once."""
        self._module.log_metrics(
            {f"{group}/{name}": value for name, value in values.items()}, step=step
        )

    def end(self) -> None:
        """End the run."""
        self._module.end_run()


_KINDS: dict[str, type[TensorBoard] | type[Wandb] | type[MLflow]] = {
    "tensorboard": TensorBoard,
    "wandb": Wandb,
    "mlflow": MLflow,
}

Trackers: TypeAlias = Sequence[str | Tracker]
"""Names among ``tensorboard``, ``wandb`` and ``mlflow``, and objects."""


def open_trackers(given: Trackers | None) -> list[Tracker]:
    """The trackers that are named or given; None: TensorBoard where it is installed.

    Raises:
        InputError: no such name, a library that is missing, or an object that lacks a method.
    """
    if given is None:
        return [TensorBoard()] if find_spec("tensorboard") else []
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise InputError(f"trackers: got {given!r}, expected a list of names and trackers")
    return list(_opened(given))


def _opened(given: Trackers) -> Iterator[Tracker]:
    for one in given:
        if isinstance(one, str):
            if one not in _KINDS:
                raise InputError(f"trackers: got {one!r}, expected one of {', '.join(_KINDS)}")
            yield _KINDS[one]()
        elif isinstance(one, Tracker) and not isinstance(one, type):
            yield one
        else:
            raise InputError(
                f"trackers: got an object of type {type(one).__name__}, expected a name among "
                f"{', '.join(_KINDS)} or an object with begin, log and end"
            )


def _imported(extra: str, module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"trackers: {extra} is not installed; pip install 'ems-fast[{extra}]'"
        ) from error


def names_of(given: Trackers | None) -> list[str] | None:
    """What a run's config can keep of them: the names. None where nothing was given."""
    return None if given is None else [one for one in given if isinstance(one, str)]


class Following:
    """All trackers of a run as one."""

    def __init__(self, trackers: Sequence[Tracker]):
        self._trackers = trackers
        self._begun: list[Tracker] = []

    def begin(self, folder: Path, config: Mapping[str, Any]) -> None:
        """Tell all."""
        for tracker in self._trackers:
            tracker.begin(folder, config)
            self._begun.append(tracker)

    def log(self, group: str, values: Mapping[str, Any], step: int) -> None:
        """Tell all, without the step among the values."""
        figures = {name: float(value) for name, value in values.items() if name != "step"}
        for tracker in self._begun:
            tracker.log(group, figures, step)

    def close(self) -> None:
        """End those that have begun."""
        while self._begun:
            self._begun.pop().end()
