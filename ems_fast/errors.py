"""The exceptions a user can meet. Each message names the thing, what was given and the fix."""


class EmsError(Exception):
    """Base class of every error that ems-fast raises on purpose."""


class InputError(EmsError, ValueError):
    """An argument or a file cannot be used as given."""


def check(holds: bool, name: str, given: object, wanted: str) -> None:
    """Raise `InputError` unless `holds`: what `name` was given, and what was wanted."""
    if not holds:
        raise InputError(f"{name}: got {given!r}, expected {wanted}")


def check_one_of(name: str, given: object, choices: tuple[object, ...]) -> None:
    """Raise `InputError` unless `given` is one of `choices`."""
    check(given in choices, name, given, f"one of {', '.join(map(repr, choices))}")


class BackendError(EmsError, RuntimeError):
    """A backend asked for by name is missing."""


class TrainingError(EmsError, RuntimeError):
    """Training cannot go on: steps that are no numbers, too little memory, or a lost process."""
