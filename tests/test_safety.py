"""What a file from elsewhere cannot do, and who can read what is written."""

from __future__ import annotations

import ast
import os
import re
import stat
import subprocess
import sys
import zipfile
from importlib.metadata import requires
from pathlib import Path

import pytest
from support.synthetic import pairs, write_text

import ems_fast
from ems_fast.corpus import open_corpora
from ems_fast.encoding.partial_array import partial_path

PACKAGE = Path(ems_fast.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
# Where a process reads what a process of the same call has sent it.
_OWN_PICKLES = {"encoding/bulk.py"}


def calls(path: Path) -> list[tuple[str, ast.Call]]:
    """Every call of a module by the name that it is spelt with."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [(ast.unparse(n.func), n) for n in ast.walk(tree) if isinstance(n, ast.Call)]


def constant(call: ast.Call, name: str) -> object:
    """The value of an argument that is given by name as a constant, else None."""
    found = [k.value for k in call.keywords if k.arg == name]
    return found[0].value if found and isinstance(found[0], ast.Constant) else None


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_code_of_a_file_is_run(path: Path) -> None:
    for name, call in calls(path):
        if name == "torch.load":
            assert constant(call, "weights_only") is True
        if name == "np.load":
            assert constant(call, "allow_pickle") is False
        if name.startswith(("pickle.", "cPickle.", "dill.", "marshal.", "shelve.")):
            assert str(path.relative_to(PACKAGE)) in _OWN_PICKLES
        assert name not in ("eval", "exec", "compile", "os.system", "yaml.load", "torch.hub.load")
        assert constant(call, "shell") is not True
        assert constant(call, "trust_remote_code") is not True


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nothing_is_unpacked_or_put_where_others_can_guess(path: Path) -> None:
    for name, _ in calls(path):
        last = name.rpartition(".")[2]
        assert last not in ("extractall", "unpack_archive", "mktemp", "tmpnam")
        assert not (last == "extract" and "archive" in name)
        assert last != "umask"  # of all threads of the user's process
        if last == "chmod":
            assert path.name == "atomic.py"  # to what a new file has


_WORK = """
import sys
from pathlib import Path
import ems_fast
from ems_fast import ModelConfig

text, out = Path(sys.argv[1]), Path(sys.argv[2])
ems_fast.prepare(text, out / "corpus", vocab_size=400, valid_pairs=10, progress=False)
ems_fast.train(
    out / "corpus", out / "run", model=ModelConfig(layers=0, width=16, reconstruction=False),
    max_steps=2, batch_pairs=8, device="cpu", progress=False,
)
encoder = ems_fast.load(out / "run")
lines = [(text / name).read_text().splitlines() for name in ("a.txt", "b.txt")]
ems_fast.encode_file(encoder, text / "a.txt", out / "a.npy", progress=False)
ems_fast.encode_file(encoder, text / "a.txt", out / "s.npy", shard=(0, 2), progress=False)
ems_fast.mine(encoder, *lines).to_tsv(out / "mined.tsv")
ems_fast.align_files(encoder, text / "a.txt", text / "b.txt", out / "a.tsv")
ems_fast.align_files(
    encoder, text / "a.txt", text / "b.txt", out / "a.tmx", to="tmx", languages="en-de"
)
ems_fast.filter_pairs(text / "en-de.tsv", out / "f.tsv.zst", encoder=encoder, progress=False)
ems_fast.export(out / "run", out / "st", to="sentence-transformers")
ems_fast.export(out / "run", out / "small", to="ems-fast", bits=8)
"""


@pytest.mark.parametrize("mask", [0o022, 0o027])
def test_files_have_the_rights_that_the_user_chose(tmp_path: Path, mask: int) -> None:
    text, out = write_text(tmp_path / "text", ("de",), n=80), tmp_path / "out"
    for name, side in (("a.txt", 0), ("b.txt", 1)):
        (text / name).write_text("".join(f"{pair[side]}\n" for pair in pairs("de", 30)))
    out.mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _WORK, text, out],
        preexec_fn=lambda: os.umask(mask), capture_output=True, text=True, check=False,
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = {p.relative_to(out): stat.S_IMODE(p.lstat().st_mode) for p in out.rglob("*")}
    assert Path("run/model.safetensors") in found
    wrong = {
        str(path): oct(mode)
        for path, mode in found.items()
        if mode != ((0o777 if (out / path).is_dir() else 0o666) & ~mask)
    }
    assert wrong == {}


def test_names_in_an_archive_lead_nowhere(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "x.zip", "w") as archive:
        archive.writestr("../../evil.en", "one\n")
        archive.writestr("../../evil.de", "eins\n")
        archive.writestr("/etc/ems-fast-evil", "x")
    (reader,) = open_corpora(folder / "x.zip")
    assert [(p.source, p.target) for p in reader] in ([("one", "eins")], [("eins", "one")])
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a", "b", "x.zip"]


def test_progress_is_not_written_through_a_link(tmp_path: Path, table_run: Path) -> None:
    """Its name is known to others, who may write the folder too."""
    (tmp_path / "a.txt").write_text("lumi\n")
    victim = tmp_path / "victim"
    victim.write_text("mine")
    partial_path(tmp_path / "a.npy").symlink_to(victim)
    with pytest.raises(ems_fast.InputError, match="cannot be written"):
        ems_fast.encode_file(
            ems_fast.load(table_run), tmp_path / "a.txt", tmp_path / "a.npy", progress=False
        )
    assert victim.read_text() == "mine"


def test_the_lowest_versions_that_are_tested_are_those_that_are_allowed() -> None:
    """tests/lowest.txt has all that is always needed but torch, whose wheels need others."""
    allowed, needed = {}, set()
    for requirement in requires("ems-fast") or ():
        match = re.match(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)(.*)", requirement)
        if match:
            assert allowed.setdefault(match[1], match[2]) == match[2]  # the extra test's, too
            needed |= set() if match[3] else {match[1]}
    lines = Path(__file__).with_name("lowest.txt").read_text().splitlines()
    tested = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert needed - {"torch"} <= tested.keys()
    for name, version in tested.items():
        assert re.fullmatch(re.escape(allowed[name]) + r"(\.0)*", version)
