"""Pushing to a hub and loading from it, against a stand-in on the loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.hub import Hub, serving

import ems_fast
from ems_fast import InputError
from ems_fast.cli import main

pytestmark = pytest.mark.filterwarnings("default")  # those of the other libraries
NAME = "org/name"
SENTENCES = ["babo dede", "dede", "babo babo dede"]
# Two forms of one model, the card, and what a hub adds.
OURS = {"config.toml", "tokenizer.model", "model.safetensors", "README.md"}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub, and a cache of its own for what is downloaded."""
    pytest.importorskip("huggingface_hub")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    # The newer of two ways to carry large files has a protocol of its own.
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_tests")
    with serving() as hub:
        yield hub


@pytest.fixture(params=["run", "table_run", "phrases_run"])
def any_run(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(request.param)
    return found


def load(hub: Hub, name: str = f"hf:{NAME}") -> ems_fast.SentenceEncoder:
    return ems_fast.load(name, endpoint=hub.endpoint, device="cpu")


def test_what_is_pushed_is_loaded_by_both_libraries(
    hub: Hub, any_run: Path, tmp_path: Path
) -> None:
    url = ems_fast.push(any_run, NAME, licence="mit", endpoint=hub.endpoint)
    assert url == f"{hub.endpoint}/{NAME}/commit/{hub.commit}"
    wanted = ems_fast.load(any_run, device="cpu").encode(SENTENCES)
    np.testing.assert_array_equal(load(hub).encode(SENTENCES), wanted)
    np.testing.assert_array_equal(load(hub, f"hf:{NAME}@v1").encode(SENTENCES), wanted)
    downloads = {path.rsplit("/", 1)[1] for path in hub.requests if path.startswith("GET /org/")}
    assert downloads <= OURS  # not the other library's
    card = hub.files[NAME]["README.md"].decode()
    assert f'ems_fast.load("hf:{NAME}")' in card
    assert f'SentenceTransformer("{NAME}"' in card
    needs_ours = "trust_remote_code=True" in card
    assert needs_ours == (ems_fast.load(any_run).config.phrases > 0)
    assert 'license: "mit"' in card
    assert "library_name: sentence-transformers" in card
    assert "ORG/NAME" not in card
    library = pytest.importorskip("sentence_transformers")
    folder = tmp_path / "clone"
    for name, content in hub.files[NAME].items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    model = library.SentenceTransformer(str(folder), device="cpu", trust_remote_code=needs_ours)
    np.testing.assert_allclose(model.encode(SENTENCES), wanted, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(ems_fast.load(folder, device="cpu").encode(SENTENCES), wanted)


def test_the_same_folder_can_be_written_without_a_hub(run: Path, tmp_path: Path) -> None:
    folder = ems_fast.export(run, tmp_path / "both", to="hub")
    assert {path.name for path in folder.iterdir()} > OURS
    modules = json.loads((folder / "modules.json").read_text())
    assert [module["path"] for module in modules] == ["sentence-transformers", "1_Pooling"]
    assert 'ems_fast.load("hf:ORG/NAME")' in (folder / "README.md").read_text()


def test_eight_bits(hub: Hub, table_run: Path) -> None:
    ems_fast.push(table_run, NAME, endpoint=hub.endpoint)
    whole = len(hub.files[NAME]["model.safetensors"])
    vectors = load(hub).encode(SENTENCES)
    ems_fast.push(table_run, NAME, bits=8, endpoint=hub.endpoint)
    assert len(hub.files[NAME]["model.safetensors"]) < whole
    small = load(hub).encode(SENTENCES)
    assert not np.array_equal(small, vectors)
    np.testing.assert_allclose(small, vectors, rtol=0, atol=0.02)


def test_the_command(hub: Hub, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["push", str(run), NAME, "--private", "--endpoint", hub.endpoint]
    assert main(arguments) == 0
    assert f"The model is at {hub.endpoint}/{NAME}/commit/" in capsys.readouterr().out
    assert hub.private == {NAME}
    assert main(["push", str(run), "name", "--endpoint", hub.endpoint]) == 2
    assert "repository: got 'name', expected org/name" in capsys.readouterr().err


def test_the_environment_names_the_server(hub: Hub, run: Path, tmp_path: Path) -> None:
    """In a process of its own: the library reads its environment when it is imported."""
    pytest.importorskip("sentence_transformers")
    ems_fast.push(run, NAME, endpoint=hub.endpoint)
    program = f"""
import ems_fast, numpy
from sentence_transformers import SentenceTransformer
ours = ems_fast.load("hf:{NAME}", device="cpu").encode({SENTENCES!r})
theirs = SentenceTransformer("{NAME}", device="cpu").encode({SENTENCES!r})
numpy.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-5)
"""
    environment = {
        **os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1",
    }  # fmt: skip
    command = [sys.executable, "-c", program]
    subprocess.run(command, env=environment, cwd=tmp_path, check=True, timeout=120)


def test_a_second_load_downloads_nothing_and_works_offline(hub: Hub, run: Path) -> None:
    ems_fast.push(run, NAME, endpoint=hub.endpoint)
    wanted = load(hub).encode(SENTENCES)
    hub.requests.clear()
    np.testing.assert_array_equal(load(hub).encode(SENTENCES), wanted)
    assert not [path for path in hub.requests if path.startswith("GET /org/")]
    hub.status = 503
    np.testing.assert_array_equal(load(hub).encode(SENTENCES), wanted)


def test_no_network_unless_asked(hub: Hub, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection")

    monkeypatch.setattr("socket.socket.connect", refuse)
    ems_fast.load(run)
    with pytest.raises(InputError, match="neither the folder"):
        ems_fast.load("no-such-model")
    assert not hub.requests


# -- what goes wrong -----------------------------------------------------------------------------


def test_a_damaged_download_is_repaired(hub: Hub, run: Path, tmp_path: Path) -> None:
    ems_fast.push(run, NAME, endpoint=hub.endpoint)
    wanted = load(hub).encode(SENTENCES)
    (weights,) = (tmp_path / "cache").rglob("snapshots/*/model.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    np.testing.assert_array_equal(load(hub).encode(SENTENCES), wanted)


def test_a_file_that_is_damaged_on_the_hub(hub: Hub, run: Path) -> None:
    ems_fast.push(run, NAME, endpoint=hub.endpoint)
    content = hub.files[NAME]["model.safetensors"]
    hub.files[NAME]["model.safetensors"] = content[:-1] + bytes([content[-1] ^ 1])
    with pytest.raises(InputError, match=r"hf:org/name: was downloaded twice; .*is damaged"):
        load(hub)


def test_a_download_that_is_cut_off(hub: Hub, run: Path) -> None:
    ems_fast.push(run, NAME, endpoint=hub.endpoint)
    hub.files[NAME]["model.safetensors"] = hub.files[NAME]["model.safetensors"][:100]
    with pytest.raises(InputError, match=r"hf:org/name: was downloaded twice; .* cut off"):
        load(hub)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf:org/other", "hf:org/other: http://.* has no such repository, or shows it to its"),
        ("hf:org/name@v9", "hf:org/name@v9: there is no such revision on http"),
        ("hf:name", "run: got 'hf:name', expected hf:org/name or hf:org/name@revision"),
        ("hf:../../etc", "run: got 'hf:../../etc', expected hf:org/name"),
    ],
)
def test_unknown_names(hub: Hub, name: str, message: str) -> None:
    hub.files[NAME] = {}
    with pytest.raises(InputError, match=message):
        load(hub, name)


def test_a_repository_with_something_else(hub: Hub) -> None:
    hub.files[NAME] = {"README.md": b"# Cats\n", "config.json": b"{}"}
    with pytest.raises(InputError, match="hf:org/name: holds no model of ems-fast"):
        load(hub)


def test_a_model_of_a_later_version(hub: Hub, run: Path) -> None:
    ems_fast.push(run, NAME, endpoint=hub.endpoint)
    config = hub.files[NAME]["config.toml"].replace(b"format = 1", b"format = 99")
    hub.files[NAME]["config.toml"] = config
    with pytest.raises(InputError, match="has format 99, this version reads 1"):
        load(hub)


@pytest.mark.parametrize(
    ("status", "message"),
    [(401, "org/name: http.*hf auth login"), (403, "answered with 403; log in"), (418, "with 418")],
)
def test_a_hub_that_refuses(hub: Hub, run: Path, status: int, message: str) -> None:
    hub.status = status
    with pytest.raises(InputError, match=message):
        ems_fast.push(run, NAME, endpoint=hub.endpoint)


def test_a_hub_that_is_not_there(hub: Hub, run: Path) -> None:
    nowhere = "http://127.0.0.1:9"
    with pytest.raises(InputError, match=f"{nowhere} cannot be reached, and there is no earlier"):
        ems_fast.load("hf:org/name", endpoint=nowhere)
    with pytest.raises(InputError, match=f"org/name: failed at {nowhere}"):
        ems_fast.push(run, NAME, endpoint=nowhere)


def test_an_endpoint_for_what_is_on_no_hub(run: Path) -> None:
    with pytest.raises(InputError, match=r"endpoint: got 'http://x', but .* is not on a hub"):
        ems_fast.load(str(run), endpoint="http://x")


def test_a_missing_package(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for call in (lambda: ems_fast.load("hf:org/name"), lambda: ems_fast.push(run, NAME)):
        with pytest.raises(InputError, match=r"org/name: .* pip install 'ems-fast\[hub\]'"):
            call()


def test_a_run_that_is_none(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no model"):
        ems_fast.push(tmp_path, NAME, endpoint=hub.endpoint)
    assert not hub.requests
