"""Models that came with the installation."""

from __future__ import annotations

from pathlib import Path

from ems_fast.errors import InputError

DEFAULT = "multilingual"
_FOLDER = Path(__file__).resolve().parent.parent / "models"


def shipped_models() -> list[str]:
    """The names of the models that `ems_fast.load` finds without a folder."""
    return sorted(path.parent.name for path in _FOLDER.glob("*/config.toml"))


def folder_of(model: str | Path | None) -> Path:
    """The folder of a model: one that is given, or of a name of `shipped_models`; None: `DEFAULT`.

    Raises:
        InputError: neither a folder nor such a name.
    """
    name = DEFAULT if model is None else str(model)
    if model is not None and Path(name).exists():
        return Path(name)
    if name in shipped_models():
        return _FOLDER / name
    if Path(name).name != name:
        return Path(name)  # a path, whoever reads it says what is missing
    there = ", ".join(map(repr, shipped_models())) or "none in this build"
    raise InputError(
        f"{name!r} is neither the folder of a model nor the name of a shipped one ({there})"
    )
