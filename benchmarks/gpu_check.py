"""All that a GPU has to show, in ten minutes: is it right, and how fast is what.

    make gpu-check                              # on a machine with one; downloads nothing
    python benchmarks/gpu_check.py --device cpu --tiny --output rows.jsonl    # only that it runs

Every row is written at once, as a line of JSON, so that a cut leaves what was measured. It ends
with status 1 if a section fails; whatever is skipped or missing is a failure, and the first section
fails unless the fused backend is active. Columns: docs/gpu.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import gpu_sections
import torch
from gpu_sections import CheckError, Row, Setting
from results import commit, machine

ROOT = Path(__file__).resolve().parents[1]
# What the sanitizers look at: all kernels, on the smallest shapes, as they slow them a hundredfold.
SANITIZED = "matches and float32 and not 60000 and not 5100"
SANITIZERS = ("memcheck", "racecheck", "synccheck")


class Rows:
    """Rows of a file, written one by one."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w", encoding="utf-8")

    def write(self, section: str, row: Row) -> None:
        self._file.write(json.dumps({"section": section, **row}, ensure_ascii=False) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def tests(python: str) -> Iterator[Row]:
    """The tests that need a GPU, a process a file, so that one that dies takes no other along."""
    folder = ROOT / "tests"
    files = [f for f in sorted(folder.rglob("test_*.py")) if "mark.cuda" in f.read_text("utf-8")]
    for file in files:
        row = run_tests(python, ["-m", "cuda", str(file.relative_to(folder))])
        yield row
        complain(row)


def sanitizers(python: str) -> Iterator[Row]:
    """NVIDIA's compute-sanitizer over the smallest shapes."""
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        raise CheckError("compute-sanitizer is not on PATH: it comes with the CUDA toolkit")
    for name in SANITIZERS:
        prefix = [tool, "--tool", name, "--error-exitcode", "9", "--target-processes", "all"]
        arguments = ["-m", "cuda", "-k", SANITIZED, "cuda/test_cuda.py"]
        row = {"tool": name, **run_tests(python, arguments, prefix)}
        yield row
        complain(row)


def run_tests(python: str, arguments: list[str], prefix: list[str] | None = None) -> Row:
    """Counts of a run of pytest, its status, and the end of what it says if that is not 0."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.xml"
        # In tests/, since the source tree would hide the installed package.
        done = subprocess.run(
            [*(prefix or []), python, "-m", "pytest", "-q", "-c", "../pyproject.toml", "--rootdir",
             "..", f"--junitxml={report}", *arguments],
            cwd=ROOT / "tests", capture_output=True, text=True, check=False,
        )  # fmt: skip
        counts = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
        if report.exists():
            suite = ElementTree.parse(report).getroot().find("testsuite")
            counts = {k: int(suite.get(k, 0)) for k in counts} if suite is not None else counts
    row = {
        "command": shlex.join(["pytest", *arguments]), **counts, "status": done.returncode,
        "seconds": time.monotonic() - begun,
    }  # fmt: skip
    if done.returncode:
        row["output"] = (done.stdout + done.stderr)[-4000:]
    return row


def complain(row: Row) -> None:
    """Raise unless all tests of a run passed, and there were some."""
    bad = [f"{row[k]} {k}" for k in ("failures", "errors", "skipped") if row[k]]
    if bad or row["status"] or not row["tests"]:
        raise CheckError(f"{row['command']}: {', '.join(bad) or 'no test ran'}")


def sections(setting: Setting, python: str) -> dict[str, Callable[[], Iterator[Row]]]:
    """In the order of what one most wants to know, should there be a cut."""
    ceiling: dict[str, float] = {}

    def ceilings() -> Iterator[Row]:
        for row in gpu_sections.ceilings(setting):
            ceiling[row["of"]] = row.get("teraflops", 0.0)
            yield row

    def steps() -> Iterator[Row]:
        return gpu_sections.steps(setting, ceiling.get("product, bfloat16"))

    return {
        "backend": lambda: gpu_sections.backend(setting),
        "ceilings": ceilings,
        "gradients": lambda: gpu_sections.gradients(setting),
        "steps": steps,
        "attention": lambda: gpu_sections.attention(setting),
        "replayed": lambda: gpu_sections.replayed(setting),
        "encoding": lambda: gpu_sections.encoding(setting),
        "tests": lambda: tests(python),
        "losses": lambda: gpu_sections.losses(setting),
        "sanitizers": lambda: sanitizers(python),
    }


# Without a GPU there is nothing for these to look at.
NEEDS_GPU = ("tests", "sanitizers")


def check(chosen: dict[str, Callable[[], Iterator[Row]]], rows: Rows, minutes: float) -> list[str]:
    """Run the sections; returns those that failed, or were not begun in time."""
    begun, failed = time.monotonic(), []
    for name, section in chosen.items():
        print(f"\n{name}")
        try:
            if time.monotonic() - begun > 60 * minutes:
                raise CheckError(f"not begun within {minutes:g} minutes")
            for row in section():
                rows.write(name, row)
                shown = {k: v for k, v in row.items() if k not in ("longest_kernels", "output")}
                print("  " + "  ".join(f"{k} {_short(v)}" for k, v in shown.items()), flush=True)
        except Exception as error:  # whatever it is, the next section may still tell something
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            rows.write(name, {"failed": reason})
            print(f"  FAILED {reason}", flush=True)
            failed.append(name)
            if name == "backend":
                break
    return failed


def _short(value: Any) -> str:
    return format(value, ".4g") if isinstance(value, float) else str(value)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--rounds", type=int, default=20, help="repetitions of what is timed")
    parser.add_argument("--minutes", type=float, default=10, help="begin no section after these")
    parser.add_argument("--only", nargs="+", metavar="SECTION", help="only these sections")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/gpu-check.jsonl")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error(f"--device: got {options.device}, but torch sees no CUDA device here")
    setting = Setting(device, options.tiny, options.rounds)
    known = sections(setting, sys.executable)
    wanted = options.only or [n for n in known if setting.on_gpu or n not in NEEDS_GPU]
    if unknown := set(wanted) - set(known):
        parser.error(f"--only: got {', '.join(sorted(unknown))}, there are {', '.join(known)}")
    rows = Rows(options.output)
    try:
        command = shlex.join(["python", "benchmarks/gpu_check.py", *(arguments or sys.argv[1:])])
        head = {"machine": machine(device), "commit": commit(), "command": command}
        rows.write("machine", {"unix_time": time.time(), **head})
        chosen = {name: known[name] for name in known if name in ("backend", *wanted)}
        failed = check(chosen, rows, options.minutes)
        rows.write("end", {"failed": failed})
    finally:
        rows.close()
    print(f"\n{'Failed: ' + ', '.join(failed) if failed else 'All well'}; {options.output}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
