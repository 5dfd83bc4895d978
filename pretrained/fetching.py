"""Downloads by the registries' own clients: what is there already is not fetched again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from sources import Source

PINS = Path(__file__).with_name("packages.txt")
# Of a source package of several archives, the one that is read.
_ARCHIVES = {"libreoffice": "libreoffice_*.orig-translations.tar.xz"}
_SOURCE_ONLY = ("source", "--download-only", "--tar-only")
_DEBIAN_KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"


Pins = dict[tuple[str, str], tuple[str, str]]
"""Version and SHA-256 of the archive, by registry and package."""


class Download(NamedTuple):
    """A package as it lies in the cache."""

    package: str
    version: str
    path: Path
    digest: str


def read_pins(path: Path = PINS) -> Pins:
    """What ``packages.txt`` says."""
    rows = [line.split() for line in path.read_text().splitlines() if line and line[0] != "#"]
    return {(registry, package): (version, digest) for registry, package, version, digest in rows}


def fetch(source: Source, cache: Path, pins: Pins) -> list[Download]:
    """The archives of a source, in the order of its packages.

    A package that is pinned is fetched in that version, and its digest is checked. Debian's
    mirrors drop a version once a newer one is there; the newer one is then taken, and said so.

    Raises:
        RuntimeError: a client failed, or an archive is not the one that is pinned.
    """
    folder = (cache / "packages" / source.name).absolute()  # commands run inside of it
    folder.mkdir(parents=True, exist_ok=True)
    return [_fetch_one(source.registry, package, folder, pins) for package in source.packages]


def _fetch_one(registry: str, package: str, folder: Path, pins: Pins) -> Download:
    version, digest = pins.get((registry, package), ("", ""))
    path = _there(registry, package, version, folder)
    if path is None:
        path = _download(registry, package, version, folder)
    got = sha256(path.read_bytes()).hexdigest()
    if digest and got != digest:
        if _version(registry, path) == version:
            raise RuntimeError(f"{path}: has the digest {got}, but {digest} was wanted; remove it")
        print(f"{package}: {version} is gone, {path.name} was taken", file=sys.stderr)
    return Download(package, _version(registry, path), path, got)


def _there(registry: str, package: str, version: str, folder: Path) -> Path | None:
    """The package in the cache; of Debian's another version will do, as of its mirrors."""
    paths = list(_candidates(registry, package, folder))
    pinned = [path for path in paths if version and _version(registry, path) == version]
    if not pinned and (registry.startswith("debian") or not version):
        pinned = paths
    return pinned[-1] if pinned else None


def _candidates(registry: str, package: str, folder: Path) -> Iterator[Path]:
    if registry == "pypi":
        yield from sorted(folder.glob(f"{package.replace('-', '_')}-*.whl"))
    elif registry == "npm":
        yield from sorted(folder.glob(f"{_npm_name(package)}-[0-9]*.tgz"))
    elif registry == "debian":
        yield from sorted(folder.glob(f"{package}_*.deb"))
    else:
        yield from sorted(folder.glob(_ARCHIVES[package]))


def _npm_name(package: str) -> str:
    return package.removeprefix("@").replace("/", "-")


def _version(registry: str, path: Path) -> str:
    if registry == "pypi":
        return path.name.split("-")[1]
    if registry == "npm":
        return path.stem.rpartition("-")[2]
    return path.name.split("_")[1].partition(".orig")[0].replace("%3a", ":")


def _download(registry: str, package: str, version: str, folder: Path) -> Path:
    if registry == "pypi":
        wanted = f"{package}=={version}" if version else package
        _run([
            sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
            "--python-version", "3.14", "--dest", str(folder), wanted,
        ], folder)  # fmt: skip
    elif registry == "npm":
        wanted = f"{package}@{version}" if version else package
        _run(["npm", "pack", "--silent", "--pack-destination", str(folder), wanted], folder)
    elif registry == "debian":
        wanted = f"{package}={version}" if version else package
        try:
            _run(["apt-get", "download", "--quiet", wanted], folder)
        except RuntimeError:
            _run(["apt-get", "download", "--quiet", package], folder)
    else:
        _download_source(package, folder)
    path = _there(registry, package, version, folder)
    if path is None:
        raise RuntimeError(f"{package}: nothing of that name came from {registry} into {folder}")
    return path


def _download_source(package: str, folder: Path) -> None:
    """Fetch a Debian source package through lists of its own; only the archive read stays."""
    state = folder / "apt"
    for part in ("lists/partial", "archives/partial"):
        (state / part).mkdir(parents=True, exist_ok=True)
    options = [
        f"-oDir::Etc::sourcelist={state.absolute()}/sources.list",
        "-oDir::Etc::sourceparts=/dev/null", f"-oDir::State::lists={state.absolute()}/lists",
        f"-oDir::Cache={state.absolute()}", "-oAPT::Sandbox::User=",
    ]  # fmt: skip
    binary = _run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)",
         "Created-By: Packages"], folder,
    )  # fmt: skip
    signed = f"[signed-by={_DEBIAN_KEYS}] " if Path(_DEBIAN_KEYS).exists() else ""
    lines = sorted({f"deb-src {signed}{line}\n" for line in binary.splitlines()})
    (state / "sources.list").write_text("".join(lines))
    _run(["apt-get", "-qq", *options, "update"], folder)
    try:
        _run(["apt-get", "-qq", *options, *_SOURCE_ONLY, package], folder)
    except RuntimeError:
        if not list(folder.glob(_ARCHIVES[package])):
            raise
    for path in folder.glob(f"{package}_*"):
        if not path.match(_ARCHIVES[package]):
            path.unlink()


def _run(command: list[str], folder: Path) -> str:
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)}: {result.stderr.strip()[-500:]}")
    return result.stdout
