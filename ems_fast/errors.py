"""The exceptions a user can meet. Each message names the thing, what was given and the fix."""


class EmsError(Exception):
    """Base class of every error that ems-fast raises on purpose."""


class InputError(EmsError, ValueError):
    """An argument or a file cannot be used as given."""


class BackendError(EmsError, RuntimeError):
    """A backend asked for by name is missing."""


class TrainingError(EmsError, RuntimeError):
    """Training cannot go on: steps that are no numbers, or a process that is lost."""
