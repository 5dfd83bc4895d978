"""``python -m fuzzing --cases 1000000``: attack everything, each target in processes of its own.

What was tried is kept in a folder outside of the tree, so that the next call goes on with new
cases, and findings are tried first. See ``--help``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from fuzzing import all_targets
from fuzzing.target import Target
from fuzzing.worker import SECONDS, work

BLOCK = 10_000


@dataclass
class Kept:
    """What is known of earlier calls: cases tried, outcomes and findings, by target."""

    path: Path
    tried: Counter[str] = field(default_factory=Counter)
    outcomes: dict[str, dict[str, int]] = field(default_factory=dict)
    findings: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def open(cls, folder: Path) -> Kept:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "fuzz.json"
        data = json.loads(path.read_text()) if path.exists() else {}
        return cls(
            path, Counter(data.get("tried", {})), data.get("outcomes", {}), data.get("findings", [])
        )

    def save(self) -> None:
        content = {"tried": self.tried, "outcomes": self.outcomes, "findings": self.findings}
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps(content, indent=1))
        temporary.replace(self.path)

    def count(self, target: str, outcomes: dict[str, int]) -> None:
        mine = self.outcomes.setdefault(target, {})
        for kind, number in outcomes.items():
            mine[kind] = mine.get(kind, 0) + number


def attack(target: Target, first: int, stop: int) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """Try cases in a process of its own, and after a crash in the next; outcomes and findings."""
    outcomes: Counter[str] = Counter()
    findings: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        status, trace = Path(folder, "status"), Path(folder, "trace")
        while first < stop:
            status.write_bytes(first.to_bytes(8, "little"))
            # A fork, since importing everything takes longer than thousands of cases.
            context = multiprocessing.get_context("fork")
            pipe, end = context.Pipe(duplex=False)
            process = context.Process(target=work, args=(target, first, stop, status, trace, end))
            process.start()
            end.close()
            sent = _watched(process, pipe, status)
            findings += [message for message in sent if "error" in message]
            if sent and "error" not in sent[-1]:
                outcomes.update(sent[-1])
                break
            case = int.from_bytes(status.read_bytes(), "little")
            outcomes.update({"crash": 1, "before a crash": case - first})
            findings.append(
                {
                    "target": target.name, "case": case, "at": "crash or hang",
                    "error": f"exit code {process.exitcode}", "trace": trace.read_text()[-4000:],
                }
            )  # fmt: skip
            first = case + 1
    return dict(outcomes), findings


def _watched(process: BaseProcess, pipe: Connection, status: Path) -> list[dict[str, Any]]:
    """What a worker sends; it is killed if it stays with one case for long."""
    sent: list[dict[str, Any]] = []
    last, since = b"", time.monotonic()
    while True:
        try:
            while not pipe.poll(5):
                now = status.read_bytes()
                if now != last:
                    last, since = now, time.monotonic()
                # One case may take SECONDS of the processor, which a busy machine stretches.
                elif time.monotonic() - since > 30 * SECONDS:
                    process.kill()
            sent.append(pipe.recv())
        except EOFError:
            process.join()
            return sent


def _kind(found: dict[str, Any]) -> tuple[str, str, str]:
    """Findings with the same kind have one cause, most likely."""
    return found["target"], found["error"].partition(":")[0], found["at"]


def main() -> int:
    """Attack; 1 if anything was found."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m fuzzing")
    parser.add_argument("--cases", type=int, default=1_000_000, help="in all, of all targets")
    parser.add_argument("--targets", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--case", type=int, help="this case of the one target, once")
    parser.add_argument(
        "--folder", type=Path, default=cache / "ems-fast" / "fuzz", help="where what was tried is"
    )
    arguments = parser.parse_args()
    chosen = [t for t in all_targets() if arguments.targets in (None, [t.name]) or
              t.name in (arguments.targets or ())]  # fmt: skip
    if arguments.case is not None:
        (target,) = chosen
        _, findings = attack(target, arguments.case, arguments.case + 1)
        for found in findings:
            print(found["error"], found["trace"], sep="\n")
        return bool(findings)
    kept = Kept.open(arguments.folder)
    again, kept.findings = kept.findings, []
    by_name = {target.name: target for target in chosen}
    for found in again:
        target = by_name.get(found["target"])
        if target is None:
            kept.findings.append(found)
        else:
            kept.findings += attack(target, found["case"], found["case"] + 1)[1]
    kept.save()
    shares = sum(t.share for t in chosen)
    left = {t.name: max(1, round(arguments.cases * t.share / shares)) for t in chosen}
    while left:
        for name in list(left):
            first, n = kept.tried[name], min(left[name], BLOCK)
            outcomes, findings = attack(by_name[name], first, first + n)
            known = {_kind(found) for found in kept.findings}
            fresh = [found for found in findings if _kind(found) not in known]
            kept.findings += fresh
            kept.tried[name] += n
            kept.count(name, outcomes)
            kept.save()
            print(f"{name}: {kept.tried[name]:,} tried, {outcomes}", flush=True)
            for found in fresh:
                print(f"  case {found['case']}: {found['error']} ({found['at']})", flush=True)
            left[name] -= n
            if left[name] <= 0:
                del left[name]
    print(f"{sum(kept.tried.values()):,} cases were tried; {len(kept.findings)} findings are in "
          f"{kept.path}")  # fmt: skip
    return bool(kept.findings)


if __name__ == "__main__":
    sys.exit(main())
