from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of corpora and reference numbers beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the reference data in {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def corpora(shared: Path) -> Path:
    if not (shared / "corpora").is_dir():
        pytest.skip(f"needs the parallel text in {shared / 'corpora'}")
    return shared / "corpora"
