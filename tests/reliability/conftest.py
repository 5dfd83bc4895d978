from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.synthetic import pairs, write_text
from support.victim import Victims, victims

import ems_fast

FAULTS = Path(__file__).parents[1] / "support" / "faults.c"


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands of `support.victim` read."""
    folder = tmp_path_factory.mktemp("inputs")
    write_text(folder / "text", n=80)
    write_text(folder / "more", ("it",), n=60)
    ems_fast.train(
        folder / "text", folder / "run", prepare_options={"vocab_size": 300, "valid_pairs": 3},
        model=ems_fast.ModelConfig(layers=0, width=16, phrases=20, reconstruction=False),
        max_steps=20, batch_pairs=16, evaluations=1, device="cpu", progress=False,
    )  # fmt: skip
    lines = [pair[1] for pair in pairs("de", 100)]
    (folder / "lines.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for side, language in enumerate(("en", "de")):
        (folder / language).mkdir()
        for number in range(3):
            document = [pair[side] for pair in pairs("de", 60)[20 * number : 20 * number + 20]]
            (folder / language / f"{number}.txt").write_text("\n".join(document), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victims]:
    """Where commands run that are killed, or whose disk fails."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("needs Linux and a C compiler, for the library that makes file operations fail")
    library = tmp_path_factory.mktemp("faults") / "faults.so"
    subprocess.run(
        [compiler, "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, FAULTS, "-ldl"],
        check=True,
    )
    with victims(library) as found:
        yield found
