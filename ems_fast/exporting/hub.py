"""A model's folder on a hub, where both `ems_fast.load` and ``SentenceTransformer`` find it."""

from __future__ import annotations

from pathlib import Path

from ems_fast.encoding.hub import PREFIX, REPOSITORY, errors_of_hub, library
from ems_fast.errors import InputError

# Where the files for sentence-transformers lie that would be in the way of ours. Either library
# downloads its own alone.
BELOW = "sentence-transformers"


def use(repository: str, *, own_module: bool) -> str:
    """The card's example; the other library may need our class."""
    ours = f"""\
```python
import ems_fast  # pip install 'ems-fast[hub]'

encoder = ems_fast.load("{PREFIX}{repository}")
vectors = encoder.encode(["Good morning!"], normalize=True)  # float32 [1, {{width}}]
```"""
    trusted = ", trust_remote_code=True" if own_module else ""  # that of the installed ems-fast
    theirs = f"""

or

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{repository}"{trusted})
vectors = model.encode(["Good morning!"], normalize_embeddings=True)  # float32 [1, {{width}}]
```"""
    return ours + theirs


class Uploader:
    """Uploads folders to one repository.

    Args:
        repository: ``org/name``.
        endpoint: the server; None takes ``HF_ENDPOINT``, else the public hub.

    Raises:
        InputError: not such a name, or the package is missing.
    """

    def __init__(self, repository: str, endpoint: str | None):
        if not REPOSITORY.fullmatch(repository):
            raise InputError(f"repository: got {repository!r}, expected org/name")
        self._name, self._endpoint = repository, endpoint
        self._api = library(repository).HfApi(endpoint=endpoint, library_name="ems-fast")

    def upload(self, folder: Path, *, private: bool) -> str:
        """Make the repository if need be, commit the folder's files; the commit's address.

        Raises:
            InputError: the server refuses or cannot be reached.
        """
        with errors_of_hub(self._name, self._endpoint):
            self._api.create_repo(self._name, private=private or None, exist_ok=True)
            commit = self._api.upload_folder(
                repo_id=self._name, folder_path=folder, commit_message="Upload with ems-fast"
            )
        return str(commit.commit_url)
