from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from support.browser import browser as browser
from support.browser import watched as watched
from support.synthetic import TINY, make_corpus

from ems_fast import BinaryCorpus, ModelConfig, _encoding, train
from ems_fast.ops.native import kernels

# Time limits of single examples fail on busy machines and say nothing about the code.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

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


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> BinaryCorpus:
    """A prepared corpus of two synthetic language pairs."""
    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def run(corpus: BinaryCorpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short finished run on that corpus."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    train(
        corpus.path, folder, model=ModelConfig(**TINY), max_steps=60, batch_pairs=32,
        learning_rate=1e-2, device="cpu", progress=False,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def table_run(corpus: BinaryCorpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short finished run of a token table without phrases."""
    folder = tmp_path_factory.mktemp("runs") / "table"
    train(
        corpus.path, folder, model=ModelConfig(layers=0, width=32, reconstruction=False),
        max_steps=20, batch_pairs=32, device="cpu", progress=False,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def phrases_run(corpus: BinaryCorpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short finished run of a token table with phrases."""
    folder = tmp_path_factory.mktemp("runs") / "phrases"
    config = ModelConfig(layers=0, width=32, reconstruction=False, phrases=40)
    train(
        corpus.path, folder, model=config, max_steps=20, batch_pairs=32, device="cpu",
        progress=False,
    )  # fmt: skip
    return folder


@pytest.fixture(params=kernels().available_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every instruction set that this processor has, active for one test."""
    before = kernels().active_isa()
    for module in (kernels(), _encoding):
        module.set_active_isa(request.param)
    yield request.param
    for module in (kernels(), _encoding):
        module.set_active_isa(before)
