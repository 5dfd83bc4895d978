"""Train multilingual sentence embeddings on your own parallel text, on modest hardware."""

from importlib.metadata import version as _version

from ems_fast.errors import BackendError, EmsError, InputError
from ems_fast.ops import BagOfWords, contrastive_loss, xtr_loss

__version__ = _version("ems-fast")
__all__ = [
    "BackendError",
    "BagOfWords",
    "EmsError",
    "InputError",
    "contrastive_loss",
    "xtr_loss",
]
